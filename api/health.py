"""Whether the service lives, and whether it can answer: for load balancers and supervisors."""

from flask import Blueprint
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.database import db
from api.errors import unavailable

health = Blueprint("health", __name__)


@health.get("/livez")
def livez() -> dict[str, str]:
    """Say that the process answers. Needs no database."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Say that the database answers too, and that its tables are there; otherwise 503."""
    try:
        db.session.execute(text("SELECT version_num FROM alembic_version"))
    except DBAPIError:
        raise unavailable() from None
    return {"status": "ok"}
