"""Runs Alembic for `flask db`: options, names and format of new revisions, locks, and SQLite's batch mode."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from time import sleep
from typing import Any

import click
from alembic import context
from alembic.script import write_hooks
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Connection, event
from sqlalchemy.exc import DatabaseError, DBAPIError

from api.db import TSVector, UTCDateTime, db
from api.db.sqlite_write_lock import is_busy
from api.db.transactions import reason_of

LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE of a lock_timeout.
# SQLSTATEs of PostgreSQL: the database is read-only, or the role lacks a privilege.
REFUSED = frozenset({"25006", "42501"})
# While a migration waits for the lock of a table, all who would read it wait behind it. It gives up before
# they do (`READ_LOCK_TIMEOUT` in api/db/postgresql.py), and tries again after a pause in which they read.
SET_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"
PAUSE_SECONDS = 0.5
BATCH_PREFIX = "_alembic_tmp_"  # Alembic's name for the new table, before it replaces the old one.

# SQLAlchemy 2.1 reflects a CHECK constraint that is not valid yet with an argument that it does not know.
warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'")


def render_item(kind: str, item: Any, autogenerate_context: Any) -> str | bool:
    """Render the application's types as SQLAlchemy's, so that migrations do not import the application."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, TSVector):
        autogenerate_context.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.String().with_variant(postgresql.TSVECTOR(), "postgresql")'
    return False


def include_name(name: str | None, _kind: str, _parents: Any) -> bool:
    """Ignore the full-text index and, on SQLite, its tables; only the migrations define them."""
    return not (name or "").startswith("posts_search")


def number_revision(_context: Any, _revision: Any, directives: list[Any]) -> None:
    """Give a new revision the next number; write no file if `flask db migrate` finds no difference.

    `flask db check` calls this too, and evaluates the differences itself.
    """
    if getattr(context.config.cmd_opts, "autogenerate", False) and directives[0].upgrade_ops.is_empty():
        directives.clear()
    else:
        head = context.script.get_current_head()
        directives[0].rev_id = f"{int(head or 0) + 1:04}"


@write_hooks.register("ruff")
def format_revision(path: str, _options: Any) -> None:
    """Format a new revision with ruff."""
    if not find_spec("ruff"):
        click.echo("The file is not formatted because ruff is not installed: run `make format`.", err=True)
        return
    for command in (["check", "--fix", "--silent"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, path], check=False)  # noqa: S603


def connect() -> Connection:
    """Connect to the database, or end the process with one line."""
    try:
        return db.engine.connect()
    except DatabaseError as error:
        raise SystemExit(f"Cannot open the database: {reason_of(error)}") from None


def create_sqlite_file() -> None:
    """Create the database file; the service only opens one that exists. Do nothing if it does."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(str(db.engine.url.database))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # Writes the first page.


@contextmanager
def waiting() -> Iterator[None]:
    """Say that the process waits, if the lock is not free within a second."""
    timer = Timer(
        1, click.echo, ["Waiting for another process that migrates the database ..."], {"err": True}
    )
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def lock_postgresql(connection: Connection) -> None:
    """Wait until no other process migrates the database. The end of the transaction releases the lock."""
    with waiting():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('migrations'))")


def lock_sqlite(folder: int) -> None:
    """Wait until no other process migrates a database in the folder. Closing the folder releases the lock."""
    with waiting():
        fcntl.flock(folder, fcntl.LOCK_EX)


@contextmanager
def connected_to_sqlite() -> Iterator[Connection]:
    """Connect while no other process migrates a database in the same folder."""
    try:
        folder = os.open(Path(str(db.engine.url.database)).parent, os.O_RDONLY)
    except OSError as error:
        raise SystemExit(f"Cannot open the database: {error}") from None
    try:
        lock_sqlite(folder)
        create_sqlite_file()
        with connect() as connection:
            # Batch mode drops the table that it replaces, which would delete rows that refer to it. SQLite
            # ignores this statement within a transaction, which SQLAlchemy would begin.
            driver_connection: Any = connection.connection.driver_connection
            driver_connection.execute("PRAGMA foreign_keys = OFF")
            preserve_triggers(connection)
            try:
                yield connection
            finally:
                connection.invalidate()  # Its settings differ from those of requests.
    finally:
        os.close(folder)


@contextmanager
def connected_to_postgresql() -> Iterator[Connection]:
    """Connect, and wait until no other process migrates the database.

    All revisions are applied in one transaction, which has the settings and the lock: behind a pooler, each
    transaction may run in another session.
    """
    with connect() as connection, connection.begin():
        # Changing a large table, or waiting for another process, may take longer than the timeouts of
        # requests.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        lock_postgresql(connection)
        connection.exec_driver_sql(SET_LOCK_TIMEOUT)
        yield connection


def preserve_triggers(connection: Connection) -> None:
    """Re-create triggers and the sequence of ids after SQLite's batch mode replaces a table.

    Dropping the old table drops its triggers and its sequence, and triggers of other tables that refer to it
    make the renaming of the new table fail. Raises CommandError if the new table lacks AUTOINCREMENT, which
    Alembic does not copy.
    """
    triggers: list[tuple[str, str]] = []
    sequences: list[tuple[str, int]] = []

    @event.listens_for(connection, "before_cursor_execute")
    def save(_connection: Any, cursor: Any, statement: str, *_others: Any) -> None:
        table = statement.strip().removeprefix("DROP TABLE ").strip('"')
        execute = cursor.connection.execute
        tables = dict(execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
        if (replacement := tables.get(BATCH_PREFIX + table)) is None:
            return
        if "AUTOINCREMENT" in tables[table] and "AUTOINCREMENT" not in replacement:
            option = 'table_kwargs={"sqlite_autoincrement": True}'
            raise CommandError(f"Pass {option} to batch_alter_table({table!r}), or ids are assigned again.")
        triggers[:] = execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            execute(f"DROP TRIGGER {name}")
        sequences[:] = execute("SELECT name, seq FROM sqlite_sequence WHERE name = ?", [table]).fetchall()

    @event.listens_for(connection, "after_cursor_execute")
    def restore(_connection: Any, cursor: Any, statement: str, *_others: Any) -> None:
        if statement.strip().startswith(f"ALTER TABLE {BATCH_PREFIX}"):
            for _, sql in triggers:
                cursor.connection.execute(sql)
            for sequence in sequences:
                cursor.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", sequence[:1])
                cursor.connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", sequence)


OPTIONS: dict[str, Any] = {
    "target_metadata": db.metadata,
    "render_item": render_item,
    "include_name": include_name,
    "process_revision_directives": number_revision,
    "compare_type": True,
    "render_as_batch": True,  # A revision generated on PostgreSQL works on SQLite too.
    "transactional_ddl": True,
    # One transaction for all revisions: an upgrade that is interrupted leaves the old schema.
    "transaction_per_migration": False,
}
# Not in alembic.ini: Alembic cannot read hooks there if the path of the folder contains a percent sign.
context.script.hooks.append({"_hook_name": "ruff", "type": "ruff"})


def migrate() -> None:
    """Run the migrations in one transaction.

    If another session of PostgreSQL has locked a table, try again for `DATABASE_TIMEOUT_SECONDS`.
    """
    connected = connected_to_sqlite if db.engine.dialect.name == "sqlite" else connected_to_postgresql
    attempts: int = current_app.config["DATABASE_TIMEOUT_SECONDS"]  # An attempt and a pause take a second.
    while True:
        try:
            with connected() as connection:
                context.configure(connection=connection, **OPTIONS)
                with context.begin_transaction():
                    context.run_migrations()
        except CommandError as error:
            if "not up to date" in str(error):
                raise CommandError("The database is not up to date: run `flask db upgrade` first.") from None
            raise
        except DBAPIError as error:
            sqlstate = getattr(error.orig, "sqlstate", None)
            if sqlstate in REFUSED:
                raise SystemExit(f"Cannot migrate the database: {reason_of(error)}") from None
            attempts -= 1
            if sqlstate == LOCK_NOT_AVAILABLE and attempts:
                sleep(PAUSE_SECONDS)
                continue
            if sqlstate == LOCK_NOT_AVAILABLE or is_busy(error.orig):
                raise SystemExit("Nothing was migrated: another session has locked the database.") from None
            raise
        return


if context.is_offline_mode():
    context.configure(url=current_app.config["DATABASE_URL"], literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        if context.get_context().dialect.name == "postgresql":
            context.execute(SET_LOCK_TIMEOUT)
        context.run_migrations()
else:
    migrate()
