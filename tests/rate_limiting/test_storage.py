"""The storage: it counts like the library's own, and purges expired keys."""

import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import storage as library
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from api.rate_limiting.policies import Policy
from api.rate_limiting.storage import PURGE_INTERVAL_SECONDS, MemoryStorage
from tests.support.concurrency import concurrently

POLICY = Policy("reads", "5/minute")
LENGTH = 60
NOW = 1_800_000_000.0  # The beginning of a minute.


class Clock:
    """Sets `time.time`, in seconds since 1970."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.set(NOW)

    def set(self, now: float) -> None:
        """Set the clock to a time."""
        self._monkeypatch.setattr(time, "time", lambda: now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that is stopped at `NOW`."""
    return Clock(monkeypatch)


def hit(storage: MemoryStorage, key: str, amount: int = 1) -> bool:
    """Charge a key under the policy."""
    return storage.acquire_sliding_window_entry(key, POLICY.amount, LENGTH, amount)


@given(steps=st.lists(st.tuples(st.floats(0, 90), st.sampled_from([1, 1, 1, 2, -1])), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_sliding_windows_equal_those_of_the_library(clock: Clock, steps: list[tuple[float, int]]) -> None:
    clock.set(NOW)
    storages = MemoryStorage(), library.MemoryStorage()
    ours, theirs = (SlidingWindowCounterRateLimiter(storage) for storage in storages)
    now = NOW
    refundable = 0
    for seconds, units in steps:
        if now % LENGTH + seconds >= LENGTH:
            refundable = 0
        now += seconds
        clock.set(now)
        if refundable + units < 0:
            continue  # Counts below zero differ: see the test of late refunds.

        is_charged = [strategy.hit(POLICY, "ann", cost=units) for strategy in (ours, theirs)]

        assert is_charged[0] is is_charged[1]
        refundable += units * is_charged[0]
        our_stats, their_stats = (strategy.get_window_stats(POLICY, "ann") for strategy in (ours, theirs))
        assert our_stats.remaining == their_stats.remaining
        assert our_stats.reset_time == pytest.approx(their_stats.reset_time, abs=1e-3)


def test_fixed_windows_equal_those_of_the_library(clock: Clock) -> None:
    charges: list[list[bool]] = []
    for storage in (MemoryStorage(), library.MemoryStorage()):
        strategy = FixedWindowRateLimiter(storage)
        charges.append([])
        for seconds in (0, 30, LENGTH - 1, LENGTH, LENGTH + 1):
            clock.set(NOW + seconds)
            charges[-1] += [strategy.hit(POLICY, "ann") for _ in range(2)]
            stats = strategy.get_window_stats(POLICY, "ann")
            assert stats.reset_time == NOW + (LENGTH if seconds < LENGTH else 2 * LENGTH)

    assert charges[0] == charges[1] == [True] * 5 + [False] + [True] * 4


def test_a_key_without_hits_has_no_counts(clock: Clock) -> None:
    storage = MemoryStorage()

    assert storage.get_sliding_window("ann", LENGTH) == (0, 0, 0, 0)
    assert storage.get("ann") == 0
    assert storage.get_expiry("ann") == NOW
    assert storage.check()


def test_a_refund_after_the_end_of_the_window_is_not_carried_over_to_the_next_one(clock: Clock) -> None:
    storage = MemoryStorage()
    hit(storage, "ann")
    clock.set(NOW + LENGTH)
    hit(storage, "ann", -1)
    late = storage.get_sliding_window("ann", LENGTH)

    clock.set(NOW + 2 * LENGTH)
    hits = [hit(storage, "ann") for _ in range(6)]

    assert (late[0], late[2]) == (1, -1)
    assert hits == [True] * 5 + [False]


def test_counts_continue_when_the_clock_is_set_back(clock: Clock) -> None:
    storage = MemoryStorage()
    hits = []
    for now in (NOW, NOW - 41, NOW):
        clock.set(now)
        hits += [hit(storage, "ann") for _ in range(5)]

    assert hits == [True] * 5 + [False] * 10


def test_expired_keys_are_purged_once_a_minute(clock: Clock) -> None:
    storage = MemoryStorage()
    hit(storage, "ann")
    storage.incr("known ann", 10 * LENGTH)
    for minutes, keys in [(1, {"ann", "bob", "known ann"}), (2, {"bob", "known ann"})]:
        clock.set(NOW + minutes * PURGE_INTERVAL_SECONDS)
        hit(storage, "bob")
        assert storage._counters.keys() == keys

    clock.set(NOW + 10 * LENGTH - 1)
    hit(storage, "ann")
    assert storage.get("known ann") == 1
    clock.set(NOW + 10 * LENGTH)
    assert storage.get("known ann") == 0
    hit(storage, "ann")
    assert "known ann" in storage._counters  # The last purge is less than a minute ago.
    clock.set(NOW + 11 * LENGTH)
    hit(storage, "ann")
    assert storage._counters.keys() == {"ann"}


def test_reset_removes_all_keys() -> None:
    storage = MemoryStorage()
    hit(storage, "ann", 5)
    storage.incr("bob", LENGTH)

    storage.reset()

    assert hit(storage, "ann", 5)
    assert storage.get("bob") == 0


def test_keys_can_be_cleared_during_a_purge() -> None:
    storage = MemoryStorage()
    interval = sys.getswitchinterval()
    for number in range(20_000):
        hit(storage, str(number))

    def purge() -> None:
        for _ in range(20):
            storage._purge_at = 0
            storage.acquire_sliding_window_entry("ann", 100, LENGTH)

    def clear() -> None:
        for number in range(20_000):
            storage.clear_sliding_window(str(number), LENGTH)

    sys.setswitchinterval(1e-5)
    try:
        concurrently(purge, clear)
    finally:
        sys.setswitchinterval(interval)

    assert storage._counters.keys() == {"ann"}


def test_concurrent_threads_do_not_exceed_a_limit() -> None:
    storage = MemoryStorage()
    interval = sys.getswitchinterval()

    def hits() -> int:
        return sum(storage.acquire_sliding_window_entry("ann", 1000, 10**9) for _ in range(1000))

    sys.setswitchinterval(1e-5)
    try:
        totals = concurrently(*[hits] * 4)
    finally:
        sys.setswitchinterval(interval)

    assert sum(totals) == 1000
