"""Which sessions."""

from datetime import datetime

from sqlalchemy import Select, select

from api.models import Session, User


def sessions_of(user: User, current: Session, now: datetime) -> Select[Session, bool]:
    """Where a user is signed in, each with whether it is the current one."""
    is_current = (Session.id == current.id).label("is_current")
    return select(Session, is_current).where(Session.user_id == user.id, Session.expires_at > now)


def session_of(user: User, session_id: int) -> Select[Session]:
    """One of a user's sessions."""
    return select(Session).where(Session.id == session_id, Session.user_id == user.id)
