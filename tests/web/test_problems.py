"""Internal failures and unknown URLs: each response is a problem document."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from flask import Flask, abort
from sqlalchemy import text, update
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.test import EnvironBuilder, run_wsgi_app

from api.db import db
from api.models import Post, User
from api.web.wrappers import ApiResponse
from tests.conftest import DATABASES
from tests.operations import Operation, cases
from tests.support.concurrency import COMMITTING, TRANSACTION_BEGINNING, TRANSACTION_BEGUN, during_request
from tests.support.contract import CONTRACT, PREFIX, ContractClient, example_path, operations
from tests.support.databases import no_sql, on_sqlite
from tests.support.factories import Account, Factory
from tests.support.problems import assert_problem
from tests.support.world import make_world

NewApp = Callable[..., Flask]

ZOE = {"username": "zoe", "email": "zoe@example.com", "password": "7 blue bicycles"}


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


@pytest.fixture
def url(app: Flask) -> str:
    """The URL of the database."""
    return str(app.config["DATABASE_URL"])


@pytest.fixture
def post_to(new_app: NewApp, url: str) -> Callable[[Callable[[], Any]], Any]:
    """A function that sends POST to a view, in a separate application, and returns the response."""

    def post(view: Callable[[], Any]) -> Any:
        app = new_app(url)
        app.add_url_rule(f"{PREFIX}/view", "view", view, methods=["POST"])
        return app.test_client().post(f"{PREFIX}/view")

    return post


class TestDatabase:
    @pytest.mark.parametrize(
        "address",
        [
            pytest.param("sqlite:///{folder}", id="no file"),
            pytest.param("postgresql://postgres@/nowhere?host={socket}", id="no database"),
            pytest.param("postgresql://postgres@/postgres?host={folder}", id="no server"),
            pytest.param("postgresql://postgres@127.0.0.1:1/postgres", id="no port"),
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path", "json"),
        [("GET", "/posts", None), ("GET", "/users/zoe", None), ("POST", "/users", ZOE)],
    )
    def test_that_cannot_be_reached_is_unavailable(
        self,
        new_app: NewApp,
        tmp_path: Path,
        postgres: Any,
        address: str,
        method: str,
        path: str,
        json: Any,
    ) -> None:
        app = new_app(address.format(folder=tmp_path, socket=postgres.pgdata), DATABASE_TIMEOUT_SECONDS=1)

        response = ContractClient(app).open(path, method=method, json=json)

        assert_problem(response, 503, "unavailable")
        assert int(response.headers["Retry-After"]) > 0

    @pytest.mark.parametrize("kind", DATABASES)
    @pytest.mark.parametrize(
        ("method", "path", "json"),
        [("GET", "/posts", None), ("GET", "/users/zoe", None), ("POST", "/users", ZOE)],
    )
    def test_without_tables_is_an_internal_error_with_a_traceback_in_the_log(
        self,
        new_app: NewApp,
        new_database_url: Any,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
        kind: str,
        method: str,
        path: str,
        json: Any,
    ) -> None:
        client = ContractClient(new_app(new_database_url(kind)))

        response = client.open(path, method=method, json=json)

        assert_problem(response, 500, "internal_error")
        assert "Retry-After" not in response.headers
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        line = orjson.loads(capsys.readouterr().out.splitlines()[0])
        assert line["request_id"] == response.json["request_id"]
        assert record.exc_info
        assert "Traceback" in caplog.text

    def test_without_a_column_is_an_internal_error(self, new_migrated_app: NewApp) -> None:
        app = new_migrated_app("sqlite")
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(text("ALTER TABLE users DROP COLUMN about"))

        response = ContractClient(app).get("/users")

        assert_problem(response, 500, "internal_error")

    def test_that_cannot_be_reached_is_not_ready_but_the_process_is_alive(
        self, new_app: NewApp, tmp_path: Path
    ) -> None:
        client = new_app(f"sqlite:///{tmp_path}").test_client()

        ready, live = client.get("/readyz"), client.get("/livez")

        assert_problem(ready, 503, "unavailable")
        assert live.status_code == 200

    @pytest.mark.slow
    def test_that_another_transaction_locks_is_unavailable_until_it_ends(
        self, app: Flask, new_app: NewApp, url: str, ann: Account
    ) -> None:
        client = ContractClient(new_app(url, DATABASE_TIMEOUT_SECONDS=1))

        with app.app_context(), db.engine.begin() as other:
            other.execute(update(User).values(about="Meanwhile."))
            written = client.patch("/me", json={"about": "Me."}, headers=ann.signed_in)
            read = client.get("/users/ann")
        again = client.patch("/me", json={"about": "Me."}, headers=ann.signed_in)

        assert_problem(written, 503, "unavailable")
        assert int(written.headers["Retry-After"]) > 0
        assert read.json["about"] == ""
        assert again.status_code == 200

    def test_that_another_process_writes_to_delays_a_request(
        self, new_migrated_app: NewApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = new_migrated_app("sqlite")
        with app.app_context():
            file = db.engine.url.database or ""
        ann = Factory(app).user("ann")

        with closing(sqlite3.connect(file)) as other:
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr("api.db.sqlite_write_lock.sleep", lambda _: other.rollback())
            response = ContractClient(app).patch("/me", json={"about": "Me."}, headers=ann.signed_in)

        assert response.status_code == 200

    def test_that_cannot_be_written_to_delays_no_request(
        self, new_migrated_app: NewApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = new_migrated_app("sqlite")
        with app.app_context():
            dialect: Any = db.engine.dialect
        waits: list[float] = []
        execute = Mock(side_effect=sqlite3.OperationalError("disk I/O error"))
        monkeypatch.setattr("api.db.sqlite_write_lock.sleep", waits.append)
        monkeypatch.setattr(dialect, "do_execute", execute)

        response = ContractClient(app).post("/users", json=ZOE)

        assert_problem(response, 503, "unavailable")
        assert not waits

    @pytest.mark.slow
    def test_without_free_connections_is_unavailable_until_one_is_returned(
        self, new_app: NewApp, url: str
    ) -> None:
        app = new_app(url, THREADS=1, DATABASE_TIMEOUT_SECONDS=1)
        client = ContractClient(app)

        with app.app_context(), ExitStack() as connections:
            for _ in range(db.engine.pool.size()):  # type: ignore[attr-defined]
                connections.enter_context(db.engine.connect())
            response = client.get("/posts")
        again = client.get("/posts")

        assert_problem(response, 503, "unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert again.status_code == 200

    def test_that_restarted_is_reconnected_to(self, new_migrated_app: NewApp) -> None:
        app = new_migrated_app("postgresql")
        with app.app_context(), db.engine.connect():
            end_connections(app)

        response = ContractClient(app).get("/posts")

        assert response.status_code == 200

    def test_that_closes_a_connection_during_a_request_is_unavailable(
        self, new_app: NewApp, new_database_url: Any
    ) -> None:
        app = new_app(new_database_url("postgresql"))

        @app.get("/view")
        def view() -> Any:
            db.session.execute(text("SELECT 1"))
            end_connections(app)
            db.session.execute(text("SELECT 1"))

        response = app.test_client().get("/view")

        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"]

    def test_that_closes_all_connections_is_asked_again_for_a_sign_in_which_is_charged_once(
        self, new_migrated_app: NewApp
    ) -> None:
        app = new_migrated_app("postgresql", RATE_LIMIT_SIGN_IN="9/minute")
        ann = Factory(app).user("ann")

        with during_request(app, partial(end_connections, app), "checkout"):
            response = ContractClient(app).post("/tokens", auth=("ann", ann.password))

        assert response.status_code == 200
        assert '"sign_in";r=8;' in response.headers["RateLimit"]

    @pytest.mark.parametrize(
        ("method", "json", "status", "when"),
        [
            ("GET", None, 200, "checkout"),
            ("POST", {"body": "Hello."}, 201, TRANSACTION_BEGINNING),
            ("POST", {"body": "Hello."}, 201, TRANSACTION_BEGUN),
        ],
    )
    def test_that_closes_all_connections_is_asked_again(
        self, new_migrated_app: NewApp, method: str, json: Any, status: int, when: str
    ) -> None:
        app = new_migrated_app("postgresql")
        client, ann = ContractClient(app), Factory(app).user("ann")

        with during_request(app, partial(end_connections, app), when):
            response = client.open("/posts", method=method, json=json, headers=ann.signed_in)

        assert response.status_code == status
        assert len(client.get("/posts").json["items"]) == (1 if json else 0)

    def test_that_closes_the_connection_at_commit_is_not_asked_again(self, new_migrated_app: NewApp) -> None:
        app = new_migrated_app("postgresql")
        client, ann = ContractClient(app), Factory(app).user("ann")

        with during_request(app, partial(end_connections, app), COMMITTING):
            response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert_problem(response, 503, "unavailable")
        assert client.get("/posts").json["items"] == []

    def test_that_ended_an_idle_transaction_is_unavailable(
        self, new_app: NewApp, new_database_url: Any
    ) -> None:
        app = new_app(new_database_url("postgresql"))

        @app.post("/view")
        def view() -> Any:
            db.session.execute(text("SET idle_in_transaction_session_timeout = '1ms'"))
            with db.engine.connect() as other:
                other.execute(text("SELECT pg_sleep(0.2)"))
            db.session.execute(text("SELECT 1"))

        response = app.test_client().post("/view")

        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"]


def end_connections(app: Flask) -> None:
    """End every connection to a database, as an administrator may."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(text(f"{others} AND pid <> pg_backend_pid()"))


class TestFailure:
    @no_sql
    def test_that_is_unexpected_reveals_only_the_request_id(
        self, post_to: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def view() -> Any:
            raise RuntimeError("The secret is 42.")

        response = post_to(view)

        assert_problem(response, 500, "internal_error")
        assert "42" not in response.text.replace(response.json["request_id"], "")
        line = orjson.loads(capsys.readouterr().out.splitlines()[0])
        assert line["request_id"] == response.json["request_id"]
        assert "The secret is 42." in line["traceback"]

    def test_rolls_back_the_transaction(
        self, app: Flask, client: ContractClient, post_to: Any, ann: Account
    ) -> None:
        def view() -> Any:
            db.session.execute(update(User).values(about="Uncommitted."))
            raise RuntimeError

        response = post_to(view)

        assert_problem(response, 500, "internal_error")
        assert client.get(f"/users/{ann.username}").json["about"] == ""

    @pytest.mark.parametrize(
        ("body", "author_id"),
        [pytest.param("", 0, id="check"), pytest.param("Hello.", 10**9, id="foreign key")],
    )
    def test_of_a_constraint_other_than_uniqueness_is_a_conflict(
        self, post_to: Any, ann: Account, body: str, author_id: int
    ) -> None:
        def view() -> Any:
            db.session.add(Post(user_id=ann.id + author_id, body=body))
            db.session.commit()

        response = post_to(view)

        assert_problem(response, 409, "conflict")

    def test_to_change_a_row_that_another_request_changed_is_a_conflict(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        def change() -> None:
            with app.app_context():
                db.session.execute(update(User).values(version=User.version + 1))
                db.session.commit()

        with during_request(app, change):
            response = client.put(
                "/me/password",
                json={"current_password": ann.password, "new_password": "7 blue bicycles"},
                headers=ann.signed_in,
            )

        assert_problem(response, 409, "conflict")

    def test_to_store_a_value_is_invalid_input(self, new_app: NewApp, new_database_url: Any) -> None:
        app = new_app(new_database_url("postgresql"))

        @app.get("/view")
        def view() -> Any:
            db.session.execute(text("SELECT :text"), {"text": "a\0b"})

        response = app.test_client().get("/view")

        assert_problem(response, 422, "invalid_input")

    @no_sql
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "bad_request"),
            (404, "not_found"),
            (410, "gone"),
            (413, "body_too_large"),
            (500, "internal_error"),
            (501, "http_501"),
        ],
    )
    def test_that_flask_reports_is_a_problem(self, post_to: Any, status: int, code: str) -> None:
        response = post_to(lambda: abort(status))

        assert_problem(response, status, code)

    @no_sql
    def test_keeps_the_retry_after_header_of_an_exception(self, post_to: Any) -> None:
        def view() -> Any:
            raise ServiceUnavailable(retry_after=7)

        response = post_to(view)

        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"] == "7"

    @pytest.mark.parametrize("kind", DATABASES)
    def test_is_logged_without_user_input(
        self, new_app: NewApp, new_database_url: Any, capsys: pytest.CaptureFixture[str], kind: str
    ) -> None:
        app = new_app(new_database_url(kind))

        response = ContractClient(app).post("/users", json=ZOE)

        assert response.status_code == 500
        printed = capsys.readouterr().out
        assert response.json["request_id"] in printed
        assert "zoe" not in printed
        assert "argon2" not in printed


def allowed(path: str) -> set[str]:
    """Return the methods that a path of the contract supports."""
    methods = {method.upper() for method in CONTRACT["paths"][path]}
    return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())


ADDRESSES = {path: example_path(path, operation) for _, path, operation in operations()}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"}


class TestURL:
    @no_sql
    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "/nothing",
            "/posts/",
            "/posts/1/",
            "/users/",
            "/users/ann/",
            "/users/ann/posts/",
            "/users//posts",
            "//posts",
            "/posts//1",
            "/Posts",
            "/posts.json",
            "/posts/1;a=b",
            "/me/",
            "/me/password/",
            "/tokens/current/",
            "/tokens/refresh/",
            "/%70osts/",
            "/posts%00",
            "/posts%0A",
            "/users/ann/posts%0A",
            "/..%2F..%2Flivez",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    def test_that_is_unknown_is_not_found(self, client: ContractClient, path: str, method: str) -> None:
        response = client.open(path, method=method)

        assert_problem(response, 404, "not_found")

    @no_sql
    @pytest.mark.parametrize(
        "path",
        ["/", "/api", "/api/", "/api/v2/posts", "/api//v1/posts", "/posts", "/livez/", "/docs/", "/static/a"],
    )
    def test_outside_of_the_api_is_not_found(self, app: Flask, path: str) -> None:
        response = app.test_client().get(path)

        assert_problem(response, 404, "not_found")

    @no_sql
    @pytest.mark.parametrize("path", ADDRESSES)
    def test_has_an_allow_header_for_unsupported_methods(self, client: ContractClient, path: str) -> None:
        for method in METHODS - allowed(path):
            response = client.open(ADDRESSES[path], method=method)

            assert response.status_code == 405
            assert set(response.headers["Allow"].split(", ")) == allowed(path)

    @no_sql
    def test_responds_to_an_unsupported_method_with_a_problem(self, client: ContractClient) -> None:
        response = client.put("/posts")

        assert_problem(response, 405, "method_not_allowed")

    @no_sql
    @pytest.mark.parametrize("path", ADDRESSES)
    def test_supports_options(self, app: Flask, path: str) -> None:
        response = app.test_client().options(PREFIX + ADDRESSES[path])

        assert response.status_code == 200
        assert set(response.headers["Allow"].split(", ")) == allowed(path)
        assert response.data == b""
        assert "Content-Type" not in response.headers

    @pytest.mark.parametrize("operation", cases(lambda operation: operation.is_safe))
    def test_responds_to_head_like_get_without_a_body(
        self, client: ContractClient, make: Factory, operation: Operation
    ) -> None:
        world = make_world(make)

        get = operation.send(client, world)
        head = operation.send(client, world, method="HEAD")

        assert head.status_code == get.status_code < 300
        assert head.data == b""
        differing = {"X-Request-Id": "", "RateLimit": ""}
        assert {**head.headers, **differing} == {**get.headers, **differing}

    @no_sql
    def test_that_is_unknown_is_not_found_by_head(self, client: ContractClient) -> None:
        response = client.head("/nothing")

        assert response.status_code == 404
        assert response.data == b""
        assert response.content_type == "application/problem+json"


class TestEveryResponse:
    @on_sqlite
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", f"{PREFIX}/posts", 200),
            ("GET", f"{PREFIX}/me", 401),
            ("GET", f"{PREFIX}/nothing", 404),
            ("GET", f"{PREFIX}/posts?limit=0", 422),
            ("POST", f"{PREFIX}/users", 415),
            ("PUT", f"{PREFIX}/posts", 405),
            ("OPTIONS", f"{PREFIX}/posts", 200),
            ("HEAD", f"{PREFIX}/posts", 200),
            ("GET", "/", 404),
            ("GET", "/docs", 200),
            ("GET", "/problems", 200),
            ("GET", "/docs/docs.css", 200),
            ("GET", "/openapi.json", 200),
            ("GET", "/livez", 200),
            ("GET", "/readyz", 200),
        ],
    )
    def test_has_a_request_id_and_headers_for_caching_and_type(
        self, app: Flask, method: str, path: str, status: int
    ) -> None:
        client = app.test_client()

        with client.open(path, method=method) as response:
            assert response.status_code == status
            assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"]

    @on_sqlite
    @pytest.mark.parametrize(("method", "length"), [("GET", 1), ("HEAD", 0)])
    def test_has_a_body_in_one_piece(self, app: Flask, method: str, length: int) -> None:
        environ = EnvironBuilder(f"{PREFIX}/posts", method=method).get_environ()

        body, _, headers = run_wsgi_app(app, environ)

        pieces = list(body)
        assert len(pieces) == length
        assert method == "HEAD" or headers["Content-Length"] == str(len(pieces[0]))

    @on_sqlite
    def test_calls_on_close_functions(self, app: Flask) -> None:
        calls = []
        with app.test_request_context(f"{PREFIX}/posts") as context:
            response = ApiResponse(b"[]")
            response.call_on_close(lambda: calls.append(True))

            body, status, _ = run_wsgi_app(response, context.request.environ, buffered=True)

        assert (b"".join(body), status, calls) == (b"[]", "200 OK", [True])

    @on_sqlite
    @pytest.mark.parametrize(
        "path",
        [
            f"{PREFIX}/posts?cursor=a",
            f"{PREFIX}/me",
            "/nothing",
        ],
    )
    def test_of_a_known_problem_type_links_its_explanation(self, app: Flask, path: str) -> None:
        response: Any = app.test_client().get(path)

        explanation = app.test_client().get(response.json["type"]).json
        assert_problem(response, response.json["status"], explanation["code"])
