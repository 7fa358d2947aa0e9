"""Liveness and readiness checks for load balancers and supervisors."""

from flask import Blueprint
from sqlalchemy.exc import DBAPIError

from api.db.engine import is_read_only
from api.db.revisions import current_revision
from api.web.problems import unavailable

UNREACHABLE = "The database cannot be reached."
READ_ONLY = "The database is read-only: reads succeed, writes do not."
NOT_MIGRATED = "The database is not migrated: `flask db upgrade` has not run."

health = Blueprint("health", __name__)


@health.get("/livez")
def livez() -> dict[str, str]:
    """Respond with 200 if the process is running. Does not use the database."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Respond with 200 if the database has been migrated and can be written to; otherwise with 503.

    It sends two statements on PostgreSQL, one on SQLite, and writes nothing.
    """
    try:
        if is_read_only():
            raise unavailable(READ_ONLY)
        if current_revision() is None:
            raise unavailable(NOT_MIGRATED)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise  # The view is retried on a new connection.
        raise unavailable(UNREACHABLE) from None
    return {"status": "ok"}
