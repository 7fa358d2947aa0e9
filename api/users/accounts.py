"""Changes to accounts that both the routes and the `flask users` commands make. The caller commits."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete

from api.auth import passwords
from api.db import db, utc_now
from api.mail.emails import send_email
from api.mail.kinds import EMAIL_VERIFICATION
from api.models import Session, User
from api.users.queries import ids_of_posts_changed_by_deleting_user, ids_of_users_changed_by_deleting_user


def register(fields: Mapping[str, Any]) -> User:
    """Insert a user, given what `UserCreateSchema` loaded, and send the email that verifies the address."""
    columns = dict(fields)
    user = User(password_hash=passwords().hash(columns.pop("password")), **columns)
    db.session.add(user)
    db.session.flush()
    send_email(EMAIL_VERIFICATION, user)
    return user


def lock_rows_around(user_id: int) -> None:
    """Lock all rows that change when a user is deleted, in locking order."""
    db.session.execute(ids_of_posts_changed_by_deleting_user(user_id).with_for_update())
    db.session.execute(ids_of_users_changed_by_deleting_user(user_id).with_for_update())


def suspend(user: User) -> None:
    """Keep a user, whose row is locked, from signing in, and end their sessions."""
    user.suspended_at = user.suspended_at or utc_now()
    end_sessions(user)


def restore(user: User) -> None:
    """Allow a suspended user to sign in again."""
    user.suspended_at = None


def end_sessions(user: User, *, other_than: int | None = None) -> None:
    """End all sessions of a user, or all but one."""
    # Updates the user first: a concurrent sign-in with an old password waits for this row, then fails; an
    # earlier one is deleted below.
    db.session.flush()
    is_ended = Session.user_id == user.id, Session.id.is_distinct_from(other_than)
    db.session.execute(delete(Session).where(*is_ended))
