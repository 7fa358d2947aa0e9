"""Waiting for what is to come, however slow the machine."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 60

Result = TypeVar("Result")


def patiently(
    attempt: Callable[[], Result], failure: type[Exception] | tuple[type[Exception], ...] = AssertionError
) -> Result:
    """Try until something succeeds, and return what it gives; for a minute it may fail with an exception."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return attempt()
        except failure:
            assert time.monotonic() < deadline
            time.sleep(0.01)
