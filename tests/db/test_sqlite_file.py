"""A database file that is deleted, replaced or truncated while the service runs."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.db import db
from tests.conftest import SECRET_KEY
from tests.support.concurrency import TRANSACTION_BEGUN, concurrently, during_request
from tests.support.contract import PREFIX
from tests.support.factories import Account, Factory
from tests.support.server import running_server

UNAVAILABLE = (503, "2", "unavailable")


@pytest.fixture
def app(new_migrated_app: Callable[..., Flask]) -> Flask:
    """An application on a database file of its own."""
    return new_migrated_app("sqlite")


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of it."""
    return app.test_client()


@pytest.fixture
def ann(app: Flask) -> Account:
    """A user."""
    return Factory(app).user("ann")


@pytest.fixture
def backup(file: Path, ann: Account) -> Path:
    """A copy of the database file in which Ann is a user without posts."""
    copy = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def post(client: FlaskClient, author: Account, body: str = "Hello.") -> Any:
    """Publish a post; return the status, and of a problem the header and the code."""
    response: Any = client.post(f"{PREFIX}/posts", json={"body": body}, headers=author.signed_in)
    if response.status_code == 201:
        return 201
    return response.status_code, response.headers["Retry-After"], response.json["code"]


def bodies(client: FlaskClient) -> list[str]:
    """Return the bodies of all posts, the latest first."""
    page: Any = client.get(f"{PREFIX}/posts").json
    return [item["body"] for item in page["items"]]


def wal_of(file: Path) -> Path:
    """Return the path of the write-ahead log."""
    return file.with_name(f"{file.name}-wal")


def shm_of(file: Path) -> Path:
    """Return the path of the index of the write-ahead log."""
    return file.with_name(f"{file.name}-shm")


def delete(file: Path) -> None:
    """Delete a file."""
    file.unlink()


def delete_all(file: Path) -> None:
    """Delete a database file with its write-ahead log, as `git clean` does."""
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


def delete_folder(file: Path) -> None:
    """Delete the folder of a file."""
    shutil.rmtree(file.parent)


def empty(file: Path) -> None:
    """Truncate a file."""
    file.write_bytes(b"")


@pytest.mark.parametrize("lose", [delete, delete_all, delete_folder, empty])
def test_without_its_file_the_service_is_unavailable_and_creates_none(
    client: FlaskClient, ann: Account, file: Path, caplog: pytest.LogCaptureFixture, lose: Any
) -> None:
    assert post(client, ann) == 201
    lose(file)

    assert [post(client, ann) for _ in range(3)] == [UNAVAILABLE] * 3
    assert client.get(f"{PREFIX}/posts").status_code == 503
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200
    assert not file.exists() or not file.stat().st_size
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(logged) == 4
    assert all(f"the database file {file} does not exist or is empty" in line for line in logged)


def test_a_file_that_is_moved_has_all_posts_and_can_be_moved_back(
    client: FlaskClient, ann: Account, file: Path
) -> None:
    assert post(client, ann) == 201
    moved = file.rename(file.with_name("moved.db"))
    assert post(client, ann, "Lost.") == UNAVAILABLE
    moved.rename(file)

    assert post(client, ann, "Again.") == 201
    assert bodies(client) == ["Again.", "Hello."]
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("waits", [True, False])
def test_a_file_that_replaces_it_is_used_without_the_former_changes(
    client: FlaskClient, ann: Account, file: Path, backup: Path, waits: bool
) -> None:
    assert [post(client, ann, body) for body in ("Hello.", "Hello?")] == [201, 201]
    if waits:
        file.unlink()
        assert post(client, ann) == UNAVAILABLE
    backup.rename(file)

    assert bodies(client) == []
    assert post(client, ann, "Again.") == 201
    assert bodies(client) == ["Again."]
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert other.execute("SELECT body FROM posts").fetchall() == [("Again.",)]


@pytest.mark.parametrize("path_of", [wal_of, shm_of])
def test_without_its_write_ahead_log_nothing_that_was_committed_is_lost(
    client: FlaskClient, ann: Account, file: Path, path_of: Any
) -> None:
    assert post(client, ann) == 201
    path_of(file).unlink()

    assert post(client, ann, "Again.") == 201

    assert bodies(client) == ["Again.", "Hello."]
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert other.execute("SELECT body FROM posts ORDER BY id").fetchall() == [("Hello.",), ("Again.",)]


def test_a_file_that_is_no_database_makes_the_service_unavailable(
    client: FlaskClient, ann: Account, file: Path, backup: Path
) -> None:
    file.with_name("other").write_bytes(b"x" * 8192)
    file.with_name("other").rename(file)
    assert [post(client, ann), client.get("/readyz").status_code] == [UNAVAILABLE, 503]
    backup.rename(file)

    assert post(client, ann) == 201


def test_a_file_that_was_cut_makes_the_service_unavailable(
    client: FlaskClient, ann: Account, file: Path, backup: Path
) -> None:
    assert post(client, ann) == 201
    with file.open("r+b") as opened:
        opened.truncate(4096)
    assert post(client, ann) == UNAVAILABLE
    backup.rename(file)

    assert post(client, ann) == 201
    assert bodies(client) == ["Hello."]


def test_a_write_is_not_committed_to_a_file_that_is_deleted_meanwhile(
    app: Flask, client: FlaskClient, ann: Account, file: Path
) -> None:
    with during_request(app, file.unlink, TRANSACTION_BEGUN):
        assert post(client, ann) == UNAVAILABLE


def test_a_new_file_is_used_once_no_request_uses_the_former(
    app: Flask, client: FlaskClient, ann: Account, file: Path, backup: Path
) -> None:
    assert concurrently(*[lambda: post(app.test_client(), ann)] * 3) == [201] * 3  # Three connections.
    with app.app_context(), db.engine.connect() as used:
        used.exec_driver_sql("SELECT count(*) FROM users")
        backup.rename(file)

        assert [post(client, ann) for _ in range(2)] == [UNAVAILABLE] * 2

    assert post(client, ann) == 201
    assert bodies(client) == ["Hello."]


@pytest.mark.slow
def test_processes_of_the_service_notice_it_too(tmp_path: Path) -> None:
    file = tmp_path / "microblog.db"
    with running_server(tmp_path, WORKERS="2", SECRET_KEY=SECRET_KEY) as server:
        zoe = {"username": "zoe", "email": "zoe@example.com", "password": "9 green horses"}
        assert server.send("POST", f"{PREFIX}/users", json=zoe)[0] == 201
        moved = file.rename(tmp_path / "moved.db")

        assert {server.send("POST", f"{PREFIX}/users", json=zoe)[0] for _ in range(10)} == {503}
        assert {server.get("/readyz")[0] for _ in range(10)} == {503}
        moved.rename(file)
        assert {server.send("POST", f"{PREFIX}/users", json=zoe)[0] for _ in range(10)} == {409}
        assert {server.get("/readyz")[0] for _ in range(10)} == {200}
