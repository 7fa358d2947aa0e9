"""Whether the service lives, and whether it can answer: for load balancers and supervisors."""

from flask import Blueprint
from sqlalchemy import text

from api.database import db

health = Blueprint("health", __name__)


@health.get("/livez")
def livez() -> dict[str, str]:
    """Say that the process answers. Needs no database."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Say that the database answers too; otherwise 503."""
    db.session.execute(text("SELECT 1"))
    return {"status": "ok"}
