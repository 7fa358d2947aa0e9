"""The engine and its connection pool."""

import sqlite3
from typing import Any

from flask import Flask
from sqlalchemy import Connection, event

from api.db.extension import db, migrate
from api.db.sqlite_write_lock import SQLiteWriteLock
from api.db.transactions import begin_on_postgresql, in_autocommit


def init_app(app: Flask) -> None:
    """Configure the engine for the database at `DATABASE_URL`. It connects at first use."""
    url: str = app.config["DATABASE_URL"]
    timeout: int = app.config["DATABASE_TIMEOUT_SECONDS"]
    is_postgresql = url.startswith("postgresql")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "hide_parameters": True,  # User input does not belong in a log.
        # One for each thread that runs requests (those, the two for passwords, and the event loop's), and one
        # for the thread that sends emails.
        "pool_size": app.config["THREADS"] + 4,
        "max_overflow": 0,
        "pool_use_lifo": True,  # The most recently used connection has the warmest caches.
        "pool_timeout": timeout,
        "connect_args": _postgresql_arguments(timeout) if is_postgresql else {"timeout": timeout},
    }
    db.init_app(app)
    migrate.init_app(app, db)
    with app.app_context():
        if is_postgresql:
            event.listen(db.engine, "begin", begin_on_postgresql)
        else:
            _listen_on_sqlite(timeout)


def _postgresql_arguments(timeout: int) -> dict[str, Any]:
    settings = {
        "lock_timeout": f"{timeout}s",
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

    @event.listens_for(db.engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # `begin` below begins transactions, not the driver.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(db.engine, "begin")
    def begin(connection: Connection) -> None:
        if not in_autocommit(connection):
            write_lock.begin(connection)

    event.listen(db.engine, "checkin", write_lock.release)
