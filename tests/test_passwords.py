"""Passwords: what is kept of them, and how many are worked on at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from api.auth import passwords
from api.passwords import HashingBusyError, Passwords
from tests.contract import ContractClient
from tests.problems import assert_problem


def test_only_argon2id_hashes_are_kept() -> None:
    kept = Passwords(memory=8, time=1)

    password_hash = kept.hash("9 green horses")

    assert password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert kept.verify(password_hash, "9 green horses")
    assert not kept.verify(password_hash, "9 Green Horses")


def test_nobody_has_no_password() -> None:
    kept = Passwords(memory=8, time=1)

    assert not kept.verify(None, "")


def test_a_hash_made_with_other_parameters_is_outdated() -> None:
    password_hash = Passwords(memory=8, time=1).hash("9 green horses")

    assert not Passwords(memory=8, time=1).is_outdated(password_hash)
    assert Passwords(memory=16, time=1).is_outdated(password_hash)
    assert Passwords(memory=8, time=2).is_outdated(password_hash)


def test_many_wait_for_their_turn() -> None:
    kept = Passwords(memory=8, time=1)

    with ThreadPoolExecutor(8) as threads:
        hashes = list(threads.map(kept.hash, ["9 green horses"] * 32))

    assert len(set(hashes)) == 32


@pytest.fixture
def endless_work(app: Flask) -> Iterator[None]:
    """Two passwords that are worked on, and never done."""
    with app.app_context():
        turns = passwords()._turns
    with turns, turns:
        yield


def test_who_waits_too_long_is_asked_to_come_back(client: ContractClient, endless_work: None) -> None:
    response = client.post("/tokens", auth=("ann", "9 green horses"))

    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"]


def test_waiting_too_long_has_an_error_of_its_own() -> None:
    kept = Passwords(memory=8, time=1)

    with kept._turns, kept._turns, pytest.raises(HashingBusyError):
        kept.hash("9 green horses")
