"""The limiter, on both back ends."""

import time

import pytest

from api.rate_limiting import limiter as limiter_module
from api.rate_limiting.limiter import KNOWN_ADDRESS_SECONDS, Limiter
from api.rate_limiting.policies import Policy

POLICY = Policy("reads", "5/year")


@pytest.fixture
def limiter(storage_url: str) -> Limiter:
    """A limiter on a back end."""
    return Limiter(storage_url, "test")


def test_a_caller_who_was_not_charged_has_all_units(limiter: Limiter) -> None:
    assert limiter.window(POLICY, "ann") == (5, 0)


def test_a_charge_fails_if_no_unit_is_left(limiter: Limiter) -> None:
    charges = [limiter.charge(POLICY, "ann") for _ in range(6)]

    assert charges == [True] * 5 + [False]
    remaining, seconds = limiter.window(POLICY, "ann")
    assert remaining == 0
    assert 0 <= seconds <= POLICY.get_expiry()


def test_callers_are_counted_separately(limiter: Limiter) -> None:
    for _ in range(5):
        limiter.charge(POLICY, "bob")

    assert not limiter.charge(POLICY, "bob")
    assert limiter.charge(POLICY, "ann")


def test_policies_are_counted_separately(limiter: Limiter) -> None:
    for _ in range(5):
        limiter.charge(Policy("writes", "5/year"), "ann")

    assert limiter.charge(POLICY, "ann")


def test_a_refund_reverts_one_charge(limiter: Limiter) -> None:
    for _ in range(5):
        limiter.charge(POLICY, "ann")

    limiter.refund(POLICY, "ann")

    assert [limiter.charge(POLICY, "ann") for _ in range(2)] == [True, False]


def test_an_excess_refund_leaves_no_more_than_the_limit_and_no_negative_time(limiter: Limiter) -> None:
    limiter.refund(POLICY, "ann")

    remaining, seconds = limiter.window(POLICY, "ann")

    assert remaining == 5
    assert seconds >= 0


def test_a_reset_reverts_all_charges(limiter: Limiter) -> None:
    for _ in range(5):
        limiter.charge(POLICY, "ann")

    limiter.reset(POLICY, "ann")

    assert limiter.window(POLICY, "ann") == (5, 0)


def test_a_late_refund_leaves_no_more_than_the_limit_and_no_negative_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = Limiter("memory://", "test")
    length = POLICY.get_expiry()
    windows = []
    for number, act in enumerate([limiter.charge, limiter.refund, limiter.window]):
        monkeypatch.setattr(time, "time", lambda now=float(number * length): now)
        act(POLICY, "ann")
        windows.append(limiter.window(POLICY, "ann"))

    assert windows[1:] == [(5, 0), (5, 0)]


def test_a_key_is_known_for_thirty_days_from_the_last_time(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(limiter_module, "KNOWN_ADDRESS_SECONDS", 60)
        limiter.remember("ann")

    limiter.remember("ann")

    strategy = limiter._redis or limiter._memory
    assert strategy.storage.get_expiry("known ann") - time.time() == pytest.approx(
        KNOWN_ADDRESS_SECONDS, abs=60
    )
    assert limiter.is_known("ann")
    assert not limiter.is_known("bob")
