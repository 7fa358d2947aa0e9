"""PgBouncer between the service and PostgreSQL, with fewer sessions than connections."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg
import pytest
from flask import Flask
from sqlalchemy import make_url, select, text

from api.db import db
from api.db.driver import DriverStatement
from tests.support.concurrency import concurrently
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.pgbouncer import needs_pgbouncer, running_pgbouncer
from tests.support.problems import assert_problem
from tests.support.processes import ModuleProcess

pytestmark = needs_pgbouncer

SETTINGS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "random_page_cost")
VALUES = select(*(text(f"current_setting('{name}')") for name in SETTINGS))
EXPECTED = ("5s", "10s", "10s", "1")


@pytest.fixture
def database_url(new_migrated_database_url: Any) -> str:
    """The URL of a database with all tables, which leads to the server."""
    return str(new_migrated_database_url("postgresql"))


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The URL of the same database that leads to a pooler in transaction mode."""
    with running_pgbouncer(tmp_path, database_url, "transaction") as url:
        yield url


@pytest.fixture
def pooled_app(pooled_url: str, new_app: Callable[..., Flask]) -> Flask:
    """The application behind the pooler."""
    return new_app(pooled_url)


def use_concurrently(app: Flask, count: int) -> set[int]:
    """Have several users publish and read at once; return the status codes."""
    client, make = ContractClient(app), Factory(app)
    accounts = [make.user() for _ in range(count)]
    # One after the other, because only two passwords are hashed at once.
    sessions = [client.post("/tokens", auth=(each.username, each.password)) for each in accounts]
    statuses = concurrently(*(partial(use, app, account) for account in accounts))
    return {session.status_code for session in sessions}.union(*statuses)


def use(app: Flask, account: Account) -> set[int]:
    """Publish, edit and read, several times; return the status codes."""
    client, signed_in, statuses = ContractClient(app), account.signed_in, set[int]()
    for _ in range(8):  # psycopg prepares a statement when it is executed for the sixth time.
        post = client.post("/posts", json={"body": "Hello, #world."}, headers=signed_in)
        path = f"/posts/{post.json['id']}"
        statuses |= {
            post.status_code,
            client.patch(path, json={"body": "Hello."}, headers=signed_in).status_code,
            *(
                client.get(each, headers=signed_in).status_code
                for each in ("/posts?q=hel*", "/users?q=user", "/feed", "/tokens", "/me", path)
            ),
        }
    return statuses


def test_all_requests_succeed_in_transaction_mode(pooled_app: Flask) -> None:
    assert use_concurrently(pooled_app, 6) == {200, 201}


def test_all_requests_succeed_in_session_mode(
    new_database_url: Any, tmp_path: Path, new_app: Callable[..., Flask]
) -> None:
    with running_pgbouncer(tmp_path, new_database_url("postgresql"), "session", size=8) as url:
        app = new_app(url, THREADS=4)
        with app.app_context():
            flask_migrate.upgrade()
        statuses = use_concurrently(app, 4)

    assert statuses == {200, 201}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_transaction_has_the_settings_of_the_service(pooled_app: Flask, method: str) -> None:
    @pooled_app.route("/view", methods=[method])
    def view() -> Any:
        by_driver = DriverStatement(VALUES).rows({})
        by_session = db.session.execute(VALUES).all()
        in_transaction = DriverStatement(VALUES).rows({})
        return [tuple(row) for row in (*by_driver, *by_session, *in_transaction)]

    send = partial(pooled_app.test_client().open, "/view", method=method)
    responses = concurrently(send, send, send, send)

    assert [response.json for response in responses] == 4 * [3 * [list(EXPECTED)]]


def test_the_sessions_of_the_pooler_keep_no_settings(pooled_app: Flask, pooled_url: str) -> None:
    ann = Factory(pooled_app).user("ann")
    client = ContractClient(pooled_app)
    client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)
    client.get("/me", headers=ann.signed_in)

    conninfo = make_url(pooled_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo) as first, psycopg.connect(conninfo) as second:
        values = {connection.execute(str(VALUES)).fetchone() for connection in (first, second)}

    assert values == {("0", "0", "0", "4")}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_waits_for_a_lock_is_unavailable(
    pooled_app: Flask,
    pooled_url: str,
    database_url: str,
    new_app: Callable[..., Flask],
    method: str,
) -> None:
    ann = Factory(pooled_app).user("ann")
    client, other = ContractClient(new_app(pooled_url, DATABASE_TIMEOUT_SECONDS=1)), new_app(database_url)
    json = {"body": "Hello."} if method == "POST" else None

    with other.app_context(), db.engine.begin() as connection:
        connection.execute(text("LOCK TABLE posts"))
        response = client.open("/posts", method=method, json=json, headers=ann.signed_in)
    again = client.open("/posts", method=method, json=json, headers=ann.signed_in)

    assert_problem(response, 503, "unavailable")
    assert again.status_code in {200, 201}


def test_processes_that_upgrade_at_once_all_succeed(
    new_database_url: Any, tmp_path: Path, start_module: Callable[..., ModuleProcess]
) -> None:
    with running_pgbouncer(tmp_path, new_database_url("postgresql"), "transaction") as url:
        processes = [start_module("flask", "db", "upgrade", DATABASE_URL=url) for _ in "12"]

        assert [process.end() for process in processes] == [0, 0]
