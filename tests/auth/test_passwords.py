"""Password hashing: what is stored, and how many hashes run at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2.exceptions import InvalidHashError
from flask import Flask

from api.auth.authentication import passwords
from api.auth.passwords import Passwords
from api.web.problems import Problem
from tests.support.contract import ContractClient
from tests.support.databases import on_sqlite
from tests.support.problems import assert_problem


def test_only_argon2id_hashes_are_stored() -> None:
    hasher = Passwords(memory=8, time=1, queue=32)

    password_hash = hasher.hash("9 green horses")

    assert password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert hasher.verify(password_hash, "9 green horses")
    assert not hasher.verify(password_hash, "9 Green Horses")


def test_no_user_has_no_password() -> None:
    assert not Passwords(memory=8, time=1, queue=32).verify(None, "")


def test_a_hash_with_other_parameters_is_outdated() -> None:
    password_hash = Passwords(memory=8, time=1, queue=32).hash("9 green horses")

    assert not Passwords(memory=8, time=1, queue=32).is_outdated(password_hash)
    assert Passwords(memory=16, time=1, queue=32).is_outdated(password_hash)
    assert Passwords(memory=8, time=2, queue=32).is_outdated(password_hash)


def test_many_callers_wait_for_their_turn() -> None:
    hasher = Passwords(memory=8, time=1, queue=32)

    with ThreadPoolExecutor(8) as threads:
        hashes = list(threads.map(hasher.hash, ["9 green horses"] * 32))

    assert len(set(hashes)) == 32


@pytest.fixture
def full_queue(app: Flask) -> Iterator[None]:
    """As many callers waiting as may wait."""
    with app.app_context():
        queue = passwords()._queue
    waiting = 0
    while queue.acquire(blocking=False):
        waiting += 1
    yield
    queue.release(waiting)


@on_sqlite
def test_a_caller_who_finds_the_queue_full_is_told_to_retry(client: ContractClient, full_queue: None) -> None:
    response = client.post("/tokens", auth=("ann", "9 green horses"))

    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"]


def test_a_place_in_the_queue_is_free_again_after_an_error() -> None:
    hasher = Passwords(memory=8, time=1, queue=1)
    password_hash = hasher.hash("9 green horses")

    for _ in range(3):
        assert not hasher.verify(password_hash, "wrong password")
        with pytest.raises(InvalidHashError):
            hasher.verify("no hash", "9 green horses")

    with hasher._queue, pytest.raises(Problem):
        hasher.hash("9 green horses")
