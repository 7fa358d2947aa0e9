"""The engine and its connection pool."""

from typing import Any

from flask import Flask
from sqlalchemy import Connection, event

from api.config import threads_of_one_kind
from api.db.extension import db, migrate
from api.db.sqlite_file import DriverConnection, SQLiteFile
from api.db.sqlite_write_lock import SQLiteWriteLock
from api.db.transactions import begin_on_postgresql, in_autocommit

# A read waits for a lock only while another session alters or locks the whole table. Within one operation
# after the other, such reads could hold all threads.
READ_LOCK_TIMEOUT = "1s"


def init_app(app: Flask) -> None:
    """Configure the engine for the database at `DATABASE_URL`. It connects at first use."""
    url: str = app.config["DATABASE_URL"]
    timeout: int = app.config["DATABASE_TIMEOUT_SECONDS"]
    threads: int = app.config["THREADS"]
    is_postgresql = url.startswith("postgresql")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "hide_parameters": True,  # User input does not belong in a log.
        # One for each thread that runs requests: those that read and write, the two for passwords, and the
        # event loop's.
        "pool_size": threads + threads_of_one_kind(threads) + 3,
        "max_overflow": 0,
        "pool_use_lifo": True,  # The most recently used connection has the warmest caches.
        "pool_timeout": timeout,
        "connect_args": _postgresql_arguments(timeout) if is_postgresql else {"timeout": timeout},
    }
    db.init_app(app)
    migrate.init_app(app, db)
    with app.app_context():
        if is_postgresql:
            event.listen(db.engine, "begin", lambda connection: begin_on_postgresql(connection, timeout))
        else:
            _listen_on_sqlite(timeout)


def _postgresql_arguments(timeout: int) -> dict[str, Any]:
    settings = {
        "lock_timeout": READ_LOCK_TIMEOUT,
        "statement_timeout": f"{2 * timeout}s",
        "idle_in_transaction_session_timeout": f"{2 * timeout}s",
        # With the default of 4, PostgreSQL sorts whole lists instead of reading a page in index order.
        "random_page_cost": "1",
    }
    return {
        "autocommit": True,  # Saves BEGIN and COMMIT around requests that only read.
        "connect_timeout": timeout,
        # Detect an unreachable host, both when sending and when waiting for a reply.
        "tcp_user_timeout": 1000 * timeout,
        "keepalives_idle": timeout,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }


def _listen_on_sqlite(timeout: int) -> None:
    write_lock = SQLiteWriteLock(timeout)
    file = SQLiteFile(db.engine)

    @event.listens_for(db.engine, "connect")
    def prepare(connection: DriverConnection, _record: object) -> None:
        connection.isolation_level = None  # `begin` below begins transactions, not the driver.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        file.register(connection)

    @event.listens_for(db.engine, "begin")
    def begin(connection: Connection) -> None:
        if not in_autocommit(connection):
            write_lock.begin(connection)

    event.listen(db.engine, "checkin", write_lock.release)
