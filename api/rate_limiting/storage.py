"""A storage of the `limits` library that counts in this process."""

import math
import time
from dataclasses import dataclass
from threading import Lock

from limits.storage import SlidingWindowCounterSupport, Storage

PURGE_INTERVAL_SECONDS = 60


@dataclass(slots=True)
class Counter:
    """The counts of the current window and the previous one; without windows, the count of a key.

    The count of the current window has weight until the end of the next one, which is when it expires.
    """

    expires_at: float
    count: int = 0
    previous_count: int = 0


class MemoryStorage(Storage, SlidingWindowCounterSupport):
    """Stores one counter for each key.

    The library's `MemoryStorage` starts a timer thread that walks through all keys after nearly every
    request. This one purges expired counters once a minute; any other call takes constant time.
    """

    STORAGE_SCHEME = None
    base_exceptions = ()

    def __init__(self) -> None:
        super().__init__()
        self._counters: dict[str, Counter] = {}
        self._purge_at = 0.0
        self._lock = Lock()

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Add to the count of the current window, unless the weighted count would exceed the limit."""
        with self._lock:
            now = time.time()
            self._purge(now)
            counter = self._counters.get(key)
            if counter is None:
                counter = self._counters[key] = Counter(_expires_at(expiry, now))
            rest = _advance(counter, expiry, now)
            if math.floor(counter.previous_count * rest / expiry + counter.count) + amount > limit:
                return False
            counter.count += amount
            return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the previous and the current count, each followed by the seconds until it expires."""
        with self._lock:
            counter = self._counters.get(key)
            if counter is None:
                return 0, 0.0, 0, 0.0
            rest = _advance(counter, expiry, time.time())
            return counter.previous_count, rest, counter.count, rest + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002 -- of the interface.
        """Remove the counts of a key."""
        self.clear(key)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a count that expires `expiry` seconds after the first call."""
        with self._lock:
            now = time.time()
            self._purge(now)
            counter = self._counters.get(key)
            if counter is None or counter.expires_at <= now:
                counter = self._counters[key] = Counter(now + expiry)
            counter.count += amount
            return counter.count

    def get(self, key: str) -> int:
        """Return the count of a key."""
        counter = self._counters.get(key)
        return counter.count if counter and counter.expires_at > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """Return when the count of a key expires."""
        counter = self._counters.get(key)
        return counter.expires_at if counter else time.time()

    def clear(self, key: str) -> None:
        """Remove the count of a key."""
        with self._lock:
            self._counters.pop(key, None)

    def check(self) -> bool:
        """Return whether the storage is available: always."""
        return True

    def reset(self) -> None:
        """Remove all counts."""
        with self._lock:
            self._counters = {}

    def _purge(self, now: float) -> None:
        if now >= self._purge_at:
            self._purge_at = now + PURGE_INTERVAL_SECONDS
            self._counters = {key: each for key, each in self._counters.items() if each.expires_at > now}


def _expires_at(expiry: int, now: float) -> float:
    return (now // expiry + 2) * expiry


def _advance(counter: Counter, expiry: int, now: float) -> float:
    """Begin the next window if the current one is over; return the seconds until the current one is over."""
    if now >= counter.expires_at - expiry:
        # A refund after the end of a window may leave a negative count, which is not carried over.
        counter.previous_count = max(counter.count, 0) if now < counter.expires_at else 0
        counter.count = 0
        counter.expires_at = _expires_at(expiry, now)
    # If the clock was set back, the current window ends later than `expiry` seconds from now.
    return min(counter.expires_at - expiry - now, expiry)
