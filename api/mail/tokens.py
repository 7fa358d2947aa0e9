"""Tokens in emails: issued, redeemed once, revoked."""

from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, cast

from marshmallow import validate
from sqlalchemy import ColumnElement, CursorResult, Select, delete, select, update

from api.db import db, utc_now
from api.db.folding import folded
from api.mail.kinds import EmailKind
from api.models import EmailToken, User, WaitingEmail
from api.schemas.fields import TrimmedText
from api.web.problems import member_problem

TOKEN_LIFETIME = timedelta(minutes=30)
# The shortest time between two emails of the same kind to the same address.
EMAIL_INTERVAL = timedelta(minutes=1)


class EmailTokenField(TrimmedText):
    """A token that the user received by email."""

    METADATA = {
        "description": "The token in the email. White space around it is ignored.",
        "example": "mXb0ZkNfQ7oZ3sYv9tJ1aL5eWcRgHuKdPiTqBnVxSy0",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Length(max=100)], **kwargs)


def issue_token(kind: EmailKind, user: User, email: str) -> str:
    """Record an email to a user and return its token, which replaces earlier ones. The caller commits.

    The caller holds the lock on the user's row. The token is stored only if the kind has an endpoint that
    redeems it.
    """
    now = utc_now()
    db.session.execute(delete(EmailToken).where(EmailToken.user_id == user.id, is_expired(now)))
    token = token_urlsafe(32)
    db.session.merge(
        EmailToken(
            email=folded(email),
            kind=kind.name,
            user_id=user.id,
            token_hash=_hash(token) if kind.endpoint else None,
            created_at=now,
        )
    )
    return token


def is_expired(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a token is expired."""
    return EmailToken.created_at <= now - TOKEN_LIFETIME


def last_sent_at(kind: EmailKind, email: str) -> datetime | None:
    """Return the time of the last email of a kind to an address, unless it was long ago."""
    last = db.session.get(EmailToken, (folded(email), kind.name))
    return last.created_at if last else None


def ensure_token(kind: EmailKind, token: str) -> None:
    """Raise the problem `wrong_token` unless the token, the body's member `token`, is valid."""
    if db.session.scalar(_owner(kind, token)) is None:
        raise member_problem("wrong_token", "token")


def redeem_token(kind: EmailKind, token: str) -> User:
    """Revoke a token and return its user, with the row locked. The caller commits.

    Raises the problem `wrong_token` as `ensure_token` does.
    """
    locked = _owner(kind, token).with_for_update(of=User, key_share=True)
    user = db.session.scalar(locked, execution_options={"populate_existing": True})
    # A request that waited for the lock updates no row if another one used the token meanwhile.
    if user is None or not _revoke(EmailToken.token_hash == _hash(token)):
        raise member_problem("wrong_token", "token")
    return user


def revoke_tokens(kind: EmailKind, user: User) -> None:
    """Revoke a user's tokens of a kind, and the emails of that kind that wait."""
    waiting = delete(WaitingEmail).where(WaitingEmail.user_id == user.id, WaitingEmail.kind == kind.name)
    db.session.execute(waiting)
    _revoke(EmailToken.user_id == user.id, EmailToken.kind == kind.name)


def _owner(kind: EmailKind, token: str) -> Select[User]:
    """Return a SELECT of the user of a valid token. The user must still have the address it was sent to."""
    return (
        select(User)
        .join(EmailToken, (EmailToken.user_id == User.id) & (EmailToken.email == User.folded_email))
        .where(
            EmailToken.kind == kind.name,
            EmailToken.token_hash == _hash(token),
            ~is_expired(utc_now()),
        )
    )


def _revoke(*conditions: ColumnElement[bool]) -> int:
    """Revoke tokens, and return their number."""
    revoked = (
        update(EmailToken).where(*conditions, EmailToken.token_hash.is_not(None)).values(token_hash=None)
    )
    return cast("CursorResult[Any]", db.session.execute(revoked)).rowcount


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
