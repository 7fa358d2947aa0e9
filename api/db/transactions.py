"""Begins transactions, and retries requests whose transaction the database rolled back.

Requests with a safe method (GET, HEAD) run in autocommit, except behind a pooler: each statement sees all
changes committed before it. All other requests, and commands, run in a transaction: the first statement
begins it, and `db.session.commit()` in the route ends it. On SQLite it holds the write lock from its
beginning.
"""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from time import perf_counter, sleep
from typing import Any

from flask import Flask, g, has_request_context, request
from sqlalchemy import Connection, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, NotSupportedError, ProgrammingError

from api.db.extension import Base, db
from api.db.routing import leave_replica

View = Callable[..., Any]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# SQLSTATEs of transactions that PostgreSQL rolled back because of others: on a standby, because of a conflict
# with the primary, and as the victim of a deadlock.
ROLLED_BACK = frozenset({"40001", "40P01"})
# SQLSTATE of a write in a read-only transaction: on a standby, or if the database is set up as read-only.
READ_ONLY = "25006"

# SQLite has no queue for its write lock: a process that waits for it looks again after at most 100 ms.
PAUSE_SECONDS = {"sqlite": 0.12, "postgresql": 0}

# Key of `Connection.info`: whether a pooler may run each transaction of the connection in another session.
IS_POOLED = "is_pooled"

# For `db.get_or_404` and `db.session.get`: FOR NO KEY UPDATE locks the row until the transaction ends.
# Rows are locked in a fixed order, posts before users and each by id, so that transactions do not deadlock.
# SQLite has no row locks: the transaction holds the write lock.
FOR_NO_KEY_UPDATE: dict[str, Any] = {"with_for_update": {"key_share": True}}


def is_safe_request() -> bool:
    """Whether a request is being processed, and its method is safe: it must not change rows."""
    return has_request_context() and request.method in SAFE_METHODS


def in_autocommit(connection: Connection) -> bool:
    """Whether a connection needs no BEGIN: in a request with a safe method, or by its isolation level.

    Behind a pooler, requests with a safe method need one, for the settings of the session.
    """
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    return is_safe_request() and not connection.info.get(IS_POOLED)


@event.listens_for(db.session, "before_flush")
def refuse_to_flush_in_autocommit(*_arguments: object) -> None:
    """Raise RuntimeError if a view for GET or HEAD changes rows, because it has no transaction."""
    if is_safe_request():
        raise RuntimeError(f"{request.method} requests run in autocommit and must not change rows")


def init_app(app: Flask) -> None:
    """Retry every view whose transaction the database rolled back."""
    for endpoint, view in app.view_functions.items():
        app.view_functions[endpoint] = retry_rolled_back(view)


def retry_rolled_back(view: View) -> View:
    """Retry a view that PostgreSQL rolled back, or whose connection or replica failed; at most twice.

    Deadlocks are possible although rows are locked in a fixed order: deleting an account changes rows of many
    other users, and these may change concurrently. A lost connection was usually closed since its last use. A
    retry costs less than a test at each checkout (`pool_pre_ping`).
    """

    @wraps(view)
    def wrapper(*args: object, **kwargs: object) -> object:
        g.view_began_at = perf_counter()
        for _ in range(2):
            try:
                return view(*args, **kwargs)
            except DBAPIError as error:
                if not (leave_replica(error) or is_rolled_back(error) or is_discarded(error)):
                    raise
                db.session.remove()
        return view(*args, **kwargs)

    return wrapper


def yield_to_writers() -> None:
    """Pause between two transactions of a command that runs many, so that requests can write."""
    sleep(PAUSE_SECONDS[dialect_name()])


def is_rolled_back(error: DBAPIError) -> bool:
    """Whether PostgreSQL rolled back the transaction because of others."""
    return getattr(error.orig, "sqlstate", None) in ROLLED_BACK


def is_discarded(error: DBAPIError) -> bool:
    """Whether the connection was discarded and nothing was committed."""
    # SQLAlchemy reports an error of COMMIT without a statement; that COMMIT may have taken effect.
    is_read_only = getattr(error.orig, "sqlstate", None) == READ_ONLY
    return error.connection_invalidated and (error.statement is not None or is_read_only)


def is_programming_error(error: Exception) -> bool:
    """Whether a statement does not fit the database: SQLite reports a missing table like an outage."""
    is_missing = re.match("no such (table|column)", str(getattr(error, "orig", "")))
    return isinstance(error, ProgrammingError | NotSupportedError) or is_missing is not None


def reason_of(error: Exception) -> str:
    """Return the first line of the driver's message or, if the driver raised no error, of the error's own."""
    return str(getattr(error, "orig", error)).partition("\n")[0]


def dialect_name() -> str:
    """Return the name of the database's dialect: `sqlite` or `postgresql`."""
    return db.engine.dialect.name


def insert_if_absent(model: type[Base], **columns: object) -> None:
    """Insert a row, or do nothing if it would violate a unique constraint."""
    db.session.execute(_insert(model).values(**columns).on_conflict_do_nothing())


def insert_or_update(model: type[Base], changes: Iterable[str], **columns: object) -> None:
    """Insert a row or, if there is one with its primary key, change some columns of that."""
    statement = _insert(model).values(**columns)
    statement = statement.on_conflict_do_update(
        index_elements=list(inspect(model).primary_key),
        set_={name: statement.excluded[name] for name in changes},
    )
    db.session.execute(statement)


def _insert(model: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """Return the INSERT of the database's dialect, which has ON CONFLICT."""
    return sqlite.insert(model) if dialect_name() == "sqlite" else postgresql.insert(model)
