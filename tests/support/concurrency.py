"""Concurrent requests: several together, or one during another."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from http import HTTPStatus
from threading import Barrier
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import event

from api.db import db
from tests.support.contract import ContractClient
from tests.support.factories import PASSWORD, Account

Result = TypeVar("Result")

# Events of SQLAlchemy for `during_request`: before and after the beginning of a transaction, after its end,
# and at its commit.
TRANSACTION_BEGINNING = "begin"
TRANSACTION_BEGUN = "after_begin"
TRANSACTION_ENDED = "after_transaction_end"
COMMITTING = "commit"
# The session executes a statement: if it is the first one, before the transaction begins.
EXECUTING = "do_orm_execute"
# A connection returns to the pool. This also happens after a statement in autocommit, such as the token
# check.
CONNECTION_RETURNED = "checkin"
SESSION_EVENTS = {TRANSACTION_BEGUN, TRANSACTION_ENDED, EXECUTING}


def concurrently(*calls: Callable[[], Result]) -> list[Result]:
    """Call functions in threads that start together; return their results in the order of the functions."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Result]) -> Result:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def leaving(app: Flask, member: Account) -> Callable[[], set[int]]:
    """Return a function that deletes an account with a separate client, and returns the status.

    It sends the request three times at most: what others write meanwhile may cause a deadlock in each attempt
    of the service, which is then unavailable (docs/decisions/0010-counters-maintained-by-triggers.md).
    """
    request = {"json": {"password": PASSWORD}, "headers": member.signed_in}

    def leave() -> set[int]:
        statuses = (ContractClient(app).delete("/me", **request).status_code for _ in range(3))
        return {next(status for status in statuses if status != HTTPStatus.SERVICE_UNAVAILABLE)}

    return leave


@contextmanager
def during_request(app: Flask, action: Callable[[], object], when: str = TRANSACTION_ENDED) -> Iterator[None]:
    """Call a function once, at an event during the next request, outside the context of that request."""
    pending = [action]

    def act(*arguments: Any) -> None:
        is_within_another = when == TRANSACTION_ENDED and arguments[1].parent
        if pending and not is_within_another:
            Context().run(pending.pop())

    with app.app_context():
        target = db.session.session_factory if when in SESSION_EVENTS else db.engine
    event.listen(target, when, act, insert=when == TRANSACTION_BEGINNING)  # Before BEGIN is sent.
    try:
        yield
    finally:
        event.remove(target, when, act)
    assert not pending, f"no event `{when}`"
