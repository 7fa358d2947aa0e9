"""What the service writes to people, and the tokens in it."""

from datetime import timedelta
from functools import partial
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, NamedTuple, cast

from flask import Response, after_this_request, current_app
from marshmallow import validate
from sqlalchemy import ColumnElement, CursorResult, Select, delete, select, update

from api.database import db, utc_now
from api.errors import Problem, member_problem
from api.mail import Mail, send_later
from api.models import Letter, User
from api.schema import Text

TOKEN_LIFE = timedelta(minutes=30)
# An address gets no second letter of a kind sooner than this, whoever asks for it and however.
PAUSE = timedelta(minutes=1)

LETTER = """\
Hello {username},

{text}

Microblog
"""
WITH_PAGE = """\
Please open this page within 30 minutes; it works once:

{page}"""
WITHOUT_PAGE = """\
Please give this token to the app that you use, within 30 minutes; it
works once:

{token}

(The app sends it to POST {path}.)"""


class MailedToken(Text):
    """A token that came by mail."""

    METADATA = {
        "description": "The token that was mailed to you.",
        "example": "mXb0ZkNfQ7oZ3sYv9tJ1aL5eWcRgHuKdPiTqBnVxSy0",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Length(max=100)], **kwargs)


class Kind(NamedTuple):
    """A kind of letter. One with a token has the endpoint that takes it, and the setting for a page."""

    name: str
    subject: str
    text: str
    endpoint: str = ""
    page_setting: str = ""


PASSWORD_RESET = Kind(
    "password_reset",
    "A new password for Microblog",
    """\
somebody, we hope you, asked for a new password for your account on
Microblog.

{request}

If it was not you, there is nothing to do: your password stays as it is.""",
    "password_resets.redeem_password_reset",
    "PASSWORD_RESET_URL",
)
EMAIL_VERIFICATION = Kind(
    "email_verification",
    "Is this your e-mail address?",
    """\
your account on Microblog has this e-mail address. Is it yours?

{request}

If you have no account there, somebody mistyped an address, and there is
nothing to do.""",
    "email_verifications.redeem_email_verification",
    "EMAIL_VERIFICATION_URL",
)
EMAIL_CHANGE = Kind(
    "email_change",
    "Your account has another e-mail address",
    """\
your account on Microblog has another e-mail address now; we write no
more to this one.

If it was not you who changed it, please tell whoever runs the service.""",
)


def write_later(kind: Kind, to_whom: ColumnElement[bool], *, email: str | None = None) -> None:
    """Write to a user, if there is one, at their address or another, once this request has been answered.

    Even looking for the user is left for later, so that no answer can tell whether there is one.
    """

    @after_this_request
    def send(response: Response) -> Response:
        send_later(partial(_write, kind, to_whom, email))
        return response


def ensure_token(kind: Kind, token: str) -> None:
    """Refuse a token that is not good; the member of the body that has it must be called `token`."""
    if db.session.scalar(_owner_of(kind, token)) is None:
        raise _wrong_token()


def redeem(kind: Kind, token: str) -> User:
    """Return the user to whom a token was mailed, their row locked. It works once: the caller commits.

    Refuses like `ensure_token`.
    """
    locked = _owner_of(kind, token).with_for_update(of=User, key_share=True)
    user = db.session.scalar(locked, execution_options={"populate_existing": True})
    # Who had to wait for the lock finds the token gone.
    if user is None or not _end_tokens(Letter.token_hash == _hash(token)):
        raise _wrong_token()
    return user


def end_tokens(kind: Kind, user: User) -> None:
    """End the tokens of a kind that were mailed to a user."""
    _end_tokens(Letter.user_id == user.id, Letter.kind == kind.name)


def _write(kind: Kind, to_whom: ColumnElement[bool], email: str | None) -> Mail | None:
    """Return a letter, with a new token in place of the one before; None if there is nobody to write to."""
    user = db.session.scalar(select(User).where(to_whom).with_for_update(key_share=True))
    if user is None:
        return None
    now = utc_now()
    to = email or user.email
    db.session.execute(delete(Letter).where(Letter.user_id == user.id, Letter.written_at <= now - TOKEN_LIFE))
    last = db.session.get(Letter, (to.lower(), kind.name))
    if last and last.written_at > now - PAUSE:
        return None
    token = token_urlsafe(32)
    db.session.merge(
        Letter(
            email=to.lower(),
            kind=kind.name,
            user_id=user.id,
            token_hash=_hash(token) if kind.endpoint else None,
            written_at=now,
        )
    )
    db.session.commit()
    text = kind.text.format(request=_request(kind, token) if kind.endpoint else "")
    return Mail(to, kind.subject, LETTER.format(username=user.username, text=text))


def _request(kind: Kind, token: str) -> str:
    """Return what a letter asks for: to open a page of the front end or, without one, to use the token."""
    page = current_app.config.get(kind.page_setting)
    if page:
        return WITH_PAGE.format(page=page.replace("{token}", token))
    path = current_app.url_map.bind("").build(kind.endpoint)
    return WITHOUT_PAGE.format(token=token, path=path)


def _owner_of(kind: Kind, token: str) -> Select[User]:
    """The user to whom a token was mailed, if it is still good and the address still theirs."""
    return (
        select(User)
        .join(Letter, (Letter.user_id == User.id) & (Letter.email == User.folded_email))
        .where(
            Letter.kind == kind.name,
            Letter.token_hash == _hash(token),
            Letter.written_at > utc_now() - TOKEN_LIFE,
        )
    )


def _end_tokens(*which: ColumnElement[bool]) -> int:
    """End tokens, and return how many."""
    ended = update(Letter).where(*which, Letter.token_hash.is_not(None)).values(token_hash=None)
    return cast("CursorResult[Any]", db.session.execute(ended)).rowcount


def _hash(token: str) -> str:
    """Return what is kept of a token (see `Letter`)."""
    return sha256(token.encode()).hexdigest()


def _wrong_token() -> Problem:
    return member_problem("wrong_token", "token")
