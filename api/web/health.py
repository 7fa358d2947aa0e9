"""Liveness and readiness checks for load balancers and supervisors."""

from flask import Blueprint
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.db import db
from api.db.engine import is_read_only
from api.web.problems import unavailable

health = Blueprint("health", __name__)


@health.get("/livez")
def livez() -> dict[str, str]:
    """Respond with 200 if the process is running. Does not use the database."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Respond with 200 if the database has been migrated and can be written to; otherwise with 503."""
    try:
        if is_read_only():
            raise unavailable(detail="The database is read-only: reads succeed, writes do not.")
        db.session.execute(text("SELECT version_num FROM alembic_version"))
    except DBAPIError as error:
        if error.connection_invalidated:
            raise  # The view is retried on a new connection.
        raise unavailable() from None
    return {"status": "ok"}
