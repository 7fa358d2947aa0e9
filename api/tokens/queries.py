"""Queries for sessions."""

from datetime import datetime

from sqlalchemy import ColumnElement, Select, select

from api.models import Session
from api.rendering.descriptions import query


@query
def sessions_of(user_id: int, now: datetime) -> Select[Session]:
    """Return a user's sessions that have not expired."""
    return select(Session).where(Session.user_id == user_id, ~is_expired(now))


def is_expired(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a session is expired."""
    return Session.expires_at <= now


def session_of(user_id: int, session_id: int) -> Select[Session]:
    """Return one of a user's sessions."""
    return select(Session).where(Session.id == session_id, Session.user_id == user_id)
