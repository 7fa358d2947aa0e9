"""Processes retries with an `Idempotency-Key` once (draft-ietf-httpapi-idempotency-key-header-07)."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps

import orjson
from flask import Response, make_response
from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.exc import IntegrityError

from api.auth.signing import keyed_hashes
from api.db import db, dialect_name, utc_now
from api.models import IdempotencyKey
from api.web.operation import View, operation_of
from api.web.problems import RETRY_AFTER_SECONDS, InputError, Problem, header_problem
from api.web.wrappers import current_request

HEADER = "Idempotency-Key"
LIFETIME = timedelta(hours=24)
PURGED_AT_ONCE = 100

# A structured field's string, as in the draft, or an unquoted value, as many clients send.
KEY = r'^(?:"((?:[!#-\[\]-~]|\\["\\]){1,255})"|([!#-+\--:<-~]{1,255}))$'
STORED_HEADERS = ("Content-Type", "Location", "ETag")
REPLAYED = {"Idempotency-Replayed": "true"}


def idempotent(view: View) -> View:
    """Process a request with an `Idempotency-Key` once, and return the stored response to retries.

    Commits the changes of the view and the stored response in one transaction, so that a retry after a broken
    connection finds both or neither. The view itself does not commit.

    The response has the row that the view created, by its id. If the row was deleted since, a retry gets 410.
    """
    operation = operation_of(view)
    operation.is_idempotent = True
    operation.failures |= {409, 422}

    @wraps(view)
    def wrapper(*args: object, **kwargs: object) -> Response:
        return _respond_once(lambda: view(*args, **kwargs), operation.response.Meta.model)

    return wrapper


def _respond_once(respond: Callable[[], Response], model: type[db.Model]) -> Response:
    key = _key()
    if key is None:
        response = respond()
        db.session.commit()
        return response
    request = current_request()
    scope = [str(request.user_id), request.method, request.path, key]
    # One hash and fingerprint for each accepted secret, any of which the first request may have been hashed
    # with. The fingerprint covers the key. The key is not stored, so a copy of the table cannot be used to
    # guess the passwords in requests.
    hashes = keyed_hashes("idempotency key", *scope)
    fingerprints = keyed_hashes("request", *scope, request.query_string, request.body)
    _ensure_alone(hashes)
    stored = _stored(hashes)
    if stored is None:
        try:
            response = respond()
            _store(hashes[-1], fingerprints[-1], response)
            db.session.commit()
        except IntegrityError:
            # Either the changes violate a constraint, or a request with the same key was committed meanwhile.
            db.session.rollback()
            stored = _stored(hashes)
            if stored is None:
                raise
        else:
            return response
    if stored.fingerprint not in fingerprints:
        reused = InputError("header", HEADER, "reused", "Used for another request.")
        raise Problem("idempotency_key_reused", errors=[reused])
    if db.session.get(model, orjson.loads(stored.body)["id"]) is None:
        raise Problem("gone", headers=REPLAYED)
    return make_response(stored.body, stored.status, {**stored.headers, **REPLAYED})


def _key() -> str | None:
    text = current_request().headers.get(HEADER)
    if text is None:
        return None
    found = re.fullmatch(KEY, text)
    if found is None:
        detail = "Must be 1 to 255 visible ASCII characters, best in quotes."
        raise header_problem(HEADER, "wrong_format", detail)
    quoted, bare = found.groups()
    return bare or re.sub(r"\\(.)", r"\1", quoted)


def _ensure_alone(hashes: list[bytes]) -> None:
    """Raise 409 if a request with the same key is running. On SQLite, the write lock serializes them.

    All hashes are locked, because another process may have the same secrets in another order.
    """
    if dialect_name() == "postgresql":
        for hashed in sorted(hashes):
            lock = func.pg_try_advisory_xact_lock(int.from_bytes(hashed[:8], signed=True))
            if not db.session.scalar(select(lock)):
                raise Problem("in_progress", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _stored(hashes: list[bytes]) -> IdempotencyKey | None:
    """Return the stored response for a key."""
    unexpired = select(IdempotencyKey).where(IdempotencyKey.hashed.in_(hashes), ~is_expired(utc_now()))
    return db.session.scalar(unexpired)


def is_expired(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a stored response is no longer returned."""
    return IdempotencyKey.created_at <= now - LIFETIME


def _store(hashed: bytes, fingerprint: bytes, response: Response) -> None:
    """Store a response, and delete some expired ones."""
    is_old = is_expired(utc_now())
    oldest = select(IdempotencyKey.hashed).where(is_old).order_by(IdempotencyKey.created_at)
    some = oldest.limit(PURGED_AT_ONCE).with_for_update(skip_locked=True)
    mine = IdempotencyKey.hashed == hashed
    purge = delete(IdempotencyKey).where(is_old, or_(mine, IdempotencyKey.hashed.in_(some)))
    db.session.execute(purge, execution_options={"synchronize_session": False})
    key = IdempotencyKey(
        hashed=hashed,
        fingerprint=fingerprint,
        # At registration the caller is anonymous; the response has the new user's id.
        user_id=current_request().user_id or response.get_json()["id"],
        status=response.status_code,
        headers={name: response.headers[name] for name in STORED_HEADERS},
        body=response.data,
    )
    db.session.add(key)
