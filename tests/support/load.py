"""A load during a test."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from benchmarks.load import Load, Request, load


@contextmanager
def loading(port: int, requests: Sequence[Request]) -> Iterator[Future[Load]]:
    """Send 200 requests a second during a block, and for a moment after it; return the outcome at its end."""
    ended = Event()

    def run() -> Load:
        outcome, is_last = Load(), False
        while not is_last:
            is_last = ended.is_set()
            part = load(port, requests, connections=16, seconds=0.2, rate=200)
            outcome.latencies += part.latencies
            outcome.names += part.names
            outcome.failures += part.failures
        return outcome

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run)
        try:
            yield running
        finally:
            ended.set()
