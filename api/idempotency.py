"""Requests that may be sent again without being done again (draft-ietf-httpapi-idempotency-key-header-07)."""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from flask import Response, make_response
from sqlalchemy import delete, func, or_, select
from sqlalchemy.exc import IntegrityError

from api.database import database_name, db, utc_now
from api.endpoint import View, operation_of
from api.errors import RETRY_AFTER_SECONDS, InputError, Problem, header_problem
from api.messages import current_request
from api.models import IdempotencyKey
from api.rows import caller_id
from api.signing import keyed_hash

HEADER = "Idempotency-Key"
LIFE = timedelta(hours=24)
PURGED_AT_ONCE = 100

# A structured field's string, as the draft has it, or what clients send besides: a UUID, say, without quotes.
KEY = re.compile(r'"(?P<quoted>(?:[!#-\[\]-~]|\\["\\]){1,255})"|(?P<bare>[!#-+\--:<-~]{1,255})')
KEPT_HEADERS = ("Content-Type", "Location", "ETag")


def idempotent(view: View) -> View:
    """Do a request with an `Idempotency-Key` once; answer it again as it was answered first.

    Commits what the view did, together with its answer: whoever has lost the answer finds both or neither.
    The view leaves that uncommitted.
    """
    operation = operation_of(view)
    operation.is_idempotent = True
    operation.failures |= {409, 422}

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Response:
        return _once(lambda: view(*args, **kwargs))

    return wrapper


def _once(answer: Callable[[], Response]) -> Response:
    key = _key()
    if key is None:
        response = answer()
        db.session.commit()
        return response
    request = current_request()
    scope = [str(caller_id()), request.method, request.path, key]
    hashed = keyed_hash("idempotency key", *scope)
    # It covers the key, of which no copy is kept: who reads the table cannot try out passwords against it.
    fingerprint = keyed_hash("request", *scope, request.query_string, request.body)
    _ensure_alone(hashed)
    first = _answered(hashed)
    if first is None:
        try:
            response = answer()
            _keep(hashed, fingerprint, response)
            db.session.commit()
        except IntegrityError:
            # Either the request conflicts with others, or its twin was answered meanwhile.
            db.session.rollback()
            first = _answered(hashed)
            if first is None:
                raise
        else:
            return response
    if first.fingerprint != fingerprint:
        reused = InputError("header", HEADER, "reused", "Used for another request.")
        raise Problem("idempotency_key_reused", errors=[reused])
    return make_response(first.body, first.status, {**first.headers, "Idempotency-Replayed": "true"})


def _key() -> str | None:
    text = current_request().headers.get(HEADER)
    if text is None:
        return None
    found = KEY.fullmatch(text)
    if found is None:
        detail = "Must be 1 to 255 visible ASCII characters, best in quotes."
        raise header_problem(HEADER, "wrong_format", detail)
    return found["bare"] or re.sub(r"\\(.)", r"\1", found["quoted"])


def _ensure_alone(hashed: bytes) -> None:
    """Refuse a request whose twin is being answered. (On SQLite, where all writers wait, it waits.)"""
    if database_name() == "postgresql":
        lock = func.pg_try_advisory_xact_lock(int.from_bytes(hashed[:8], signed=True))
        if not db.session.scalar(select(lock)):
            raise Problem("in_progress", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _answered(hashed: bytes) -> IdempotencyKey | None:
    """Return the answer that was kept for a key."""
    kept = select(IdempotencyKey).where(
        IdempotencyKey.hashed == hashed, IdempotencyKey.created_at > utc_now() - LIFE
    )
    return db.session.scalar(kept)


def _keep(hashed: bytes, fingerprint: bytes, response: Response) -> None:
    """Keep an answer, and no longer keep some that are old enough."""
    is_old = IdempotencyKey.created_at <= utc_now() - LIFE
    oldest = select(IdempotencyKey.hashed).where(is_old).order_by(IdempotencyKey.created_at)
    some = oldest.limit(PURGED_AT_ONCE).with_for_update(skip_locked=True)
    mine = IdempotencyKey.hashed == hashed
    purge = delete(IdempotencyKey).where(is_old, or_(mine, IdempotencyKey.hashed.in_(some)))
    db.session.execute(purge, execution_options={"synchronize_session": False})
    key = IdempotencyKey(
        hashed=hashed,
        fingerprint=fingerprint,
        # Whoever registers is nobody until they have been answered.
        user_id=caller_id() or response.get_json()["id"],
        status=response.status_code,
        headers={name: response.headers[name] for name in KEPT_HEADERS},
        body=response.data,
    )
    db.session.add(key)
