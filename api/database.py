"""The database: `db`, `migrate`, how constraints are named, moments in UTC, how transactions begin."""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from time import monotonic, sleep
from typing import Annotated, Any

from flask import Flask, has_request_context
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    PoolProxiedConnection,
    String,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, mapped_column, registry
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator, TypeEngine

from api.config import ROOT
from api.messages import current_request

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Moment(TypeDecorator[datetime]):
    """A moment in UTC, on databases that keep time zones and on SQLite, which drops them."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the time zone back; PostgreSQL gives moments in that of the connection."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Words(TypeDecorator[list[str]]):
    """Folded words in their order, as the database's full-text search takes them; not for reading."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type on a database."""
        return dialect.type_descriptor(postgresql.TSVECTOR() if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> str:
        """Write the words: for PostgreSQL each with its position, in the syntax of `tsvector`."""
        words = value or []
        if dialect.name == "postgresql":
            words = [f"{word}:{position}" for position, word in enumerate(words, start=1)]
        return " ".join(words)


def utc_now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)


Id = Annotated[int, mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]


class Base(DeclarativeBase):
    """What every model inherits."""

    registry = registry(
        metadata=MetaData(naming_convention=NAMING_CONVENTION),
        type_annotation_map={datetime: Moment},
    )

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set columns to new values."""
        for name, value in changes.items():
            setattr(self, name, value)


# A row that was just committed is answered as it is, without being read again.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
migrate = Migrate(directory=str(ROOT / "migrations"))

# For `db.get_or_404` of a row that is to be changed: others who want to change it wait until the
# transaction ends, then see its outcome. (SQLite has no row locks: there the whole transaction waits.)
# Rows are locked in one order, posts before users and each by their ids, so that nobody waits in a circle.
FOR_UPDATE: dict[str, Any] = {"with_for_update": {"key_share": True}}

# On SQLite, when a process looks again whether another one still writes.
LOOK_AGAIN_SECONDS = 0.001


def database_name() -> str:
    """Return which database it is, as SQLAlchemy calls it: `sqlite` or `postgresql`."""
    return db.engine.dialect.name


def only_reads() -> bool:
    """Say whether this request changes nothing (RFC 9110, section 9.2.1)."""
    return current_request().method in {"GET", "HEAD"}


def insert_once(model: type[Base], **columns: Any) -> None:
    """Insert a row, unless there is one already that is unique in the same way."""
    dialects = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    insert: Any = dialects[database_name()](model)
    db.session.execute(insert.values(**columns).on_conflict_do_nothing())


def init_app(app: Flask) -> None:
    """Connect the application to the database at `DATABASE_URL`."""
    url: str = app.config["DATABASE_URL"]
    timeout: int = app.config["DATABASE_TIMEOUT_SECONDS"]
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "hide_parameters": True,  # What people sent does not belong in a log.
        "pool_size": app.config["THREADS"],
        "max_overflow": 0,
        "pool_use_lifo": True,  # What was read last through a connection is still at hand.
        "pool_timeout": timeout,
        "connect_args": {"timeout": timeout},
    }
    if url.startswith("postgresql"):
        settings = {
            "lock_timeout": f"{timeout}s",
            "statement_timeout": f"{2 * timeout}s",
            "idle_in_transaction_session_timeout": f"{2 * timeout}s",
            # Each time for the values at hand: a rare word is not found as a common one is.
            "plan_cache_mode": "force_custom_plan",
            # Else it would rather sort all that somebody has than read a page in order, row by row.
            "random_page_cost": "1",
        }
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] |= {
            "pool_pre_ping": True,
            "connect_args": {
                "autocommit": True,  # A transaction that only reads would be two more messages.
                "connect_timeout": timeout,
                # A host that is gone without a word is noticed: when it is asked, and when it is waited for.
                "tcp_user_timeout": 1000 * timeout,
                "keepalives_idle": timeout,
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            },
        }
    db.init_app(app)
    migrate.init_app(app, db)
    with app.app_context():
        if url.startswith("postgresql"):
            event.listen(db.engine, "begin", _begin)
        else:
            turns = WriteTurns(timeout)
            event.listen(db.engine, "connect", _prepare_sqlite)
            event.listen(db.engine, "begin", turns.begin)
            event.listen(db.engine, "checkin", turns.end)


class DriverErrors:
    """Raises the driver's errors as SQLAlchemy's; a connection that is lost leaves the pool.

    A context for statements that the driver alone executes. (A class, which costs each of them less than a
    generator would.)
    """

    def __init__(
        self, engine: Engine, connection: PoolProxiedConnection | None = None, sql: str | None = None
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._sql = sql

    def __enter__(self) -> None:
        """Let it begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Look at how it ended."""
        dialect: Any = self._engine.dialect
        if isinstance(error, dialect.loaded_dbapi.Error):
            if self._connection and dialect.is_disconnect(error, self._connection, None):
                self._connection.invalidate(error)
            raise DBAPIError.instance(self._sql, None, error, dialect.loaded_dbapi.Error) from error


def is_deadlock(error: OperationalError) -> bool:
    """Say whether the database ended a transaction because it and others waited for each other."""
    return getattr(error.orig, "sqlstate", None) == "40P01"


def is_busy(error: OperationalError) -> bool:
    """Say whether another process has SQLite locked (https://sqlite.org/rescode.html#busy)."""
    code: int = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _needs_transaction(connection: Connection) -> bool:
    """Say whether statements may write: those of a GET or HEAD only see what is committed by then."""
    is_automatic = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    return not is_automatic and not (has_request_context() and only_reads())


def _begin(connection: Connection) -> None:
    if _needs_transaction(connection):
        _execute(connection, "BEGIN")


def _execute(connection: Connection, sql: str) -> None:
    with DriverErrors(connection.engine, connection.connection, sql):
        connection.dialect.do_execute(connection.connection.cursor(), sql, ())


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # Transactions begin below, not in the driver.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


class WriteTurns:
    """How transactions begin on SQLite, where one writes at a time.

    Threads wait for each other here. SQLite itself would have them sleep and look again, longer each time:
    some would wait for a second while others come and go.
    """

    def __init__(self, seconds: float) -> None:
        self._lock = Lock()
        self._seconds = seconds

    def begin(self, connection: Connection) -> None:
        """Take the write lock at once, except for requests that only read, whose statements stand alone.

        A transaction that reads first and then writes cannot wait for another writer on SQLite: it fails at
        once with "database is locked", whatever the timeout (https://sqlite.org/lang_transaction.html).
        """
        if not _needs_transaction(connection):
            return
        # It lasts until the connection goes back. Who waits in vain asks SQLite: other processes write, too.
        if not connection.info.get("has_turn"):
            connection.info["has_turn"] = self._lock.acquire(timeout=self._seconds)
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            self._wait_for_others(connection)
        finally:
            driver.execute(f"PRAGMA busy_timeout = {1000 * self._seconds:.0f}")

    def _wait_for_others(self, connection: Connection) -> None:
        """Begin as soon as no other process writes.

        SQLite itself would look again at growing intervals, each 100 ms in the end, and rarely meet a gap.
        """
        end = monotonic() + self._seconds
        while True:
            try:
                return _execute(connection, "BEGIN IMMEDIATE")
            except OperationalError as error:
                if not is_busy(error) or monotonic() > end:
                    raise
            sleep(LOOK_AGAIN_SECONDS)

    def end(self, _connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
        """Let the next one write, when a connection goes back to the pool."""
        if record.info.pop("has_turn", False):
            self._lock.release()
