"""Liveness and readiness checks for load balancers and supervisors."""

from flask import Blueprint
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.db import db
from api.web.problems import unavailable

health = Blueprint("health", __name__)


@health.get("/livez")
def livez() -> dict[str, str]:
    """Respond with 200 if the process is running. Does not use the database."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Respond with 200 if the database can be reached and has been migrated; otherwise with 503."""
    try:
        db.session.execute(text("SELECT version_num FROM alembic_version"))
    except DBAPIError:
        raise unavailable() from None
    return {"status": "ok"}
