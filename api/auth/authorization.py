"""Authorization of callers, and access to their own row."""

from sqlalchemy import select

from api.auth.authentication import current_session_id, current_user_id, invalid_token, passwords
from api.db import db
from api.models import Post, Session, User
from api.web.problems import Problem, member_problem


def current_user() -> User:
    """Return the caller. Raises 401 if the account was deleted after the token was checked."""
    user = db.session.get(User, current_user_id())
    if user is None:
        raise invalid_token()
    return user


def locked_user() -> User:
    """Return the caller, read again, with their row locked until the transaction ends.

    Raises 401 if the account or the session ended after the token was checked.
    """
    own = select(User).where(User.id == current_user_id()).with_for_update()
    user = db.session.scalar(own, execution_options={"populate_existing": True})
    # A separate statement, which sees the changes that the lock waited for.
    session = select(Session.id).where(Session.id == current_session_id())
    if user is None or db.session.scalar(session) is None:
        raise invalid_token()
    return user


def ensure_author(post: Post) -> None:
    """Raise 403 unless the caller is the post's author."""
    if post.user_id != current_user_id():
        raise Problem("forbidden")


def ensure_password(password: str, member: str) -> None:
    """Raise 403 unless the password is the caller's; `member` is its name in the body.

    Ends the transaction, so that none is open while the password is checked.
    """
    password_hash = current_user().password_hash
    db.session.commit()
    if not passwords().verify(password_hash, password):
        raise member_problem("wrong_password", member)
