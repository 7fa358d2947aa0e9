"""Begins transactions, and retries requests whose transaction the database rolled back.

Requests with a safe method (GET, HEAD) run in autocommit: each statement sees all changes
committed before it. All other requests, and commands, run in a transaction: the first statement begins it,
and `db.session.commit()` in the route ends it. On SQLite it holds the write lock from its beginning.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from flask import Flask, has_request_context, request
from sqlalchemy import Connection, event, insert, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from api.db.extension import Base, db

View = Callable[..., Any]

SAFE_METHODS = frozenset({"GET", "HEAD"})

# For `db.get_or_404` and `db.session.get`: FOR NO KEY UPDATE locks the row until the transaction ends.
# Rows are locked in a fixed order, posts before users and each by id, so that transactions do not deadlock.
# SQLite has no row locks: the transaction holds the write lock.
FOR_NO_KEY_UPDATE: dict[str, Any] = {"with_for_update": {"key_share": True}}


def in_autocommit(connection: Connection) -> bool:
    """Whether a connection needs no BEGIN: in a request with a safe method, or by its isolation level."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    return has_request_context() and request.method in SAFE_METHODS


@event.listens_for(db.session, "before_flush")
def refuse_to_flush_in_autocommit(*_arguments: object) -> None:
    """Raise RuntimeError if a view for GET or HEAD changes rows, because it has no transaction."""
    if has_request_context() and request.method in SAFE_METHODS:
        raise RuntimeError(f"{request.method} requests run in autocommit and must not change rows")


def begin_on_postgresql(connection: Connection) -> None:
    """Begin a transaction. The driver is in autocommit mode, so that reads send no BEGIN and COMMIT."""
    if not in_autocommit(connection):
        connection.exec_driver_sql("BEGIN")


def init_app(app: Flask) -> None:
    """Retry every view whose transaction the database rolled back."""
    for endpoint, view in app.view_functions.items():
        app.view_functions[endpoint] = retry_rolled_back(view)


def retry_rolled_back(view: View) -> View:
    """Retry a view whose transaction was a deadlock victim, or whose connection was lost; at most twice.

    Deadlocks are possible although rows are locked in a fixed order: deleting an account changes rows of many
    other users, and these may change concurrently. A lost connection was usually closed since its last use. A
    retry costs less than a test at each checkout (`pool_pre_ping`).
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for _ in range(2):
            try:
                return view(*args, **kwargs)
            except DBAPIError as error:
                if not (is_deadlock(error) or is_lost_before_commit(error)):
                    raise
                db.session.remove()
        return view(*args, **kwargs)

    return wrapper


def is_deadlock(error: DBAPIError) -> bool:
    """Whether the database rolled a transaction back to resolve a deadlock (SQLSTATE 40P01)."""
    return getattr(error.orig, "sqlstate", None) == "40P01"


def is_lost_before_commit(error: DBAPIError) -> bool:
    """Whether the connection was lost while executing a statement; a lost COMMIT may have taken effect."""
    return error.connection_invalidated and error.statement is not None


def database_name() -> str:
    """Return the name of SQLAlchemy's dialect: `sqlite` or `postgresql`."""
    return db.engine.dialect.name


def insert_row(model: type[Base], **columns: Any) -> int:
    """Insert a row with the column defaults, past the ORM's unit of work, and return its id.

    Publishing takes a third less processor time than with `db.session.add` and `flush`.
    """
    primary_key: Any = db.session.connection().execute(insert(model), columns).inserted_primary_key
    return int(primary_key[0])


def insert_if_absent(model: type[Base], **columns: Any) -> None:
    """Insert a row, or do nothing if it would violate a unique constraint."""
    db.session.execute(_insert(model).values(**columns).on_conflict_do_nothing())


def insert_or_update(model: type[Base], changes: Iterable[str], **columns: Any) -> None:
    """Insert a row or, if there is one with its primary key, change some columns of that."""
    statement = _insert(model).values(**columns)
    statement = statement.on_conflict_do_update(
        index_elements=list(inspect(model).primary_key),
        set_={name: statement.excluded[name] for name in changes},
    )
    db.session.execute(statement)


def _insert(model: type[Base]) -> Any:
    """Return the INSERT of the database's dialect, which has ON CONFLICT."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[database_name()](model)
