"""Counts requests with the sliding windows of the `limits` library: in this process, or in Redis."""

import math
import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from flask import current_app
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.rate_limiting.policies import Policy
from api.rate_limiting.storage import MemoryStorage

KNOWN_ADDRESS_SECONDS = 30 * 24 * 3600
REDIS_TIMEOUT_SECONDS = 0.5
REDIS_RETRY_SECONDS = 3

Result = TypeVar("Result")


class Limiter:
    """Charges units to a policy, by a key that identifies the caller.

    The units of the current window count in full, those of the previous window in proportion to its
    overlap with the last window's length of time. This prevents bursts at the end of a window.
    With a Redis URL, all processes share their counts in Redis, under keys that begin with `prefix`. While
    Redis is unreachable, each process counts by itself.
    """

    def __init__(self, storage_url: str, prefix: str) -> None:
        self._memory = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._redis = None if storage_url == "memory://" else _redis_strategy(storage_url, prefix)
        self._redis_retry_at = 0.0
        self._is_redis_unreachable = False
        self._lock = Lock()

    def charge(self, policy: Policy, key: str) -> bool:
        """Charge a unit; return False, and charge nothing, if none is left."""
        return self._call(lambda strategy: strategy.hit(policy, key))

    def refund(self, policy: Policy, key: str) -> None:
        """Refund a unit."""
        self._call(lambda strategy: strategy.hit(policy, key, cost=-1))

    def reset(self, policy: Policy, key: str) -> None:
        """Refund all units."""
        self._call(lambda strategy: strategy.clear(policy, key))

    def window(self, policy: Policy, key: str) -> tuple[int, int]:
        """Return the units left, and the seconds until there are more."""
        stats = self._call(lambda strategy: strategy.get_window_stats(policy, key))
        # A refund after the end of its window makes a count negative.
        return min(stats.remaining, policy.amount), max(math.ceil(stats.reset_time - time.time()), 0)

    def remember(self, key: str) -> None:
        """Make a key known for `KNOWN_ADDRESS_SECONDS` from now on."""
        # `incr` does not extend the expiry of a key that exists.
        self._call(lambda strategy: strategy.storage.clear(f"known {key}"))
        self._call(lambda strategy: strategy.storage.incr(f"known {key}", KNOWN_ADDRESS_SECONDS))

    def is_known(self, key: str) -> bool:
        """Return whether a key is known."""
        return self._call(lambda strategy: strategy.storage.get(f"known {key}")) > 0

    def ensure_reachable(self) -> bool:
        """Return whether counts are shared in Redis. Raises StorageError if Redis refuses to count."""
        if self._redis:
            self._redis.storage.incr("check", 1)
        return self._redis is not None

    def _call(self, operation: Callable[[SlidingWindowCounterRateLimiter], Result]) -> Result:
        """Run an operation in Redis or, while Redis is unreachable or not configured, in memory."""
        if self._redis and time.monotonic() >= self._redis_retry_at:
            try:
                result = operation(self._redis)
            except StorageError as error:
                self._suspend_redis(error)
            else:
                self._is_redis_unreachable = False
                return result
        return operation(self._memory)

    def _suspend_redis(self, error: StorageError) -> None:
        with self._lock:
            was_unreachable, self._is_redis_unreachable = self._is_redis_unreachable, True
            self._redis_retry_at = time.monotonic() + REDIS_RETRY_SECONDS
        if not was_unreachable:
            current_app.logger.warning("Redis is unreachable; each process counts by itself: %r", error)


def _redis_strategy(url: str, prefix: str) -> SlidingWindowCounterRateLimiter:
    from redis.backoff import NoBackoff  # The import takes a tenth of the start of the service.
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.retry import Retry

    options: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        # Reconnect once if the connection broke, and do not retry after a timeout. By default the client
        # retries for seconds.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }
    storage = RedisStorage(url, key_prefix=prefix, wrap_exceptions=True, **options)
    return SlidingWindowCounterRateLimiter(storage)
