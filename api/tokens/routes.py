"""Tokens: sign in, stay signed in, see where you are signed in, sign out."""

import time
from datetime import timedelta
from typing import Any

from flask import Blueprint, current_app, request
from sqlalchemy import delete

from api.auth import (
    ACCESS_TOKEN,
    current_session,
    current_user,
    invalid_token,
    password_required,
    token_required,
)
from api.database import FOR_UPDATE, db, utc_now
from api.endpoint import accepts, fails, returns
from api.models import Session
from api.pagination import Page, PageQuery, page_of, paginate
from api.signing import signed_values, signer
from api.tokens.queries import session_of, sessions_of
from api.tokens.schemas import SessionSchema, TokenPairSchema, TokenRefreshSchema

REFRESH_TOKEN = "refresh token"  # noqa: S105 -- a purpose, see api.signing.

tokens = Blueprint("tokens", __name__)


@tokens.post("/tokens")
@password_required
@returns(TokenPairSchema())
def create_token() -> dict[str, Any]:
    """Sign in.

    Send your username or e-mail address and your password by HTTP Basic. The answer is a pair of tokens:
    the access token goes with every other request; when it expires, the refresh token gets the next pair.
    """
    user = current_user()
    now = utc_now()
    db.session.execute(delete(Session).where(Session.user_id == user.id, Session.expires_at <= now))
    session = Session(
        user_id=user.id,
        user_agent=_user_agent(),
        created_at=now,
        refreshed_at=now,
        expires_at=now + _session_life(),
    )
    db.session.add(session)
    db.session.commit()
    return _token_pair(session)


@tokens.post("/tokens/refresh")
@accepts(TokenRefreshSchema())
@returns(TokenPairSchema())
@fails(401)
def refresh_token(fields: dict[str, str]) -> dict[str, Any]:
    """Renew your tokens.

    A refresh token works once. For ten seconds more it gets the same answer again, so that two tabs or a
    retry do no harm. Used after that, it is taken for stolen, and its session ends.
    """
    claims = signed_values(REFRESH_TOKEN, fields["refresh_token"], 3)
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
    return _token_pair(session)


@tokens.get("/tokens")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(SessionSchema))
def list_tokens(query: dict[str, Any]) -> Page:
    """List your sessions.

    Each is one place where you are signed in; the newest come first.
    """
    return paginate(sessions_of(current_user(), current_session(), utc_now()), query)


@tokens.delete("/tokens/current")
@token_required
@returns()
def delete_current_token() -> None:
    """Sign out.

    Ends this session: its access and refresh tokens stop working at once.
    """
    db.session.execute(delete(Session).where(Session.id == current_session().id))
    db.session.commit()


@tokens.delete("/tokens/<int:token_id>")
@token_required
@returns()
def delete_token(token_id: int) -> None:
    """Sign out elsewhere.

    Ends one of your sessions, by the id that the list of them gives.
    """
    session = db.first_or_404(session_of(current_user(), token_id).with_for_update())
    db.session.delete(session)
    db.session.commit()


def _token_pair(session: Session) -> dict[str, Any]:
    """Return a session's tokens: the same ones for as long as it is not renewed."""
    life: int = current_app.config["ACCESS_TOKEN_SECONDS"]
    expires_at = int(session.refreshed_at.timestamp()) + life
    return {
        "access_token": signer(ACCESS_TOKEN).dumps([session.id, session.origin, expires_at]),
        "refresh_token": signer(REFRESH_TOKEN).dumps([session.id, session.origin, session.generation]),
        "token_type": "Bearer",
        "expires_in": max(0, expires_at - int(time.time())),
    }


def _session_life() -> timedelta:
    return timedelta(seconds=current_app.config["REFRESH_TOKEN_SECONDS"])


def _grace() -> timedelta:
    return timedelta(seconds=current_app.config["REFRESH_GRACE_SECONDS"])


def _user_agent() -> str:
    printable = (mark for mark in request.user_agent.string if mark.isascii() and mark.isprintable())
    return "".join(printable)[:200]
