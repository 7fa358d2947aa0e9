"""How much was taken of quotas: counted here as the library does, and forgotten in time."""

import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import parse
from limits.storage import MemoryStorage

from api.quotas import KNOWN_SECONDS, SWEEP_SECONDS, Library, Memory, Policy, Quota, Store
from tests.races import at_once

POLICY = Policy("reads", parse("5/minute"))
ANN = Quota(POLICY, "ann")
NOW = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    """What time it is."""
    return Clock(monkeypatch)


class Clock:
    """A clock that is put to a moment, in seconds since 1970."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.put(NOW)

    def put(self, moment: float) -> None:
        """Let it be a moment."""
        self._monkeypatch.setattr(time, "time", lambda: moment)


@given(steps=st.lists(st.tuples(st.floats(0, 90), st.sampled_from([1, 1, 1, 2, -1])), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_are_those_of_the_library(clock: Clock, steps: list[tuple[float, int]]) -> None:
    ours, theirs = Memory(), Library(MemoryStorage())
    now = NOW
    may_give_back = 0
    for seconds, units in steps:
        if now % 60 + seconds >= 60:
            may_give_back = 0
        now += seconds
        clock.put(now)
        if may_give_back + units < 0:
            continue

        taken = [store.take(ANN, units) for store in (ours, theirs)]

        assert taken[0] is taken[1]
        may_give_back += units * taken[0]
        here, there = (store.left(ANN) for store in (ours, theirs))
        assert here[0] == there[0]
        assert abs(here[1] - there[1]) <= 1  # The library adds what it rounds to a moment.


@pytest.fixture(params=[Memory, lambda: Library(MemoryStorage())], ids=["memory", "library"])
def store(request: pytest.FixtureRequest) -> Store:
    """What counts."""
    made: Store = request.param()
    return made


class TestStore:
    def test_leaves_all_to_strangers(self, store: Store) -> None:
        assert store.left(Quota(POLICY, "nobody")) == (5, 0)

    def test_gives_back_all(self, store: Store) -> None:
        taken = store.take(ANN, 5)

        store.clear(ANN)

        assert taken
        assert store.left(ANN) == (5, 0)

    def test_counts_one_caller_apart_from_others(self, store: Store) -> None:
        store.take(Quota(POLICY, "bob"), 5)

        assert not store.take(Quota(POLICY, "bob"))
        assert store.take(ANN)

    def test_knows_a_name_from_the_last_time(self, store: Store, clock: Clock) -> None:
        store.remember("ann")
        clock.put(NOW + 60)
        store.remember("ann")

        known = []
        for seconds in (0, 60 + KNOWN_SECONDS - 1, 60 + KNOWN_SECONDS):
            clock.put(NOW + seconds)
            known.append(store.knows("ann"))

        assert known == [True, True, False]
        assert not store.knows("bob")

    def test_leaves_no_more_for_units_that_come_back_in_the_next_window(
        self, store: Store, clock: Clock
    ) -> None:
        store.take(ANN)
        clock.put(NOW + 60)
        store.take(ANN, -1)
        left_then = store.left(ANN)

        clock.put(NOW + 120)

        assert left_then == store.left(ANN) == (5, 0)


class TestMemory:
    def test_forgets_what_is_over_once_a_minute(self, clock: Clock) -> None:
        store = Memory()
        store.take(ANN)
        store.remember("ann")
        for moment, kept in [
            (NOW + SWEEP_SECONDS, {"ann", "bob"}),
            (NOW + 2 * SWEEP_SECONDS, {"bob"}),
        ]:
            clock.put(moment)
            store.take(Quota(POLICY, "bob"))
            assert {quota.key for quota in store._tallies} == kept
        assert store.knows("ann")

        clock.put(NOW + KNOWN_SECONDS)
        store.take(ANN)

        assert not store._known

    def test_counts_on_when_the_clock_is_put_back(self, clock: Clock) -> None:
        store = Memory()
        taken = []
        for moment in (NOW, NOW - 41, NOW):
            clock.put(moment)
            taken += [store.take(ANN) for _ in range(5)]

        assert taken == [True] * 5 + [False] * 10

    def test_forgets_one_quota_while_all_are_looked_through(self) -> None:
        store = Memory()
        many = Policy("many", parse("100/minute"))
        interval = sys.getswitchinterval()
        for number in range(20_000):
            store.take(Quota(POLICY, str(number)))

        def sweep() -> None:
            for _ in range(20):
                store._sweep_at = 0
                store.take(Quota(many, "ann"))

        def clear() -> None:
            for number in range(20_000):
                store.clear(Quota(POLICY, str(number)))

        sys.setswitchinterval(1e-5)
        try:
            at_once(sweep, clear)
        finally:
            sys.setswitchinterval(interval)

        assert store._tallies.keys() == {Quota(many, "ann")}
