"""Changes to accounts that both the routes and the `flask users` commands make. The caller commits."""

from typing import Any

from sqlalchemy import delete

from api.auth.authentication import passwords
from api.db import db
from api.mail.emails import send_email
from api.mail.kinds import EMAIL_VERIFICATION
from api.models import Session, User
from api.users.queries import ids_of_posts_changed_by_deleting_user, ids_of_users_changed_by_deleting_user


def register(password: str, **columns: Any) -> User:
    """Insert a user with the fields of `UserCreateSchema`, and send the email that verifies the address."""
    user = User(password_hash=passwords().hash(password), **columns)
    db.session.add(user)
    db.session.flush()
    send_email(EMAIL_VERIFICATION, user)
    return user


def lock_rows_changed_by_deletion(user_id: int) -> None:
    """Lock all rows that change when a user is deleted, in locking order."""
    db.session.execute(ids_of_posts_changed_by_deleting_user(user_id).with_for_update())
    db.session.execute(ids_of_users_changed_by_deleting_user(user_id).with_for_update())


def end_sessions(user: User, *, other_than: int | None = None) -> None:
    """End all sessions of a user, or all but one."""
    # Updates the user first: a concurrent sign-in with an old password waits for this row, then fails; an
    # earlier one is deleted below.
    db.session.flush()
    is_ended = Session.user_id == user.id, Session.id.is_distinct_from(other_than)
    db.session.execute(delete(Session).where(*is_ended))
