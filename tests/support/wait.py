"""Waiting for conditions, by polling."""

import time
from collections.abc import Callable
from typing import TypeVar

TIMEOUT_SECONDS = 60

Result = TypeVar("Result")


def wait_until(
    attempt: Callable[[], Result], failure: type[Exception] | tuple[type[Exception], ...] = AssertionError
) -> Result:
    """Call a function until it raises no exception of a type, for at most a minute; return its result."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return attempt()
        except failure:
            assert time.monotonic() < deadline
            time.sleep(0.01)
