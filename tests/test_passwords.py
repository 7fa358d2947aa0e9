"""Passwords: what is kept of them, and how many are worked on at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2.exceptions import InvalidHashError
from flask import Flask

from api.auth import passwords
from api.passwords import HashingBusyError, Passwords
from tests.contract import ContractClient
from tests.problems import assert_problem


def test_only_argon2id_hashes_are_kept() -> None:
    kept = Passwords(memory=8, time=1, line=32)

    password_hash = kept.hash("9 green horses")

    assert password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert kept.verify(password_hash, "9 green horses")
    assert not kept.verify(password_hash, "9 Green Horses")


def test_nobody_has_no_password() -> None:
    kept = Passwords(memory=8, time=1, line=32)

    assert not kept.verify(None, "")


def test_a_hash_made_with_other_parameters_is_outdated() -> None:
    password_hash = Passwords(memory=8, time=1, line=32).hash("9 green horses")

    assert not Passwords(memory=8, time=1, line=32).is_outdated(password_hash)
    assert Passwords(memory=16, time=1, line=32).is_outdated(password_hash)
    assert Passwords(memory=8, time=2, line=32).is_outdated(password_hash)


def test_many_wait_for_their_turn() -> None:
    kept = Passwords(memory=8, time=1, line=32)

    with ThreadPoolExecutor(8) as threads:
        hashes = list(threads.map(kept.hash, ["9 green horses"] * 32))

    assert len(set(hashes)) == 32


@pytest.fixture
def full_line(app: Flask) -> Iterator[None]:
    """As many passwords in line as there may be."""
    with app.app_context():
        line = passwords()._line
    waiting = 0
    while line.acquire(blocking=False):
        waiting += 1
    yield
    line.release(waiting)


def test_who_finds_the_line_full_is_asked_to_come_back(client: ContractClient, full_line: None) -> None:
    response = client.post("/tokens", auth=("ann", "9 green horses"))

    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"]


def test_a_place_in_line_is_free_again_whatever_came_of_it() -> None:
    kept = Passwords(memory=8, time=1, line=1)
    password_hash = kept.hash("9 green horses")

    for _ in range(3):
        assert not kept.verify(password_hash, "wrong password")
        with pytest.raises(InvalidHashError):
            kept.verify("no hash", "9 green horses")

    with kept._line, pytest.raises(HashingBusyError):
        kept.hash("9 green horses")
