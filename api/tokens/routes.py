"""Tokens: sign in, stay signed in, see where you are signed in, sign out."""

import time
from datetime import timedelta
from typing import Any

from flask import Blueprint, current_app, url_for
from sqlalchemy import delete
from werkzeug.http import dump_cookie

from api.auth import (
    ACCESS_TOKEN,
    current_session_id,
    current_user_id,
    invalid_token,
    password_required,
    token_required,
)
from api.cors import ensure_own_origin
from api.database import FOR_UPDATE, db, utc_now
from api.endpoint import accepts, fails, returns
from api.messages import current_request
from api.models import Session
from api.pagination import Page, PageQuery, page_of, paginate
from api.signing import signed, signed_values
from api.tokens.queries import session_of, sessions_of
from api.tokens.schemas import SessionSchema, TokenPairSchema, TokenQuery, TokenRefreshSchema

REFRESH_TOKEN = "refresh token"  # noqa: S105 -- a purpose, see api.signing.
COOKIE = "refresh_token"

tokens = Blueprint("tokens", __name__)


@tokens.post("/tokens")
@password_required
@accepts(TokenQuery(), location="query")
@returns(TokenPairSchema(), headers=("Set-Cookie",))
@fails(403)
def create_token(query: dict[str, bool]) -> Any:
    """Sign in.

    Send your username or e-mail address and your password by HTTP Basic. The answer is a pair of tokens:
    the access token goes with every other request; when it expires, the refresh token gets the next pair.
    With `cookie=true` the refresh token comes as a cookie instead, for pages whose origin is allowed.
    """
    if query["cookie"]:
        ensure_own_origin()
    user_id = current_user_id()
    now = utc_now()
    db.session.execute(delete(Session).where(Session.user_id == user_id, Session.expires_at <= now))
    session = Session(
        user_id=user_id,
        user_agent=_user_agent(),
        created_at=now,
        refreshed_at=now,
        expires_at=now + _session_life(),
    )
    db.session.add(session)
    db.session.commit()
    return _token_pair(session, in_cookie=query["cookie"])


@tokens.post("/tokens/refresh")
@accepts(TokenRefreshSchema())
@returns(TokenPairSchema(), headers=("Set-Cookie",))
@fails(401, 403)
def refresh_token(fields: dict[str, str | None]) -> Any:
    """Renew your tokens.

    A refresh token works once. For ten seconds more it gets the same answer again, so that two tabs or a
    retry do no harm. Used after that, it is taken for stolen, and its session ends. Without one in the
    body, that in the cookie is renewed, and the next one set as a cookie, for pages whose origin is allowed.
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
    session = db.session.get(Session, session_id, **FOR_UPDATE)
    if session is None or session.origin != origin or session.expires_at <= now:
        raise invalid_token()
    if generation == session.generation:
        session.generation += 1
        session.refreshed_at = now
        session.expires_at = now + _session_life()
        db.session.commit()
    elif generation != session.generation - 1 or now > session.refreshed_at + _grace():
        db.session.execute(delete(Session).where(Session.id == session_id))
        db.session.commit()
        raise invalid_token()
    return _token_pair(session, in_cookie=in_cookie)


@tokens.get("/tokens")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(SessionSchema))
def list_tokens(query: dict[str, Any]) -> Page:
    """List your sessions.

    Each is one place where you are signed in; the newest come first.
    """
    return paginate(sessions_of(current_user_id(), current_session_id(), utc_now()), query, Session.id)


@tokens.delete("/tokens/current")
@token_required
@returns(headers=("Set-Cookie",))
def delete_current_token() -> Any:
    """Sign out.

    Ends this session: its access and refresh tokens stop working at once. A cookie that is sent is removed.
    """
    db.session.execute(delete(Session).where(Session.id == current_session_id()))
    db.session.commit()
    return None, _cookie("", 0) if COOKIE in current_request().cookies else {}


@tokens.delete("/tokens/<int:token_id>")
@token_required
@returns()
def delete_token(token_id: int) -> None:
    """Sign out elsewhere.

    Ends one of your sessions, by the id that the list of them gives.
    """
    session = db.first_or_404(session_of(current_user_id(), token_id).with_for_update())
    db.session.delete(session)
    db.session.commit()


def _token_pair(session: Session, *, in_cookie: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a session's tokens, the same ones for as long as it is not renewed, and headers."""
    life: int = current_app.config["ACCESS_TOKEN_SECONDS"]
    expires_at = int(session.refreshed_at.timestamp()) + life
    access_token = signed(ACCESS_TOKEN, [session.id, session.origin, expires_at, session.user_id])
    refresh_token = signed(REFRESH_TOKEN, [session.id, session.origin, session.generation])
    pair = {
        "access_token": access_token,
        "refresh_token": None if in_cookie else refresh_token,
        "token_type": "Bearer",
        "expires_in": max(0, expires_at - int(time.time())),
    }
    return pair, _cookie(refresh_token, current_app.config["REFRESH_TOKEN_SECONDS"]) if in_cookie else {}


def _cookie(token: str, seconds: int) -> dict[str, str]:
    """Return the header that keeps a refresh token in a browser for a time, where no script can read it."""
    path = url_for(".create_token")
    cookie = dump_cookie(
        COOKIE, token, seconds, path=path, secure=True, httponly=True, samesite="Strict", sync_expires=False
    )
    return {"Set-Cookie": cookie}


def _session_life() -> timedelta:
    return timedelta(seconds=current_app.config["REFRESH_TOKEN_SECONDS"])


def _grace() -> timedelta:
    return timedelta(seconds=current_app.config["REFRESH_GRACE_SECONDS"])


def _user_agent() -> str:
    sent = current_request().user_agent.string
    printable = (mark for mark in sent if mark.isascii() and mark.isprintable())
    return "".join(printable)[:200]
