"""`flask tokens purge`."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from api.contract import idempotency
from api.db import db, utc_now
from api.mail import tokens
from api.models import EmailToken, IdempotencyKey, Session
from api.tokens import purging
from tests.support.contract import ContractClient
from tests.support.databases import on_postgresql
from tests.support.factories import Factory

MODELS = (Session, EmailToken, IdempotencyKey)
SECOND = timedelta(seconds=1)


def insert_rows(app: Flask, user_id: int, expired: int, valid: int) -> None:
    """Insert rows of each table, some of which have just expired."""
    with app.app_context():
        now = utc_now()
        for number in range(expired + valid):
            # A minute is longer than the test takes.
            offset = -SECOND if number < expired else 60 * SECOND
            db.session.add_all(
                [
                    Session(user_id=user_id, created_at=now, refreshed_at=now, expires_at=now + offset),
                    EmailToken(
                        email=f"{number}@example.com",
                        kind="password_reset",
                        user_id=user_id,
                        created_at=now + offset - tokens.TOKEN_LIFETIME,
                    ),
                    IdempotencyKey(
                        hashed=number.to_bytes(32),
                        fingerprint=bytes(32),
                        user_id=user_id,
                        status=201,
                        headers={},
                        body=b"",
                        created_at=now + offset - idempotency.LIFETIME,
                    ),
                ]
            )
        db.session.commit()


def rows_left(app: Flask) -> list[int]:
    """Return the number of rows of each table."""
    with app.app_context():
        return [db.session.scalars(select(func.count()).select_from(model)).one() for model in MODELS]


@pytest.mark.slow
def test_deletes_what_has_expired_in_batches(
    app: Flask, client: ContractClient, make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    ann = make.user("ann")
    insert_rows(app, ann.id, expired=5, valid=3)

    result = app.test_cli_runner().invoke(args=["tokens", "purge"])

    assert (result.exit_code, result.output) == (
        0,
        "sessions: 5 deleted\nemail_tokens: 5 deleted\nidempotency_keys: 5 deleted\n",
    )
    assert rows_left(app) == [4, 3, 3]
    assert client.get("/me", headers=ann.signed_in).status_code == 200


@on_postgresql  # SQLite has no row locks.
def test_leaves_rows_that_are_locked(app: Flask, make: Factory) -> None:
    insert_rows(app, make.user("ann").id, expired=2, valid=0)
    with app.app_context():
        engine = db.engine
    with engine.connect() as connection:
        connection.execute(select(EmailToken).limit(1).with_for_update()).one()

        result = app.test_cli_runner().invoke(args=["tokens", "purge"])

    assert "email_tokens: 1 deleted\n" in result.output
    assert rows_left(app) == [1, 1, 0]
