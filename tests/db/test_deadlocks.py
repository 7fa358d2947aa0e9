"""Deadlocks: rows are locked in a fixed order, and a request that is a deadlock victim is retried."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import Context
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, text
from werkzeug.test import TestResponse

from api.db import db
from tests.operations import Locks, Operation, lock_cases
from tests.support.concurrency import concurrently, leaving
from tests.support.contract import ContractClient
from tests.support.databases import on_postgresql
from tests.support.factories import Factory
from tests.support.problems import assert_problem
from tests.support.wait import wait_until
from tests.support.world import make_world

# The processes that block a process.
BLOCKING = text(
    "SELECT pg_blocking_pids(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)

# Raises the error of a transaction that was rolled back, a number of times. (A rollback does not reset the
# sequence.)
ROLLBACKS = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('attempts') <= {} THEN RAISE EXCEPTION 'victim' USING ERRCODE = '{}'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER deadlock BEFORE INSERT ON likes FOR EACH ROW EXECUTE FUNCTION deadlock();
"""


@pytest.mark.parametrize(
    "sqlstate", [pytest.param("40P01", id="deadlock"), pytest.param("40001", id="conflict on a standby")]
)
def test_a_request_is_retried_after_two_rollbacks(
    new_migrated_app: Callable[..., Flask], sqlstate: str
) -> None:
    app = new_migrated_app("postgresql")
    client, make = ContractClient(app), Factory(app)
    ann, post_id = make.user("ann"), make.post()
    with app.app_context():
        db.session.execute(text(ROLLBACKS.format(2, sqlstate)))
        db.session.commit()

    response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

    assert response.status_code == 204
    assert client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"] == 1


def test_a_request_is_unavailable_after_three_deadlocks(new_migrated_app: Callable[..., Flask]) -> None:
    app = new_migrated_app("postgresql")
    client, make = ContractClient(app), Factory(app)
    ann, post_id = make.user("ann"), make.post()
    with app.app_context():
        db.session.execute(text(ROLLBACKS.format(3, "40P01")))
        db.session.commit()

    response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"] == "2"
    assert client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"] == 0


@on_postgresql
@pytest.mark.parametrize(("operation", "locks"), lock_cases())
def test_rows_are_locked_in_a_fixed_order(
    app: Flask, make: Factory, operation: Operation, locks: Locks
) -> None:
    """Another transaction holds each row, and releases it as soon as the request waits for it."""
    world = make_world(make)
    names = locks.rows.split()
    request: dict[str, Any] = {"json": locks.body} if locks.body else {}

    def send() -> TestResponse:
        return operation.send(ContractClient(app), world, **request)

    with app.app_context(), ExitStack() as stack, ThreadPoolExecutor(1) as thread:
        observer, *holders = (stack.enter_context(db.engine.connect()) for _ in ["", *names])
        pids = [holder.scalar(select(func.pg_backend_pid())) for holder in holders]
        for holder, name in zip(holders, names, strict=True):
            holder.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            holder.execute(world.lock(name))
        response = thread.submit(Context().run, send)

        def waits_for(pid: int | None, name: str) -> None:
            observer.rollback()  # A transaction sees the same activity from its first statement to its end.
            blocking = observer.scalar(BLOCKING)
            assert blocking == [pid], f"{operation.name} does not wait for `{name}` of `{locks.rows}`."

        for holder, pid, name in zip(holders, pids, names, strict=True):
            wait_until(partial(waits_for, pid, name))
            holder.rollback()
        assert response.result().status_code < 300


def test_accounts_are_deleted_while_others_refer_to_them(app: Flask, make: Factory) -> None:
    accounts = [make.user() for _ in range(6)]
    post_ids = {account: make.post(account, f"Hello, {account.username}.") for account in accounts}
    for account in accounts:
        for other in accounts:
            make.like(account, post_ids[other])
            make.post(account, in_reply_to_id=post_ids[other], is_reply=True)
            if other != account:
                make.follow(account, other)

    def write(number: int) -> set[int]:
        client, signed_in = ContractClient(app), accounts[number].signed_in
        statuses = set()
        for other in accounts:
            body = {"body": f"@{other.username} #bye", "in_reply_to_id": post_ids[other]}
            statuses |= {
                client.delete(f"/me/likes/{post_ids[other]}", headers=signed_in).status_code,
                client.put(f"/me/likes/{post_ids[other]}", headers=signed_in).status_code,
                client.post("/posts", json=body, headers=signed_in).status_code,
                client.delete(f"/me/following/{other.username}", headers=signed_in).status_code,
                client.delete(f"/posts/{post_ids[other]}", headers=signed_in).status_code,
            }
        return statuses

    deleting = [leaving(app, account) for account in accounts[:2]]
    writing = [partial(write, number) for number in (2, 3, 4, 5)]
    deleted, *rest = concurrently(*deleting, *writing)

    assert deleted == {204}
    assert set().union(*rest) <= {201, 204, 403, 404, 409, 422}
    check = app.test_cli_runner().invoke(args=["counters", "check"])
    assert check.exit_code == 0, check.output
