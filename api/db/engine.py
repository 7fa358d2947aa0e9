"""The engine and its connection pool."""

import os
from pathlib import Path

from flask import Flask
from sqlalchemy import Connection, event, text

from api.config import threads_of_one_kind
from api.db import postgresql
from api.db.extension import db, migrate
from api.db.replicas import Replicas
from api.db.sqlite_file import DriverConnection, SQLiteFile
from api.db.sqlite_write_lock import SQLiteWriteLock
from api.db.transactions import dialect_name, in_autocommit


def init_app(app: Flask) -> None:
    """Configure the engine for the database at `DATABASE_URL`. It connects at first use."""
    url: str = app.config["DATABASE_URL"]
    timeout: int = app.config["DATABASE_TIMEOUT_SECONDS"]
    threads: int = app.config["THREADS"]
    replica_urls: list[str] = app.config["DATABASE_REPLICA_URLS"]
    is_postgresql = url.startswith("postgresql")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    options = app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "hide_parameters": True,  # User input does not belong in a log.
        # One for each thread that uses the database: those that read and write, the two for passwords, the
        # event loop's, and the one that sends emails. With replicas, the one that stores heartbeats.
        "pool_size": threads + threads_of_one_kind(threads) + 4 + bool(replica_urls),
        "max_overflow": 0,
        "pool_use_lifo": True,  # The most recently used connection has the warmest caches.
        "pool_timeout": timeout,
        "connect_args": postgresql.connect_arguments(timeout) if is_postgresql else {"timeout": timeout},
    }
    app.config["SQLALCHEMY_BINDS"] = {
        # One for each thread that reads, and the one that polls.
        f"replica-{number}": {**options, "pool_size": threads + 1, "url": replica_url}
        for number, replica_url in enumerate(replica_urls, start=1)
    }
    db.init_app(app)
    migrate.init_app(app, db)
    with app.app_context():
        if is_postgresql:
            postgresql.listen(db.engine, timeout)
        else:
            _listen_on_sqlite(timeout)
        replicas = {name: engine for name, engine in db.engines.items() if name}
        for engine in replicas.values():
            postgresql.listen(engine, timeout, is_replica=True)
        metrics = app.extensions.get("metrics")
        if metrics:
            for name, engine in db.engines.items():
                metrics.listen(engine, name or "primary")
        if replicas:
            app.extensions["replicas"] = Replicas(db.engine, replicas, app.logger, metrics)


def is_read_only() -> bool:
    """Whether the database refuses writes.

    PostgreSQL does if it is a standby, or set up as read-only. It returns True for a new connection only:
    older ones may lead to the former primary after a failover. On SQLite, the process must be allowed to
    write to the file and to its folder.
    """
    if dialect_name() == "sqlite":
        file = Path(str(db.engine.url.database))
        return any(path.exists() and not os.access(path, os.W_OK) for path in (file, file.parent))
    for _ in range(2):
        with db.engine.connect() as connection:
            if connection.scalar(text("SHOW transaction_read_only")) == "off":
                return False
            db.engine.pool._invalidate(connection.connection)  # And the others of the pool.
    return True


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
