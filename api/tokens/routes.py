"""Tokens: sign in, refresh tokens, list your sessions, sign out."""

import time
from datetime import timedelta
from typing import Any, TypeAlias

from flask import Blueprint, current_app, url_for
from sqlalchemy import delete
from werkzeug.http import dump_cookie

from api.auth.authentication import (
    ACCESS_TOKEN,
    current_session_id,
    current_user_id,
    invalid_token,
    password_required,
    token_required,
)
from api.auth.signing import signed, signed_values
from api.contract.endpoint import accepts, fails, returns
from api.db import FOR_NO_KEY_UPDATE, db, utc_now
from api.models import Session
from api.rate_limiting.policies import rate_limited
from api.rendering.pagination import Page, PageQuery, page_of, paginate
from api.tokens.queries import is_expired, session_of, sessions_of
from api.tokens.schemas import SessionSchema, TokenPairSchema, TokenQuery, TokenRefreshSchema
from api.web.cors import ensure_own_origin
from api.web.wrappers import current_request

REFRESH_TOKEN = "refresh token"  # noqa: S105 -- a purpose, see api/auth/signing.py.
COOKIE = "refresh_token"

# The members of a `TokenPairSchema`, and the headers of the response.
TokenPair: TypeAlias = tuple[dict[str, object], dict[str, str]]

tokens = Blueprint("tokens", __name__)


@tokens.post("/tokens")
@rate_limited("sign_in", wrong_password=401)
@password_required
@accepts(TokenQuery(), location="query")
@returns(TokenPairSchema(), headers=("Set-Cookie",))
@fails(403)
def create_token(parameters: dict[str, bool]) -> TokenPair:
    """Sign in.

    Send your username or email address and your password by HTTP Basic. Case of the name and white space
    around it are ignored. The response is a pair of tokens: send the access token with other requests; when
    it expires, exchange the refresh token for the next pair.
    With `cookie=true` the refresh token is set as a cookie instead, for pages whose origin is allowed.
    The operator of the service can suspend an account; then the right password gets 403 `account_suspended`.
    """
    if parameters["cookie"]:
        ensure_own_origin()
    user_id = current_user_id()
    now = utc_now()
    db.session.execute(delete(Session).where(Session.user_id == user_id, is_expired(now)))
    session = Session(
        user_id=user_id,
        user_agent=_user_agent(),
        created_at=now,
        refreshed_at=now,
        expires_at=now + _session_lifetime(),
    )
    db.session.add(session)
    db.session.flush()
    current_request().session_id = session.id  # Reads what was written before, registration for example.
    db.session.commit()
    return _token_pair(session, in_cookie=parameters["cookie"])


@tokens.post("/tokens/refresh")
@rate_limited("sign_in")
@accepts(TokenRefreshSchema())
@returns(TokenPairSchema(), headers=("Set-Cookie",))
@fails(401, 403)
def refresh_token(fields: dict[str, str | None]) -> TokenPair:
    """Refresh your tokens.

    A refresh token works once. For a grace period after its first use, by default 10 seconds, it returns the
    current pair of the session, so that a retry or another tab does not fail, however often the session was
    refreshed meanwhile. A later use is treated as theft and ends the session. Without a token in the body,
    the token in the cookie is used and the next one is set as a cookie, for pages whose origin is allowed.
    """
    token = fields["refresh_token"]
    in_cookie = token is None
    if token is None:
        ensure_own_origin()
        token = current_request().cookies.get(COOKIE, "")
    claims = signed_values(REFRESH_TOKEN, token, 3)
    if claims is None:
        raise invalid_token()
    session_id, origin, generation = claims
    now = utc_now()
    session = db.session.get(Session, session_id, **FOR_NO_KEY_UPDATE)
    if session is None or session.origin != origin or session.expires_at <= now:
        raise invalid_token()
    if generation == session.generation:
        current_request().session_id = session_id
        session.refresh(now, grace=_grace(), life=_session_lifetime())
        db.session.commit()
    elif not session.was_used_since(generation, now - _grace()):
        db.session.execute(delete(Session).where(Session.id == session_id))
        db.session.commit()
        raise invalid_token()
    return _token_pair(session, in_cookie=in_cookie)


@tokens.get("/tokens")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(SessionSchema))
def list_tokens(parameters: dict[str, Any]) -> Page:
    """List your sessions.

    Each is one sign-in; newest first.
    """
    return paginate(sessions_of(current_user_id(), utc_now()), parameters, key=Session.id)


@tokens.delete("/tokens/current")
@token_required
@returns(headers=("Set-Cookie",))
def delete_current_token() -> tuple[None, dict[str, str]]:
    """Sign out.

    Ends this session: its access and refresh tokens become invalid at once. A token cookie is removed.
    """
    db.session.execute(delete(Session).where(Session.id == current_session_id()))
    db.session.commit()
    return None, (_cookie("", 0) if COOKIE in current_request().cookies else {})


@tokens.delete("/tokens/<id:token_id>")
@token_required
@returns()
def delete_token(token_id: int) -> None:
    """End one of your sessions.

    Its access and refresh tokens become invalid at once.
    """
    session = db.first_or_404(session_of(current_user_id(), token_id).with_for_update())
    db.session.delete(session)
    db.session.commit()


def _token_pair(session: Session, *, in_cookie: bool) -> TokenPair:
    """Return a session's tokens, which are the same until it is refreshed, and headers."""
    life: int = current_app.config["ACCESS_TOKEN_SECONDS"]
    expires_at = int(session.refreshed_at.timestamp()) + life
    access_token = signed(ACCESS_TOKEN, [session.id, session.origin, expires_at, session.user_id])
    refresh_token = signed(REFRESH_TOKEN, [session.id, session.origin, session.generation])
    pair: dict[str, object] = {
        "access_token": access_token,
        "refresh_token": None if in_cookie else refresh_token,
        "token_type": "Bearer",
        "expires_in": max(0, expires_at - int(time.time())),
    }
    lifetime: int = current_app.config["REFRESH_TOKEN_SECONDS"]
    return pair, (_cookie(refresh_token, lifetime) if in_cookie else {})


def _cookie(token: str, seconds: int) -> dict[str, str]:
    """Return the header that stores a refresh token in a browser, where no script can read it."""
    path = url_for(".create_token")
    cookie = dump_cookie(
        COOKIE, token, seconds, path=path, secure=True, httponly=True, samesite="Strict", sync_expires=False
    )
    return {"Set-Cookie": cookie}


def _session_lifetime() -> timedelta:
    return timedelta(seconds=current_app.config["REFRESH_TOKEN_SECONDS"])


def _grace() -> timedelta:
    return timedelta(seconds=current_app.config["REFRESH_GRACE_SECONDS"])


def _user_agent() -> str:
    header = current_request().user_agent.string
    printable = (character for character in header if character.isascii() and character.isprintable())
    return "".join(printable)[:200]
