"""Deletes the rows of all users that have expired: sessions, tokens in emails, idempotency keys."""

from typing import Any

from sqlalchemy import ColumnElement, delete, inspect, select, tuple_

from api.contract import idempotency
from api.db import db, utc_now
from api.db.transactions import retry_rolled_back, yield_to_writers
from api.mail import tokens
from api.models import EmailToken, IdempotencyKey, Session
from api.tokens import queries

BATCH = 1_000


def purge_expired() -> dict[str, int]:
    """Delete expired rows, and return their number for each table.

    A batch of rows is one short transaction. Rows that a request has locked are left for another time.
    """
    now = utc_now()
    return {
        Session.__tablename__: _purge(Session, queries.is_expired(now)),
        EmailToken.__tablename__: _purge(EmailToken, tokens.is_expired(now)),
        IdempotencyKey.__tablename__: _purge(IdempotencyKey, idempotency.is_expired(now)),
    }


def _purge(model: type[db.Model], is_expired: ColumnElement[bool]) -> int:
    key = tuple_(*inspect(model).primary_key)
    total = 0
    last: Any = None
    while keys := _purge_batch(model, key, is_expired, last):
        total += len(keys)
        last = keys[-1]
        yield_to_writers()
    return total


@retry_rolled_back
def _purge_batch(model: type[db.Model], key: Any, is_expired: ColumnElement[bool], last: Any) -> list[Any]:
    """Delete the next expired rows beyond a key, commit, and return their keys."""
    expired = select(*key.clauses).where(is_expired).order_by(*key.clauses).limit(BATCH)
    if last is not None:
        expired = expired.where(key > tuple_(*last))
    keys = [tuple(row) for row in db.session.execute(expired.with_for_update(skip_locked=True))]
    db.session.execute(delete(model).where(key.in_(keys)), execution_options={"synchronize_session": False})
    db.session.commit()
    return keys
