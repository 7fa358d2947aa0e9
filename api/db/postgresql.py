"""Connections to PostgreSQL: requirements of the database, settings of sessions, and discarded connections.

The settings of a session override those of the server, the database and the role. A pooler such as PgBouncer
may run each transaction of a connection in another session; there, each transaction sets them.
"""

from collections.abc import Mapping
from math import inf
from time import perf_counter
from typing import Any

import psycopg
from flask import g, has_request_context
from sqlalchemy import Connection, Engine, ExceptionContext, event

from api.db.transactions import IS_POOLED, READ_ONLY, in_autocommit

VERSION_MINIMUM = 12  # The first version with generated columns.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# Poolers track these for each of their clients. psycopg parses no other format of datetimes.
FORMATS = {"DateStyle": "ISO", "TimeZone": "UTC", "standard_conforming_strings": "on"}
# A read waits for a lock only while another session alters or locks the whole table. Without a short timeout,
# reads of several operations could together hold all threads.
READ_LOCK_TIMEOUT = "1s"
INSPECTION = """
    SELECT pg_backend_pid(), current_schema(), current_setting('server_encoding'),
        current_setting('server_version_num')::integer / 10000
"""
# Keys of `Connection.info`: the SQL that begins a transaction, and the time at which it was opened.
BEGIN_SQL, OPENED_AT = "begin_sql", "opened_at"


class UnsuitableDatabaseError(psycopg.OperationalError):
    """The database must be set up differently; the message says how."""


def connect_arguments(timeout: int) -> dict[str, Any]:
    """Return the arguments of `psycopg.connect`, with a timeout in seconds."""
    return {
        "autocommit": True,  # Saves BEGIN and COMMIT around requests that only read.
        "client_encoding": "utf8",
        "connect_timeout": timeout,
        # Detect an unreachable host, both when sending and when waiting for a reply.
        "tcp_user_timeout": 1000 * timeout,
        "keepalives_idle": timeout,
    }


def listen(engine: Engine, timeout: int, *, is_replica: bool = False) -> None:
    """Prepare the connections of an engine, begin transactions, and discard outdated connections.

    Connections to a replica are read-only, whatever the server is.
    """
    limits = {
        "lock_timeout": READ_LOCK_TIMEOUT,
        "statement_timeout": f"{2 * timeout}s",
        "idle_in_transaction_session_timeout": f"{2 * timeout}s",
        # With the default of 4, PostgreSQL sorts whole lists instead of reading a page in index order.
        "random_page_cost": "1",
        # Starting parallel workers or compiling a statement takes longer than reading a page. The estimate
        # for a search adds up both its plans, of which only one may run.
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
    }
    lock_timeout = {"lock_timeout": f"{timeout}s"}  # Of transactions.
    session = {
        "default_transaction_isolation": "read committed",  # Of statements in autocommit.
        # With a parameter as LIMIT, a generic plan assumes a tenth of all rows, and seems expensive. By
        # default, PostgreSQL would plan each execution. (See also `CUSTOM_PLAN`.)
        "plan_cache_mode": "force_generic_plan",
    }
    if is_replica:
        session["default_transaction_read_only"] = "on"

    @event.listens_for(engine, "connect", insert=True)  # Before SQLAlchemy's own statements.
    def prepare(connection: Any, record: Any) -> None:
        # The timeout of the server, the database or the role may be too short for the inspection.
        cursor = connection.execute(f"{_set('LOCAL', limits)}; {INSPECTION}")
        while cursor.nextset():
            pass
        pid, schema, encoding, version = cursor.fetchone()
        ensure_suitable(schema, encoding, version)
        # A pooler sends a process id of its own when a client connects.
        is_pooled = pid != connection.info.backend_pid
        if is_pooled and is_replica:
            # Its connection stays open when the server behind it changes (see `Replica.ensure_known`).
            raise UnsuitableDatabaseError("A replica must be connected without a pooler.")
        if is_pooled:
            connection.prepare_threshold = None  # Statements are prepared in one session.
            connection.execute(_set("SESSION", FORMATS))
        else:
            connection.execute(_set("SESSION", limits | FORMATS | session))
        record.info[IS_POOLED] = is_pooled
        local = _set("LOCAL", limits | lock_timeout if is_pooled else lock_timeout)
        record.info[BEGIN_SQL] = f"{BEGIN}; {local}"
        record.info[OPENED_AT] = perf_counter()

    event.listen(engine, "begin", begin)
    event.listen(engine, "handle_error", discard_if_outdated)


def _set(scope: str, settings: Mapping[str, str]) -> str:
    return "; ".join(f"SET {scope} {name} TO '{value}'" for name, value in settings.items())


def ensure_suitable(schema: str | None, encoding: str, version: int) -> None:
    """Raise UnsuitableDatabaseError if the service cannot use a database."""
    if encoding != "UTF8":
        raise UnsuitableDatabaseError(
            f"its encoding is {encoding} and must be UTF8. Create the database with ENCODING 'UTF8'."
        )
    if version < VERSION_MINIMUM:
        raise UnsuitableDatabaseError(f"PostgreSQL {VERSION_MINIMUM} or later is required, not {version}.")
    if schema is None:
        raise UnsuitableDatabaseError("search_path contains no schema that exists and that the role may use.")


def begin(connection: Connection) -> None:
    """Begin a transaction. The driver is in autocommit mode, so that reads send no BEGIN and COMMIT."""
    if not in_autocommit(connection):
        connection.exec_driver_sql(connection.info[BEGIN_SQL])


def discard_if_outdated(context: ExceptionContext) -> None:
    """Have SQLAlchemy discard an outdated connection, and the others of the pool, which are as old."""
    if context.connection and is_outdated(context.original_exception, context.connection.info):
        context.is_disconnect = True


def is_outdated(error: BaseException, info: Mapping[Any, Any]) -> bool:
    """Whether the transaction was read-only, and a new connection may lead to another server.

    After a failover, connections to the former primary stay open. A connection that was opened during the
    request is kept, because another one would report the same.
    """
    began_at = g.get("view_began_at", inf) if has_request_context() else inf
    return getattr(error, "sqlstate", None) == READ_ONLY and info[OPENED_AT] < began_at
