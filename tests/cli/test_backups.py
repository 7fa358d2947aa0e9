"""`flask backup` and `flask restore`: SQLite, while the service runs and while it does not."""

import fcntl
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.db import db, sqlite_backup
from tests.support.contract import PREFIX
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.processes import ModuleProcess
from tests.support.server import Server, running_server
from tests.support.wait import wait_until

Run = Callable[..., Any]


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
def run(app: Flask) -> Run:
    """A function that runs a command; returns its exit code and its output."""

    def invoke(*arguments: object) -> tuple[int, str]:
        result = app.test_cli_runner().invoke(args=list(map(str, arguments)))
        return result.exit_code, result.output

    return invoke


@pytest.fixture
def backup(run: Run, ann: Account, tmp_path: Path) -> Path:
    """A backup in which Ann is a user without posts."""
    path = tmp_path / "backup.db"
    exit_code, output = run("backup", path)
    assert exit_code == 0, output
    return path


def post(client: FlaskClient, author: Account, body: str) -> None:
    """Publish a post."""
    response = client.post(f"{PREFIX}/posts", json={"body": body}, headers=author.signed_in)
    assert response.status_code == 201


def bodies(client: FlaskClient) -> list[str]:
    """Return the bodies of all posts, the latest first."""
    page: Any = client.get(f"{PREFIX}/posts").json
    return [item["body"] for item in page["items"]]


def close_connections(app: Flask) -> None:
    """Close the connections of an application, as it does when it stops."""
    with app.app_context():
        db.engine.dispose()


def execute(path: Path, *statements: str) -> list[Any]:
    """Execute statements in a database file, and return the rows of the last one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def sign(path: Path) -> None:
    """Write the checksum of a file, as `sha256sum` does."""
    digest = sha256(path.read_bytes()).hexdigest()
    sqlite_backup.checksum_file(path).write_text(f"{digest}  {path.name}\n", "utf-8")


class TestBackup:
    def test_is_one_file_with_a_checksum_for_its_owner_only(
        self, client: FlaskClient, run: Run, ann: Account, tmp_path: Path
    ) -> None:
        post(client, ann, "Hello.")
        path = tmp_path / "backup.db"

        exit_code, output = run("backup", path)

        assert (exit_code, output) == (
            0,
            f"Wrote {path} ({path.stat().st_size:,} bytes) and backup.db.sha256.\n",
        )
        assert sorted(file.name for file in tmp_path.iterdir()) == ["backup.db", "backup.db.sha256"]
        assert path.stat().st_mode & 0o777 == 0o600
        checksum = (tmp_path / "backup.db.sha256").read_text("utf-8")
        sign(path)
        assert (tmp_path / "backup.db.sha256").read_text("utf-8") == checksum
        assert execute(path, "SELECT body FROM posts") == [("Hello.",)]

    def test_does_not_wait_for_a_transaction_and_lacks_its_changes(
        self, run: Run, ann: Account, file: Path, tmp_path: Path
    ) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE users SET about = 'changed'")

            exit_code, _ = run("backup", tmp_path / "backup.db")

        assert exit_code == 0
        assert execute(tmp_path / "backup.db", "SELECT about FROM users") == [("",)]

    def test_can_be_made_before_an_upgrade(
        self, new_app: Callable[..., Flask], new_database_url: Any, tmp_path: Path
    ) -> None:
        app = new_app(new_database_url("sqlite"))
        with app.app_context():
            flask_migrate.upgrade(revision="0009")

        result = app.test_cli_runner().invoke(args=["backup", str(tmp_path / "backup.db")])

        assert result.exit_code == 0, result.output

    def test_never_replaces_a_file(self, run: Run, backup: Path) -> None:
        before = backup.read_bytes()

        assert run("backup", backup) == (1, f"Error: {backup} exists already.\n")
        assert backup.read_bytes() == before

    def test_of_a_damaged_database_is_not_written(
        self, run: Run, ann: Account, file: Path, tmp_path: Path
    ) -> None:
        execute(file, "PRAGMA foreign_keys = OFF", "UPDATE sessions SET user_id = 9")

        reason = "The database is damaged: table sessions refers to rows that do not exist."
        assert run("backup", tmp_path / "backup.db") == (1, f"Error: {reason}\n")
        assert not list(tmp_path.iterdir())

    def test_without_a_database_is_an_error_in_one_line(
        self, new_app: Callable[..., Flask], tmp_path: Path
    ) -> None:
        app = new_app(f"sqlite:///{tmp_path}/x.db")

        result = app.test_cli_runner().invoke(args=["backup", str(tmp_path / "backup.db")])

        assert result.exit_code == 1
        assert result.output.startswith(f"Error: SQLite: the database file {tmp_path}/x.db does not exist")
        assert result.output.count("\n") == 1

    def test_in_a_folder_that_does_not_exist_is_an_error_in_one_line(self, run: Run, tmp_path: Path) -> None:
        exit_code, output = run("backup", tmp_path / "no" / "backup.db")

        assert exit_code == 1
        assert output.startswith(f"Error: {tmp_path}/no/")
        assert output.endswith(": No such file or directory\n")

    def test_on_a_full_disk_leaves_nothing(self, run: Run, ann: Account, tmp_path: Path) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
        try:
            exit_code, output = run("backup", tmp_path / "backup.db")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        assert exit_code == 1
        assert output.startswith("Error: SQLite: ")
        assert output.count("\n") == 1
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_another_database_than_sqlite_is_refused(
    new_migrated_app: Callable[..., Flask], tmp_path: Path, command: str
) -> None:
    app = new_migrated_app("postgresql")

    result = app.test_cli_runner().invoke(args=[command, str(tmp_path / "backup.db")])

    expected = "Error: This command is for SQLite. docs/operating.md has those for PostgreSQL.\n"
    assert (result.exit_code, result.output) == (1, expected)


class TestRestore:
    def test_replaces_the_database(
        self, app: Flask, client: FlaskClient, run: Run, ann: Account, backup: Path, file: Path
    ) -> None:
        close_connections(app)
        file.chmod(0o640)

        assert run("restore", backup) == (0, f"Restored {backup}.\n")

        assert file.stat().st_mode & 0o777 == 0o640
        assert bodies(client) == []
        post(client, ann, "Hello.")
        assert run("counters", "check") == (0, run("counters", "check")[1])

    @pytest.mark.parametrize("exists", [True, False])
    def test_creates_a_database_that_is_missing_or_empty(
        self, app: Flask, client: FlaskClient, run: Run, ann: Account, backup: Path, file: Path, exists: bool
    ) -> None:
        close_connections(app)
        file.unlink()
        if exists:
            file.touch()

        assert run("restore", backup)[0] == 0
        post(client, ann, "Hello.")
        assert bodies(client) == ["Hello."]

    @pytest.mark.parametrize("force", [[], ["--force"]])
    def test_refuses_a_backup_without_its_checksum(
        self, app: Flask, run: Run, backup: Path, file: Path, force: list[str]
    ) -> None:
        close_connections(app)
        before = file.read_bytes()
        checksum = sqlite_backup.checksum_file(backup)
        checksum.write_text("0" * 64, "utf-8")

        wrong = run("restore", backup, *force)
        checksum.write_text("", "utf-8")
        empty = run("restore", backup, *force)
        checksum.unlink()
        missing = run("restore", backup, *force)

        assert wrong == (1, f"Error: {backup} does not have the checksum in backup.db.sha256.\n")
        assert empty == missing == (1, f"Error: {checksum} is not readable, or has no checksum.\n")
        assert file.read_bytes() == before

    def test_refuses_a_file_that_is_missing(self, app: Flask, run: Run, backup: Path) -> None:
        backup.unlink()

        assert run("restore", backup) == (1, f"Error: {backup}: No such file or directory\n")

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            ("truncate", "The database is damaged: "),
            ("overwrite", "The database is damaged: file is not a database."),
            ("DROP TABLE alembic_version", "The backup is no database of this service."),
            ("DELETE FROM alembic_version", "The backup is no database of this service."),
            ("UPDATE alembic_version SET version_num = '9999'", " which this version does not know."),
        ],
    )
    def test_refuses_a_backup_that_cannot_be_used(
        self, app: Flask, run: Run, backup: Path, file: Path, damage: str, reason: str
    ) -> None:
        close_connections(app)
        before = file.read_bytes()
        if damage == "truncate":
            os.truncate(backup, backup.stat().st_size // 2 // 4096 * 4096)
        elif damage == "overwrite":
            backup.write_bytes(b"x" * 4096)
        else:
            execute(backup, damage)
        sign(backup)

        exit_code, output = run("restore", backup, "--force")

        assert exit_code == 1
        assert output.startswith("Error: ")
        assert reason in output
        assert output.count("\n") == 1
        assert file.read_bytes() == before
        assert sorted(path.name for path in file.parent.iterdir()) == [file.name]

    def test_says_that_an_older_schema_must_be_upgraded(
        self, new_app: Callable[..., Flask], new_database_url: Any, tmp_path: Path
    ) -> None:
        app = new_app(new_database_url("sqlite"))
        with app.app_context():
            flask_migrate.upgrade(revision="0009")
        path = str(tmp_path / "backup.db")
        runner = app.test_cli_runner()
        runner.invoke(args=["backup", path])
        close_connections(app)

        result = runner.invoke(args=["restore", path])

        expected = f"Restored {path}.\nThe schema is that of revision 0009: run `flask db upgrade`.\n"
        assert (result.exit_code, result.output) == (0, expected)

    def test_refuses_to_replace_a_newer_database_unless_forced(
        self, app: Flask, client: FlaskClient, run: Run, ann: Account, backup: Path
    ) -> None:
        post(client, ann, "Hello.")
        close_connections(app)

        assert run("restore", backup) == (1, "Error: The database is newer than the backup: posts.\n")
        assert bodies(client) == ["Hello."]
        close_connections(app)
        assert run("restore", backup, "--force")[0] == 0
        assert bodies(client) == []

    def test_replaces_a_database_that_is_newer_only_by_its_schema(
        self, app: Flask, run: Run, backup: Path
    ) -> None:
        execute(backup, "ALTER TABLE users DROP COLUMN suspended_at")
        execute(backup, "UPDATE alembic_version SET version_num = '0009'")
        sign(backup)
        close_connections(app)

        assert run("restore", backup)[0] == 0

    def test_refuses_to_replace_a_database_in_use(
        self, client: FlaskClient, run: Run, ann: Account, backup: Path
    ) -> None:
        assert bodies(client) == []  # Opens a connection.

        expected = "Error: The database is in use. Stop the service first.\n"
        assert run("restore", backup) == (1, expected)

    def test_that_is_forced_is_noticed_by_the_running_service(
        self, client: FlaskClient, run: Run, ann: Account, backup: Path, file: Path
    ) -> None:
        post(client, ann, "Lost.")

        assert run("restore", backup, "--force")[0] == 0

        assert bodies(client) == []
        post(client, ann, "Hello.")
        assert bodies(client) == ["Hello."]
        assert execute(file, "PRAGMA integrity_check") == [("ok",)]

    def test_that_is_forced_waits_for_writers_but_not_for_ever(
        self,
        client: FlaskClient,
        run: Run,
        ann: Account,
        backup: Path,
        file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sqlite_backup, "WAIT_SECONDS", 0.05)
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")

            refused = run("restore", backup, "--force")
            writer.execute("ROLLBACK")
            # A reader of the write-ahead log, which therefore cannot be emptied.
            post(client, ann, "Hello.")
            writer.execute("BEGIN")
            writer.execute("SELECT * FROM posts").fetchall()
            refused_again = run("restore", backup, "--force")

        assert refused == refused_again == (1, "Error: The database was locked for 0.05 seconds.\n")
        assert bodies(client) == ["Hello."]

    def test_replaces_a_database_that_is_not_readable_only_if_forced(
        self, app: Flask, client: FlaskClient, run: Run, ann: Account, backup: Path, file: Path
    ) -> None:
        close_connections(app)
        file.write_bytes(b"x" * 4096)

        reason = "The database is not readable: file is not a database."
        assert run("restore", backup) == (1, f"Error: {reason}\n")
        assert run("restore", backup, "--force")[0] == 0
        post(client, ann, "Hello.")
        assert bodies(client) == ["Hello."]

    def test_refuses_to_replace_a_database_whose_write_ahead_log_cannot_be_opened(
        self, app: Flask, run: Run, backup: Path, file: Path
    ) -> None:
        close_connections(app)
        file.with_name(f"{file.name}-wal").mkdir()

        reason = "The database is not readable: unable to open database file."
        assert run("restore", backup) == (1, f"Error: {reason}\n")

    def test_waits_for_no_other_process_that_replaces_the_database(
        self, app: Flask, run: Run, backup: Path, file: Path
    ) -> None:
        folder = os.open(file.parent, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)

        refused = run("restore", backup)
        os.close(folder)

        assert refused == (1, "Error: Another process migrates or restores the database.\n")

    def test_that_fails_leaves_the_database_as_it_was(
        self,
        app: Flask,
        client: FlaskClient,
        run: Run,
        ann: Account,
        backup: Path,
        file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        post(client, ann, "Hello.")
        close_connections(app)

        def fail(source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device", str(target))

        with monkeypatch.context() as context:
            context.setattr(shutil, "copyfile", fail)
            exit_code, output = run("restore", backup, "--force")

        assert exit_code == 1
        assert output.endswith(": No space left on device\n")
        assert sorted(path.name for path in file.parent.iterdir()) == [file.name]
        assert bodies(client) == ["Hello."]


@pytest.fixture
def flask(tmp_path: Path, start_module: Callable[..., ModuleProcess]) -> Callable[..., ModuleProcess]:
    """A function that runs a command on the database of the server until it ends."""

    def run(*arguments: object) -> ModuleProcess:
        url = f"sqlite:///{tmp_path}/server/microblog.db"
        process = start_module("flask", *map(str, arguments), DATABASE_URL=url)
        process.end()
        return process

    return run


@contextmanager
def write_load(server: Server) -> Iterator[list[int]]:
    """Publish posts from four clients; yield the list of the ids that were acknowledged."""
    json = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
    server.send("POST", f"{PREFIX}/users", json=json)
    basic = {"Authorization": "Basic YW5uOjkgZ3JlZW4gaG9yc2Vz"}
    _, _, pair = server.send("POST", f"{PREFIX}/tokens", basic)
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    acknowledged: list[int] = []
    stopping = Event()

    def write() -> None:
        while not stopping.is_set():
            status, _, created = server.send("POST", f"{PREFIX}/posts", headers, {"body": "Hello."})
            assert status == 201, created
            acknowledged.append(created["id"])

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_a_backup_under_write_load_has_every_acknowledged_write(
    tmp_path: Path, flask: Callable[..., ModuleProcess]
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    backups: list[tuple[Path, list[int]]] = []

    with (
        running_server(folder, WORKERS="2", RATE_LIMIT_WRITES="1000000/second") as server,
        write_load(server) as acknowledged,
    ):
        for number in range(3):
            enough = len(acknowledged) + 30

            def has_written(enough: int = enough) -> None:
                assert len(acknowledged) >= enough

            wait_until(has_written)
            before = list(acknowledged)
            ended = flask("backup", tmp_path / f"{number}.db")
            assert ended.exitcode == 0, ended.lines()
            backups.append((tmp_path / f"{number}.db", before))
        last = backups[-1][0]
        refused = flask("restore", last)
        assert refused.lines() == ["Error: The database is in use. Stop the service first."]

    for path, before in backups:
        ids = {post_id for (post_id,) in execute(path, "SELECT id FROM posts")}
        assert set(before) <= ids
        assert execute(path, "SELECT post_count FROM users") == [(len(ids),)]
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]
    [refusal] = flask("restore", last).lines()
    assert refusal.startswith("Error: The database is newer than the backup: posts")
    assert flask("restore", last, "--force").lines() == [f"Restored {last}."]
    assert {post_id for (post_id,) in execute(folder / "microblog.db", "SELECT id FROM posts")} == ids
    checked = flask("counters", "check")
    assert checked.exitcode == 0, checked.lines()
