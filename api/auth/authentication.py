"""Authenticates callers, by password or by access token."""

import time
import unicodedata
from functools import wraps
from typing import Any, NoReturn, cast

from flask import Flask, current_app, has_request_context
from flask_httpauth import HTTPAuth, HTTPBasicAuth, HTTPTokenAuth
from sqlalchemy import CursorResult, bindparam, event, select, update

from api.auth.passwords import HASHES_AT_ONCE, Passwords
from api.auth.signing import signed_values
from api.db import db, utc_now
from api.db.driver import driver_rows
from api.db.folding import folded
from api.db.replicas import HAS_POSITION, POSITION, UNKNOWN
from api.models import Session, User
from api.models.session import created_at_of
from api.schemas.fields import CONTROL_CHARACTER, normalized_email, trimmed
from api.web.operation import View, operation_of
from api.web.problems import Problem
from api.web.wrappers import current_request

REALM = "microblog"
ACCESS_TOKEN = "access token"  # noqa: S105 -- a purpose, see api/auth/signing.py.

OWNER_OF_SESSION = select(Session.user_id, Session.last_write).where(
    Session.id == bindparam("session_id"),
    Session.created_at == bindparam("created_at"),
    Session.expires_at > bindparam("now"),
)

ACCOUNT = select(User.id, User.password_hash, User.suspended_at.is_not(None))
ACCOUNT_BY_USERNAME = ACCOUNT.where(User.folded_username == bindparam("login"))
ACCOUNT_BY_EMAIL = ACCOUNT.where(User.folded_email == bindparam("login"))

basic = HTTPBasicAuth(realm=REALM)
bearer = HTTPTokenAuth("Bearer", realm=REALM)


def init_app(app: Flask) -> None:
    """Create the password hasher with the parameters in the settings."""
    app.extensions["passwords"] = Passwords(
        memory=app.config["PASSWORD_HASH_MEMORY"],
        time=app.config["PASSWORD_HASH_TIME"],
        # Under a WSGI server, two threads stay free for others. `flask serve` has threads for passwords.
        queue=max(HASHES_AT_ONCE, app.config["THREADS"] - 2),
    )


def passwords() -> Passwords:
    """Return the application's password hasher."""
    return cast("Passwords", current_app.extensions["passwords"])


@event.listens_for(db.session, "before_commit")
def record_position(_session: object) -> None:
    """Store the position of a transaction in the caller's session, so that they read their writes.

    In the transaction itself: the position is known exactly if the transaction is.
    """
    session_id = current_request().session_id if has_request_context() else None
    if session_id is not None and "replicas" in current_app.extensions:
        position = update(Session).where(Session.id == session_id, HAS_POSITION).values(last_write=POSITION)
        db.session.execute(position, execution_options={"synchronize_session": False})


def password_required(view: View) -> View:
    """Require username (or email address) and password by HTTP Basic (RFC 7617)."""
    return _secured(view, "basicAuth", basic)


def token_required(view: View) -> View:
    """Require an access token as Bearer (RFC 6750)."""
    return _secured(view, "bearerAuth", bearer)


def token_optional(view: View) -> View:
    """Allow anonymous callers; if an access token is sent, it must be valid."""
    operation_of(view).security_is_optional = True
    for_token = _secured(view, "bearerAuth", bearer)

    @wraps(view)
    def wrapper(*args: object, **kwargs: object) -> object:
        if "HTTP_AUTHORIZATION" in current_request().environ:
            return for_token(*args, **kwargs)
        return view(*args, **kwargs)

    return wrapper


def current_user_id() -> int:
    """Return the id of the caller, who is authenticated."""
    return cast("int", current_request().user_id)


def current_session_id() -> int:
    """Return the id of the session of the caller's token."""
    return cast("int", current_request().session_id)


def access_claims(token: str) -> list[int] | None:
    """Return the claims of an access token: session id, origin, expiry (seconds since 1970) and user id.

    Returns None if the signature is invalid or the token has expired. Does not check in the database that the
    session exists.
    """
    request = current_request()
    if request.claims is None:  # Otherwise the rate limiter has checked the token already.
        request.claims = signed_values(ACCESS_TOKEN, token, 4) or []
    claims = request.claims
    return claims if claims and claims[2] > time.time() else None


def folded_login(name: str) -> str:
    """Return a username or email address, as it was typed, in the form of the folded columns."""
    name = trimmed(name)
    return folded(normalized_email(name) or name)


def account_with_login(login: str) -> tuple[int | None, str | None, bool]:
    """Return the id and the password hash of the user with a folded login, and whether they are suspended."""
    if not _is_possible(login):
        return None, None, False
    rows = driver_rows(ACCOUNT_BY_EMAIL if "@" in login else ACCOUNT_BY_USERNAME, login=login)
    return rows[0] if rows else (None, None, False)


def _is_possible(login: str) -> bool:
    """Whether a username or email address could be that of a user."""
    return bool(login) and login.isascii() and not CONTROL_CHARACTER.search(login)


def _secured(view: View, scheme: str, guard: HTTPAuth) -> View:
    operation = operation_of(view)
    operation.security = scheme
    operation.failures |= {401}
    return cast("View", guard.login_required(view))


def _scheme() -> str:
    return current_request().headers.get("Authorization", "").partition(" ")[0].lower()


@basic.verify_password
def _id_with_password(name: str, password: str) -> int | None:
    """Return the id of the user with these credentials; the transaction stays open, with the row locked."""
    login = folded_login(name)
    # Flask-HTTPAuth parses Basic credentials under any scheme.
    if not _is_possible(login) or _scheme() != "basic":
        return None
    user_id, password_hash, is_suspended = account_with_login(login)
    password = unicodedata.normalize("NFC", password)
    if not passwords().verify(password_hash, password) or not password_hash:
        return None
    if is_suspended:
        raise Problem("account_suspended")
    new_hash = password_hash
    if passwords().is_outdated(password_hash):
        new_hash = passwords().hash(password)
    # Compare-and-swap on the hash; retries if the password changed or the user was suspended meanwhile.
    is_same = User.password_hash == password_hash, User.suspended_at.is_(None)
    swap = update(User).where(User.id == user_id, *is_same)
    swapped = cast("CursorResult[Any]", db.session.execute(swap.values(password_hash=new_hash)))
    if not swapped.rowcount:
        db.session.rollback()
        again: int | None = _id_with_password(name, password)
        return again
    current_request().user_id = user_id
    return user_id


@basic.error_handler
def _refuse_password(_status: int) -> NoReturn:
    request_headers = current_request().headers
    # On a Basic challenge, browsers open their own login box, and the script of the page waits for it.
    scheme = "xBasic" if "Origin" in request_headers else "Basic"
    headers = {"WWW-Authenticate": f'{scheme} realm="{REALM}", charset="UTF-8"'}
    was_sent = request_headers.get("Authorization")
    code = "invalid_credentials" if was_sent else "authentication_required"
    raise Problem(code, headers=headers)


@bearer.verify_token
def _id_with_token(token: str) -> int | None:
    """Return the user id of an access token, if the token is valid and its session exists.

    The primary checks this, so that a session that was ended is so at once.
    """
    claims = access_claims(token)
    if claims is None:
        return None
    session_id, origin, _, _ = claims
    found = driver_rows(
        OWNER_OF_SESSION, session_id=session_id, created_at=created_at_of(origin), now=utc_now()
    )
    if not found:
        return None
    request = current_request()
    request.session_id = session_id
    [(request.user_id, last_write)] = found
    request.last_write = UNKNOWN if last_write is None else last_write
    return request.user_id


@bearer.error_handler
def _refuse_token(_status: int) -> NoReturn:
    if _scheme() == "bearer":
        raise invalid_token()
    headers = {"WWW-Authenticate": f'Bearer realm="{REALM}"'}
    raise Problem("authentication_required", headers=headers)


def invalid_token() -> Problem:
    """Return the problem of an invalid token (RFC 6750, section 3.1)."""
    headers = {"WWW-Authenticate": f'Bearer realm="{REALM}", error="invalid_token"'}
    return Problem("invalid_token", headers=headers)
