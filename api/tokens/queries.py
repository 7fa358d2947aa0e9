"""Which sessions."""

from datetime import datetime

from sqlalchemy import Select, select

from api.models import Session
from api.prepared import prepared


@prepared
def sessions_of(user_id: int, current_id: int, now: datetime) -> Select[Session, bool]:
    """Where a user is signed in, each with whether it is the current one."""
    is_current = (Session.id == current_id).label("is_current")
    return select(Session, is_current).where(Session.user_id == user_id, Session.expires_at > now)


def session_of(user_id: int, session_id: int) -> Select[Session]:
    """One of a user's sessions."""
    return select(Session).where(Session.id == session_id, Session.user_id == user_id)
