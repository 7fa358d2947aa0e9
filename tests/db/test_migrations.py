"""Migrations: they create the tables of the models; new revisions are numbered and formatted."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg
import pytest
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import CheckConstraint, MetaData, Table, inspect, make_url, text

from api.config import ROOT
from api.db import db, utc_now
from api.db.postgresql import READ_LOCK_TIMEOUT
from api.models import Like, Post, User
from tests.conftest import DATABASES
from tests.support.processes import ModuleProcess
from tests.support.wait import wait_until

StartModule = Callable[..., ModuleProcess]

SCRIPTS = ScriptDirectory(str(ROOT / "migrations"))
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]
NEXT = f"{int(REVISIONS[-1]) + 1:04}"
# Coverage would look for the source of copied files after the test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
on_both = pytest.mark.parametrize("current_app", DATABASES, indirect=True)
REPLACE_TABLES = """
from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"


def upgrade():
    for table in ("posts", "likes", "follows"):
        with op.batch_alter_table(table, recreate="always", table_kwargs={options}):
            pass
"""
INSERT_USER = (
    "INSERT INTO users (id, username, email, password_hash, about, created_at, version)"
    " VALUES (:id, :username, :email, '-', '', :now, 1)"
)
SAME_IN_ANOTHER_CASE = [
    ("IRIS", "iris@example.com"),
    ("Zoe", "IRIS@example.com"),
    ("iris", "a@example.com"),
    ("Iris", "b@example.com"),
    ("zoe", "c@example.com"),
    ("bob", "d@example.com"),
]
INSERT_ANN = (
    "INSERT INTO users (id, username, email, password_hash, about, created_at, version)"
    " VALUES (1, 'ann', 'a@b.c', '-', '', :now, 1)"
)
INSERT_SESSION = [
    INSERT_ANN,
    "INSERT INTO sessions (id, user_id, generation, user_agent, created_at, refreshed_at, expires_at)"
    " VALUES (1, 1, 3, '', :now, :now, :now)",
]
INSERT_EMAILS = [
    INSERT_ANN,
    "INSERT INTO letters VALUES ('a@b.c', 'email_change', 1, NULL, :now)",
    "INSERT INTO letters VALUES ('a@b.c', 'password_reset', 1, 'hash', :now)",
]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, new_database_url: Any) -> str:
    """The URL of an empty database."""
    return str(new_database_url(request.param))


@pytest.fixture
def empty_app(new_app: Callable[..., Flask], database_url: str) -> Iterator[Flask]:
    """The application on a database without tables."""
    app = new_app(database_url)
    with app.app_context():
        yield app


@pytest.fixture
def current_app(new_migrated_app: Callable[..., Flask], request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The application on a database with all tables and no rows; the parameter is its kind."""
    app = new_migrated_app(request.param)
    with app.app_context():
        yield app


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A copy of the folder of migrations, beside ruff's settings."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(ROOT / "migrations", tmp_path / "migrations", ignore=ignored))


def schema_of(table: str) -> dict[str, Any]:
    """Return the names of a table's columns, constraints and indexes."""
    inspector = inspect(db.engine)
    return {
        "columns": [column["name"] for column in inspector.get_columns(table)],
        "primary key": inspector.get_pk_constraint(table)["name"],
        "foreign keys": [key["name"] for key in inspector.get_foreign_keys(table)],
        "unique": [constraint["name"] for constraint in inspector.get_unique_constraints(table)],
        "indexes": [
            index["name"] for index in inspector.get_indexes(table) if not index.get("duplicates_constraint")
        ],
    }


def check_constraints(table: str) -> set[Any]:
    """Return the names of a table's CHECK constraints."""
    return {constraint["name"] for constraint in inspect(db.engine).get_check_constraints(table)}


def triggers_on_sqlite() -> list[tuple[str, str]]:
    """Return the names and definitions of all triggers."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    with db.engine.connect() as connection:
        return [(name, sql) for name, sql in connection.execute(text(query))]


def tables_with_autoincrement() -> set[str]:
    """Return the names of the tables that never assign an id twice."""
    query = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
    with db.engine.connect() as connection:
        return set(connection.scalars(text(query)))


def write_replacement(migrations: Path, options: dict[str, bool]) -> None:
    """Add a revision that replaces tables with triggers, with options for the new tables."""
    script = REPLACE_TABLES.format(revision=NEXT, down_revision=REVISIONS[-1], options=options)
    (migrations / "versions" / f"{NEXT}_replace_tables.py").write_text(script, "utf-8")


def rows_of(table: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table, which need not have a model."""
    with db.engine.connect() as connection:
        rows = connection.execute(Table(table, MetaData(), autoload_with=connection).select())
        return [tuple(row) for row in rows]


def test_there_is_one_head() -> None:
    assert SCRIPTS.get_heads() == REVISIONS[-1:]


@on_both
def test_the_migrations_create_the_tables_of_the_models(current_app: Flask) -> None:
    flask_migrate.check()  # Ends the process if the models differ.


@pytest.mark.parametrize("current_app", ["postgresql"], indirect=True)
def test_a_constraint_that_the_next_release_validates_is_no_difference(current_app: Flask) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("ALTER TABLE likes ADD CONSTRAINT is_positive CHECK (id > 0) NOT VALID"))

    flask_migrate.check()  # Ends the process if the models differ.


def test_each_migration_can_be_applied_reverted_and_applied_again(empty_app: Flask) -> None:
    for revision in REVISIONS:
        flask_migrate.upgrade(revision=revision)
        flask_migrate.downgrade(revision="-1")
        flask_migrate.upgrade(revision=revision)

    flask_migrate.check()  # Ends the process if the models differ.


@on_both
def test_the_downgrade_to_base_drops_all_tables(current_app: Flask) -> None:
    flask_migrate.downgrade(revision="base")

    assert inspect(db.engine).get_table_names() == ["alembic_version"]


@on_both
def test_the_migrations_create_the_check_constraints_of_the_models(current_app: Flask) -> None:
    assert {table: check_constraints(table) for table in db.metadata.tables} == {
        name: {constraint.name for constraint in table.constraints if isinstance(constraint, CheckConstraint)}
        for name, table in db.metadata.tables.items()
    }


@pytest.mark.parametrize("current_app", ["sqlite"], indirect=True)
def test_the_migrations_create_the_autoincrement_of_the_models(current_app: Flask) -> None:
    assert tables_with_autoincrement() == {
        name for name, table in db.metadata.tables.items() if table.dialect_options["sqlite"]["autoincrement"]
    }


@on_both
def test_no_revision_is_created_without_differences(current_app: Flask, migrations: Path) -> None:
    flask_migrate.migrate(directory=migrations)

    assert not list(migrations.glob(f"versions/{NEXT}*"))


def test_an_unreachable_database_ends_the_process_with_one_line(
    new_app: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(f"sqlite:///{tmp_path}/folder/x.db")
    (tmp_path / "folder" / "x.db").mkdir()

    with app.app_context(), pytest.raises(SystemExit, match=r"^Cannot open the database: unable to open"):
        flask_migrate.upgrade()


def test_a_missing_folder_ends_the_process_with_one_line(
    new_app: Callable[..., Flask], tmp_path: Path
) -> None:
    app = new_app(f"sqlite:///{tmp_path}/folder/x.db")
    (tmp_path / "folder").rmdir()

    with app.app_context(), pytest.raises(SystemExit, match=r"^Cannot open the database: .*No such file"):
        flask_migrate.upgrade()


def test_the_migrations_can_be_written_as_sql(empty_app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    flask_migrate.upgrade(sql=True)

    assert "CREATE TABLE posts" in capsys.readouterr().out


@contextmanager
def locked_by_another(database_url: str) -> Iterator[None]:
    """Hold the lock of a process that migrates the database."""
    if database_url.startswith("postgresql"):
        url = make_url(database_url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False)) as other:
            other.execute("SELECT pg_advisory_lock(hashtext('migrations'))")
            yield
    else:
        folder = os.open(Path(str(make_url(database_url).database)).parent, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(folder)


@pytest.fixture
def flask_db(start_module: StartModule, database_url: str) -> StartModule:
    """A function that starts `flask db`, which prints each revision that it runs."""
    return partial(start_module, "tests.support.logged_flask", "db", DATABASE_URL=database_url)


def settled_revision(app: Flask) -> str | None:
    """Return the revision of a database that no process migrates; it has all tables of the models or none."""
    with locked_by_another(app.config["DATABASE_URL"]), app.app_context(), db.engine.connect() as connection:
        (revision,) = MigrationContext.configure(connection).get_current_heads() or (None,)
        tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
    assert tables >= set(db.metadata.tables) if revision else not tables
    return revision


class TestProcesses:
    @pytest.mark.parametrize("command", ["upgrade", "downgrade base", "stamp"])
    def test_that_migrate_at_once_all_succeed(
        self, new_app: Callable[..., Flask], database_url: str, flask_db: StartModule, command: str
    ) -> None:
        app = new_app(database_url)
        if command == "downgrade base":
            with app.app_context():
                flask_migrate.upgrade()

        processes = [flask_db(*command.split()) for _ in range(3)]

        assert [process.end() for process in processes] == [0] * 3, processes[0].lines()
        if command != "stamp":
            assert settled_revision(app) == (REVISIONS[-1] if command == "upgrade" else None)

    def test_that_wait_say_so_in_one_line(self, database_url: str, flask_db: StartModule) -> None:
        waiting = "Waiting for another process that migrates the database ..."
        with locked_by_another(database_url):
            process = flask_db("upgrade")
            wait_until(lambda: process.lines().index(waiting), ValueError)
            assert process.is_alive()

        assert process.end() == 0
        assert process.lines().count(waiting) == 1

    def test_that_are_killed_leave_the_old_or_the_new_schema(
        self, empty_app: Flask, flask_db: StartModule
    ) -> None:
        for revision in REVISIONS:
            process = flask_db("upgrade")
            while f"-> {revision}" not in "".join(process.lines()):
                time.sleep(0.001)
            process.join(0.002 * int(revision))  # Another moment within each revision.
            process.kill()
            process.end()

            assert settled_revision(empty_app) in {None, REVISIONS[-1]}, revision
            flask_migrate.downgrade(revision="base")

        flask_migrate.upgrade()
        assert settled_revision(empty_app) == REVISIONS[-1]

    def test_that_find_a_locked_database_end_with_one_line(
        self, new_migrated_app: Callable[..., Flask], database_url: str, flask_db: StartModule
    ) -> None:
        app = new_migrated_app(make_url(database_url).get_backend_name(), DATABASE_TIMEOUT_SECONDS=60)
        url = app.config["DATABASE_URL"]
        with app.app_context(), db.engine.connect() as other:
            other.exec_driver_sql("SELECT 1")  # On SQLite, begins with the write lock.
            if database_url.startswith("postgresql"):
                other.exec_driver_sql("LOCK TABLE email_tokens")
            process = flask_db("downgrade", "0001", DATABASE_URL=url, DATABASE_TIMEOUT_SECONDS="1")
            status = process.end()

        assert status == 1
        assert process.lines()[-1] == "Nothing was migrated: another session has locked the database."
        assert "Traceback" not in "".join(process.lines())
        assert settled_revision(app) == REVISIONS[-1]

    @pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
    def test_that_wait_for_a_table_let_others_read_it(
        self, new_migrated_app: Callable[..., Flask], database_url: str, flask_db: StartModule
    ) -> None:
        url = make_url(new_migrated_app("postgresql").config["DATABASE_URL"]).set(drivername="postgresql")
        conninfo = url.render_as_string(hide_password=False)
        waits: list[float] = []
        with psycopg.connect(conninfo, autocommit=True) as reader, psycopg.connect(conninfo) as backup:
            backup.execute("LOCK TABLE users IN ACCESS SHARE MODE")  # As pg_dump does.
            process = flask_db("downgrade", "0009", DATABASE_URL=conninfo)  # 0010 adds a column to users.
            reader.execute(f"SET lock_timeout = '{READ_LOCK_TIMEOUT}'")
            while process.is_alive():
                time.sleep(0.01)
                began = time.monotonic()
                reader.execute("SELECT id FROM users")
                waits.append(time.monotonic() - began)
                if sum(wait > 0.1 for wait in waits) == 2:
                    backup.rollback()

        assert process.end() == 0, process.lines()


@pytest.mark.slow
def test_a_folder_with_a_percent_sign_can_be_upgraded(tmp_path: Path) -> None:
    clone = tmp_path / "50% off"
    for folder in ("api", "migrations"):
        shutil.copytree(ROOT / folder, clone / folder)
    shutil.copy(ROOT / "wsgi.py", clone)
    environment = ENVIRONMENT | {"DATABASE_URL": "sqlite:///test.db"}
    command = [sys.executable, "-m", "flask", "--app", f"{clone}/wsgi", "db", "upgrade"]

    subprocess.run(command, cwd=tmp_path, env=environment, check=True)

    assert (clone / "test.db").exists()


class TestNewRevision:
    def test_is_numbered_formatted_and_independent_of_the_application(
        self, empty_app: Flask, migrations: Path
    ) -> None:
        # On an empty database that is marked as current, the difference is everything in the models.
        flask_migrate.stamp(directory=migrations)

        flask_migrate.migrate(directory=migrations, message="add bookmarks")

        revision = migrations / "versions" / f"{NEXT}_add_bookmarks.py"
        generated = revision.read_text("utf-8")
        assert generated.startswith(f'"""add bookmarks.\n\nRevision ID: {NEXT}\nRevises: {REVISIONS[-1]}\n')
        assert f'revision = "{NEXT}"\ndown_revision = "{REVISIONS[-1]}"\n' in generated
        assert "api" not in generated
        for command in (["check"], ["format", "--check"]):
            subprocess.run([sys.executable, "-m", "ruff", *command, revision], check=True)
        flask_migrate.upgrade(directory=migrations)
        flask_migrate.check(directory=migrations)  # Ends the process if the models differ.

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    def test_without_differences_is_numbered_and_formatted_too(
        self, empty_app: Flask, migrations: Path
    ) -> None:
        flask_migrate.revision(directory=migrations, message="Fill in the blanks")

        revision = migrations / "versions" / f"{NEXT}_fill_in_the_blanks.py"
        for command in (["check"], ["format", "--check"]):
            subprocess.run([sys.executable, "-m", "ruff", *command, revision], check=True)

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    def test_is_left_unformatted_without_ruff(
        self,
        empty_app: Flask,
        migrations: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

        flask_migrate.revision(directory=migrations, message="add bookmarks")

        assert (migrations / "versions" / f"{NEXT}_add_bookmarks.py").exists()
        assert "run `make format`" in capsys.readouterr().err

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    def test_requires_that_the_database_is_current(
        self, empty_app: Flask, migrations: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            flask_migrate.migrate(directory=migrations, message="add bookmarks")

        assert ended.value.code == 1
        assert caplog.messages == ["Error: The database is not up to date: run `flask db upgrade` first."]


@pytest.mark.parametrize("current_app", ["sqlite"], indirect=True)
def test_batch_mode_on_sqlite_preserves_triggers_sequences_and_rows(
    current_app: Flask, migrations: Path
) -> None:
    ann = User(username="ann", email="ann@example.com", password_hash="-")
    post, deleted = Post(body="Hello.", author=ann), Post(body="Bye.", author=ann)
    db.session.add_all([ann, post, deleted])
    db.session.flush()
    db.session.delete(deleted)
    db.session.commit()
    triggers, constrained = triggers_on_sqlite(), tables_with_autoincrement()
    assert len(triggers) > 6
    write_replacement(migrations, {"sqlite_autoincrement": True})

    flask_migrate.upgrade(directory=migrations)

    assert (triggers_on_sqlite(), tables_with_autoincrement()) == (triggers, constrained)
    db.session.expire_all()
    like, next_post = Like(user_id=ann.id, post_id=post.id), Post(body="Again.", author=ann)
    db.session.add_all([like, next_post])
    db.session.commit()
    db.session.expire_all()
    assert (post.like_count, ann.post_count) == (1, 2)
    assert next_post.id > post.id + 1


@pytest.mark.parametrize("current_app", ["sqlite"], indirect=True)
def test_batch_mode_on_sqlite_refuses_to_drop_autoincrement(
    current_app: Flask, migrations: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_replacement(migrations, {})

    with pytest.raises(SystemExit):
        flask_migrate.upgrade(directory=migrations)

    (message,) = caplog.messages
    assert message.startswith('Error: Pass table_kwargs={"sqlite_autoincrement": True} to batch_alter_table')


def test_0005_renames_the_table_and_its_constraints_without_losing_rows(empty_app: Flask) -> None:
    flask_migrate.upgrade(revision="0004")
    old_schema = schema_of("letters")
    now = {"now": str(utc_now())}
    for statement in INSERT_EMAILS:
        db.session.execute(text(statement), now)
    db.session.commit()
    rows = rows_of("letters")

    flask_migrate.upgrade(revision="0005")

    email_tokens = schema_of("email_tokens")
    assert rows_of("email_tokens") == rows
    assert email_tokens == {
        "columns": ["email", "kind", "user_id", "token_hash", "created_at"],
        "primary key": "pk_email_tokens",
        "foreign keys": ["fk_email_tokens_user_id"],
        "unique": ["uq_email_tokens_token_hash"],
        "indexes": ["ix_email_tokens_user_id"],
    }

    flask_migrate.downgrade(revision="0004")

    assert rows_of("letters") == rows
    assert schema_of("letters") == old_schema
    assert not inspect(db.engine).has_table("email_tokens")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_0006_reports_users_that_become_equal_and_changes_nothing(empty_app: Flask) -> None:
    flask_migrate.upgrade(revision="0005")
    # Under the locale of this database they could not have registered.
    for column in ("folded_username", "folded_email"):
        db.session.execute(text(f"ALTER TABLE users DROP CONSTRAINT uq_users_{column}"))
    for number, (username, email) in enumerate(SAME_IN_ANOTHER_CASE, start=1):
        user = {"id": number, "username": username, "email": email, "now": str(utc_now())}
        db.session.execute(text(INSERT_USER), user)
    db.session.commit()
    rows = rows_of("users")

    with pytest.raises(SystemExit) as ended:
        flask_migrate.upgrade()

    assert str(ended.value.code).splitlines()[1:-1] == [
        "Same username: IRIS (id 1), iris (id 3), Iris (id 4).",
        "Same username: Zoe (id 2), zoe (id 5).",
        "Same email address: id 1, id 2.",
    ]
    assert "example.com" not in str(ended.value.code)
    assert rows_of("users") == rows

    db.session.execute(text("UPDATE users SET username = 'user' || id, email = id || '@example.com'"))
    db.session.commit()
    flask_migrate.upgrade()

    assert schema_of("users")["unique"] == ["uq_users_folded_email", "uq_users_folded_username"]


def test_0006_preserves_rows(empty_app: Flask) -> None:
    flask_migrate.upgrade(revision="0005")
    user = {"id": 1, "username": "IRIS", "email": "Iris@example.com", "now": str(utc_now())}
    db.session.execute(text(INSERT_USER), user)
    db.session.commit()
    names = "SELECT username, email, folded_username, folded_email FROM users"
    before = db.session.execute(text(names)).all()
    db.session.commit()

    flask_migrate.upgrade()
    after = db.session.execute(text(names)).all()
    db.session.commit()
    flask_migrate.downgrade(revision="0005")

    assert before == after == db.session.execute(text(names)).all()
    assert before == [("IRIS", "Iris@example.com", "iris", "iris@example.com")]
    db.session.commit()


@pytest.mark.parametrize("has_posts", [False, True])
def test_0008_says_that_the_search_must_be_rebuilt_if_there_are_posts(
    empty_app: Flask, capsys: pytest.CaptureFixture[str], has_posts: bool
) -> None:
    before = SCRIPTS.get_revision("0008").down_revision
    flask_migrate.upgrade(revision=before)
    if has_posts:
        db.session.execute(text(INSERT_ANN), {"now": str(utc_now())})
        insert = "INSERT INTO posts (body, timestamp, user_id, version) VALUES ('Hello.', :now, 1, 1)"
        db.session.execute(text(insert), {"now": str(utc_now())})
        db.session.commit()

    flask_migrate.upgrade(revision="0008")
    upgraded = capsys.readouterr().err
    flask_migrate.downgrade(revision=before)
    downgraded = capsys.readouterr().err

    assert [message.count("flask rebuild-search") for message in (upgraded, downgraded)] == [has_posts] * 2


def insert_session() -> None:
    """Insert a user and a session of theirs, without the columns that later revisions add."""
    for statement in INSERT_SESSION:
        db.session.execute(text(statement), {"now": str(utc_now())})
    db.session.commit()


def test_0009_goes_up_and_down_with_rows(empty_app: Flask) -> None:
    flask_migrate.upgrade(revision="0008")
    insert_session()
    rows = rows_of("sessions")

    flask_migrate.upgrade(revision="0009")

    assert rows_of("sessions") == [(*row, []) for row in rows]
    db.session.execute(
        text("INSERT INTO waiting_emails VALUES ('a@b.c', 'email_change', 1, 0, :now, :now)"),
        {"now": str(utc_now())},
    )
    db.session.commit()

    flask_migrate.downgrade(revision="0008")

    assert rows_of("sessions") == rows


def test_0010_goes_up_and_down_with_rows(empty_app: Flask) -> None:
    flask_migrate.upgrade(revision="0009")
    insert_session()
    names = "SELECT id, username, folded_username, folded_email, post_count, version FROM users"
    before = rows_of("sessions"), db.session.execute(text(names)).all()
    db.session.commit()

    flask_migrate.upgrade(revision="0010")

    assert db.session.scalars(text("SELECT suspended_at FROM users")).all() == [None]
    db.session.execute(text("UPDATE users SET suspended_at = :now"), {"now": str(utc_now())})
    db.session.commit()

    flask_migrate.downgrade(revision="0009")

    assert (rows_of("sessions"), db.session.execute(text(names)).all()) == before
    db.session.commit()


def test_0011_goes_up_and_down_with_rows(empty_app: Flask) -> None:
    flask_migrate.upgrade(revision="0010")
    insert_session()
    before = rows_of("sessions")

    flask_migrate.upgrade(revision="0011")

    assert rows_of("sessions") == [(*row, None) for row in before]
    assert rows_of("heartbeats") == []

    flask_migrate.downgrade(revision="0010")

    assert rows_of("sessions") == before
