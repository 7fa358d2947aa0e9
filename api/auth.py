"""Who is calling, and may they."""

import time
import unicodedata
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn, cast

from flask import Flask, current_app
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth
from sqlalchemy import CursorResult, Select, select, update

from api.database import db, utc_now
from api.endpoint import View, operation_of
from api.errors import Problem, member_problem
from api.messages import current_request
from api.models import Post, Session, User
from api.models.session import created_at_of
from api.passwords import Passwords
from api.prepared import prepared
from api.schema import CONTROL_CHARACTER, normal_email
from api.signing import signed_values

REALM = "microblog"
ACCESS_TOKEN = "access token"  # noqa: S105 -- a purpose, see api.signing.

basic = HTTPBasicAuth(realm=REALM)
bearer = HTTPTokenAuth("Bearer", realm=REALM)


def init_app(app: Flask) -> None:
    """Make what hashes passwords, with the settings' parameters."""
    app.extensions["passwords"] = Passwords(
        memory=app.config["PASSWORD_HASH_MEMORY"],
        time=app.config["PASSWORD_HASH_TIME"],
        # Two threads stay free for everything else.
        line=max(2, app.config["THREADS"] - 2),
    )


def passwords() -> Passwords:
    """Return what hashes and checks passwords."""
    return cast("Passwords", current_app.extensions["passwords"])


def password_required(view: View) -> View:
    """Admit callers who send their name (or e-mail address) and password by HTTP Basic (RFC 7617)."""
    return _secured(view, "basicAuth", basic)


def token_required(view: View) -> View:
    """Admit callers who send an access token as Bearer (RFC 6750)."""
    return _secured(view, "bearerAuth", bearer)


def token_optional(view: View) -> View:
    """Admit everybody; who sends an access token is known by it, and must send a good one.

    In the contract the operation is public: its description says what a token adds.
    """
    operation_of(view).failures |= {401}
    for_token = bearer.login_required(view)

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if "HTTP_AUTHORIZATION" in current_request().environ:
            return for_token(*args, **kwargs)
        return view(*args, **kwargs)

    return wrapper


def current_user_id() -> int:
    """Return the id of who is calling."""
    return cast("int", current_request().user_id)


def current_session_id() -> int:
    """Return the id of the session that the caller's token is of."""
    return cast("int", current_request().session_id)


def current_user() -> User:
    """Return who is calling. Refuses those whose account has ended since their token was checked."""
    user = db.session.get(User, current_user_id())
    if user is None:
        raise invalid_token()
    return user


def ensure_author(post: Post) -> None:
    """Refuse callers who did not write the post."""
    if post.user_id != current_user_id():
        raise Problem("forbidden")


def locked_user() -> User:
    """Return who is calling, read anew, their row locked until the transaction ends.

    Refuses those whose account or session has ended since their token was checked.
    """
    mine = select(User).where(User.id == current_user_id()).with_for_update()
    user = db.session.scalar(mine, execution_options={"populate_existing": True})
    # In a statement of its own, to see what the lock waited for.
    session = select(Session.id).where(Session.id == current_session_id())
    if user is None or db.session.scalar(session) is None:
        raise invalid_token()
    return user


def ensure_password(password: str, member: str) -> None:
    """Refuse a password that is not the caller's; `member` is where the body has it.

    Ends the transaction, so that none is open while the password is checked.
    """
    password_hash = current_user().password_hash
    db.session.commit()
    if not passwords().verify(password_hash, password):
        raise member_problem("wrong_password", member)


def access_claims(token: str) -> list[int] | None:
    """Return what an access token says: session id, origin, expiry (seconds since 1970) and user id.

    None if it was not signed here, or has expired. Whether its session goes on, only the database knows.
    """
    request = current_request()
    if request.claims is None:  # Else who limits rates has asked before.
        request.claims = signed_values(ACCESS_TOKEN, token, 4) or []
    claims = request.claims
    return claims if claims and claims[2] > time.time() else None


def folded_name(name: str) -> str:
    """Return a name or e-mail address that somebody signs in with, as it is compared."""
    name = normal_email(name) or name
    return name.lower() if name.isascii() else name  # Beyond ASCII are letters that become other people's.


def _secured(view: View, scheme: str, guard: Any) -> View:
    operation = operation_of(view)
    operation.security = scheme
    operation.failures |= {401}
    return cast("View", guard.login_required(view))


def _scheme() -> str:
    return current_request().headers.get("Authorization", "").partition(" ")[0].lower()


@basic.verify_password
def _id_with_password(name: str, password: str) -> int | None:
    """Return whose name and password these are, with the transaction open that their row is locked in."""
    name = folded_name(name)
    # flask-httpauth reads credentials whatever their scheme is called.
    if not name or not name.isascii() or _scheme() != "basic" or CONTROL_CHARACTER.search(name):
        return None
    column = User.folded_email if "@" in name else User.folded_username
    found = select(User).where(column == name)
    user = db.session.scalar(found, execution_options={"populate_existing": True})
    password_hash = user.password_hash if user else None
    db.session.commit()
    password = unicodedata.normalize("NFC", password)
    if not passwords().verify(password_hash, password) or not user or not password_hash:
        return None
    new_hash = password_hash
    if passwords().is_outdated(password_hash):
        new_hash = passwords().hash(password)
    # Had the hash been changed since it was read, this would find no row: then all begins again.
    claim = update(User).where(User.id == user.id, User.password_hash == password_hash)
    claimed = cast("CursorResult[Any]", db.session.execute(claim.values(password_hash=new_hash)))
    if not claimed.rowcount:
        again: int | None = _id_with_password(name, password)
        return again
    current_request().user_id = user.id
    return current_user_id()


@basic.error_handler
def _refuse_password(_status: int) -> NoReturn:
    headers = {"WWW-Authenticate": f'Basic realm="{REALM}", charset="UTF-8"'}
    was_sent = current_request().headers.get("Authorization")
    code = "invalid_credentials" if was_sent else "authentication_required"
    raise Problem(code, headers=headers)


@prepared
def _whose(session_id: int, created_at: datetime, now: datetime) -> Select[int]:
    """The id of the user whose session this is, if it goes on."""
    is_it = (Session.id == session_id, Session.created_at == created_at)
    return select(Session.user_id).where(*is_it, Session.expires_at > now)


@bearer.verify_token
def _id_with_token(token: str) -> int | None:
    """Return the id of whose token this is, if it is an access token and its session goes on."""
    claims = access_claims(token)
    if claims is None:
        return None
    session_id, origin, _, _ = claims
    found = _whose(session_id, created_at_of(origin), utc_now()).read()
    if not found:
        return None
    request = current_request()
    request.session_id = session_id
    [(request.user_id,)] = found
    return request.user_id


@bearer.error_handler
def _refuse_token(_status: int) -> NoReturn:
    if _scheme() == "bearer":
        raise invalid_token()
    headers = {"WWW-Authenticate": f'Bearer realm="{REALM}"'}
    raise Problem("authentication_required", headers=headers)


def invalid_token() -> Problem:
    """Return the answer to a token that is not good (RFC 6750, section 3.1)."""
    headers = {"WWW-Authenticate": f'Bearer realm="{REALM}", error="invalid_token"'}
    return Problem("invalid_token", headers=headers)
