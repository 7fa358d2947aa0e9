"""Requests that meet: several at once, or one in the middle of another."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from threading import Barrier
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import event

from api.database import db

Result = TypeVar("Result")

# When a session's next transaction is about to begin, has begun, has ended; and, within it, when it is about
# to be committed.
TRANSACTION_BEGINNING = "begin"
TRANSACTION_BEGUN = "after_begin"
TRANSACTION_ENDED = "after_transaction_end"
COMMITTING = "commit"
# When a connection has been given back, also of statements in no transaction, as that which checks a token.
CONNECTION_RETURNED = "checkin"


def at_once(*calls: Callable[[], Result]) -> list[Result]:
    """Make calls in threads that start together; return what they gave, in the order of the calls."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Result]) -> Result:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


@contextmanager
def meanwhile(app: Flask, action: Callable[[], object], when: str = TRANSACTION_ENDED) -> Iterator[None]:
    """Do something once in the middle of the request that follows, as another request of its own."""
    pending = [action]

    def act(*of_the_event: Any) -> None:
        is_within_another = when == TRANSACTION_ENDED and of_the_event[1].parent
        if pending and not is_within_another:
            Context().run(pending.pop())

    with app.app_context():
        target = db.session.session_factory if when in {TRANSACTION_BEGUN, TRANSACTION_ENDED} else db.engine
    event.listen(target, when, act, insert=when == TRANSACTION_BEGINNING)  # Before what begins it.
    try:
        yield
    finally:
        event.remove(target, when, act)
    assert not pending, "The moment never came."
