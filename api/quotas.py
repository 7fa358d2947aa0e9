"""How much was taken of quotas lately: counted in this process or, for several, in Redis.

Windows slide: what was taken in the last one counts for the part of it that is not over yet. That needs two
numbers for each quota, whatever the limit; there is no burst where one window ends and the next begins; and a
unit can be given back.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple, Protocol, TypeVar

from flask import current_app
from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

KNOWN_SECONDS = 30 * 24 * 3600
SWEEP_SECONDS = 60
REDIS_TIMEOUT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 5

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Policy:
    """A limit and its name."""

    name: str
    limit: RateLimitItem

    @cached_property
    def seconds(self) -> int:
        """The length of its windows."""
        return self.limit.get_expiry()

    @cached_property
    def text(self) -> str:
        """It, as `RateLimit-Policy` has it."""
        return f'"{self.name}";q={self.limit.amount};w={self.seconds}'


class Quota(NamedTuple):
    """What a policy leaves to one caller."""

    policy: Policy
    key: str


class Store(Protocol):
    """Where that is counted."""

    def take(self, quota: Quota, units: int = 1) -> bool:
        """Take units, or give them back (-1); false if there are not as many left."""

    def left(self, quota: Quota) -> tuple[int, int]:
        """Return the units left, and for how many seconds there will be no more."""

    def clear(self, quota: Quota) -> None:
        """Give back all that was taken."""

    def remember(self, name: str) -> None:
        """Know a name from now on, for `KNOWN_SECONDS`."""

    def knows(self, name: str) -> bool:
        """Say whether a name is known."""


def store_at(url: str) -> Store:
    """Return what counts at a place: `memory://`, or the address of a Redis."""
    return Memory() if url == "memory://" else Redis(url)


@dataclass(slots=True)
class Tally:
    """What was taken in one window of so many seconds, numbered since 1970, and in the one before it."""

    seconds: int
    number: int = 0
    taken: int = 0
    taken_before: int = 0

    def count(self, now: float) -> int:
        """Return how many units count now. (Clocks that are put back change nothing.)"""
        number = int(now // self.seconds)
        if number > self.number:
            self.taken_before = self.taken if number == self.number + 1 else 0
            self.number, self.taken = number, 0
        return math.floor(self.taken_before * self._rest(now) / self.seconds + self.taken)

    def seconds_to_more(self, now: float) -> int:
        """Return when fewer units will count, after `count`."""
        rest = self._rest(now)
        # What was taken in one window may be given back in the next: a number may be less than none.
        times = [rest % (self.seconds / self.taken_before)] if self.taken_before > 0 else []
        if self.taken > 0:
            times.append(rest % self.seconds)
        return math.ceil(min(times, default=0))

    def is_over(self, now: float) -> bool:
        """Say whether it counts no longer."""
        return now // self.seconds > self.number + 1

    def _rest(self, now: float) -> float:
        """Return for how many seconds more the window before counts: that is how long this one lasts."""
        return (1 - now / self.seconds % 1) * self.seconds


class Memory(Store):
    """Counts in this process."""

    def __init__(self) -> None:
        self._tallies: dict[Quota, Tally] = {}
        self._known: dict[str, float] = {}
        self._sweep_at = 0.0
        self._lock = Lock()

    def take(self, quota: Quota, units: int = 1) -> bool:
        with self._lock:
            now = time.time()
            if now >= self._sweep_at:
                self._sweep(now)
            tally = self._tallies.get(quota)
            if tally is None:
                tally = self._tallies[quota] = Tally(quota.policy.seconds)
            if tally.count(now) + units > quota.policy.limit.amount:
                return False
            tally.taken += units
            return True

    def left(self, quota: Quota) -> tuple[int, int]:
        amount = quota.policy.limit.amount
        with self._lock:
            tally = self._tallies.get(quota)
            if tally is None:
                return amount, 0
            now = time.time()
            return min(max(amount - tally.count(now), 0), amount), tally.seconds_to_more(now)

    def clear(self, quota: Quota) -> None:
        with self._lock:
            self._tallies.pop(quota, None)

    def remember(self, name: str) -> None:
        with self._lock:
            self._known[name] = time.time() + KNOWN_SECONDS

    def knows(self, name: str) -> bool:
        return self._known.get(name, 0) > time.time()

    def _sweep(self, now: float) -> None:
        """Forget what counts no longer: once a minute, since all is looked through."""
        self._sweep_at = now + SWEEP_SECONDS
        self._tallies = {each: tally for each, tally in self._tallies.items() if not tally.is_over(now)}
        self._known = {name: end for name, end in self._known.items() if end > now}


class Library(Store):
    """Counts in a storage of the library `limits`."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self._windows = SlidingWindowCounterRateLimiter(storage)

    def take(self, quota: Quota, units: int = 1) -> bool:
        return self._windows.hit(quota.policy.limit, quota.policy.name, quota.key, cost=units)

    def left(self, quota: Quota) -> tuple[int, int]:
        limit = quota.policy.limit
        stats = self._windows.get_window_stats(limit, quota.policy.name, quota.key)
        return min(stats.remaining, limit.amount), max(math.ceil(stats.reset_time - time.time()), 0)

    def clear(self, quota: Quota) -> None:
        self._windows.clear(quota.policy.limit, quota.policy.name, quota.key)

    def remember(self, name: str) -> None:
        key = f"known {name}"
        self.storage.clear(key)  # A key that is there keeps the expiry that it was made with.
        self.storage.incr(key, KNOWN_SECONDS)

    def knows(self, name: str) -> bool:
        return bool(self.storage.get(f"known {name}"))


class Redis(Store):
    """Counts in Redis or, while that cannot be reached, in this process."""

    def __init__(self, url: str) -> None:
        options: Any = {
            "socket_timeout": REDIS_TIMEOUT_SECONDS,
            "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
            # A connection that broke is made anew at once; one that hangs is not waited for twice. The
            # library's own way is to try for seconds.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        }
        self.shared = Library(storage_from_string(url, wrap_exceptions=True, **options))
        self._own = Memory()
        self._lock = Lock()
        self._is_away = False
        self._pause_ends = 0.0

    def take(self, quota: Quota, units: int = 1) -> bool:
        return self._ask(lambda store: store.take(quota, units))

    def left(self, quota: Quota) -> tuple[int, int]:
        return self._ask(lambda store: store.left(quota))

    def clear(self, quota: Quota) -> None:
        self._ask(lambda store: store.clear(quota))

    def remember(self, name: str) -> None:
        self._ask(lambda store: store.remember(name))

    def knows(self, name: str) -> bool:
        return self._ask(lambda store: store.knows(name))

    def _ask(self, question: Callable[[Store], Answer]) -> Answer:
        if time.monotonic() >= self._pause_ends:
            try:
                answer = question(self.shared)
            except StorageError as error:
                self._do_without(error)
            else:
                self._is_away = False
                return answer
        return question(self._own)

    def _do_without(self, error: StorageError) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
            self._pause_ends = time.monotonic() + REDIS_PAUSE_SECONDS
        if not was_away:
            current_app.logger.warning("Redis is away; each process counts requests by itself: %r", error)
