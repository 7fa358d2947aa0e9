"""`flask check`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import make_url, text

from api.db import db
from tests.support.mailbox import Mailbox, running_mailbox
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import free_port

REDIS_IS_NOT_USED = "RATELIMIT_STORAGE_URL is not set: each worker process counts requests by itself."
MAIL_IS_PRINTED = "MAIL_URL is not set: emails are printed."


def check(app: Flask) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the command; return its exit code, and state and detail by the name of what is checked."""
    result = app.test_cli_runner().invoke(args=["check"])
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    return result.exit_code, {name: (state, detail) for name, state, detail in lines}


def test_succeeds_with_one_line_each(app: Flask, mailbox: Mailbox) -> None:
    exit_code, lines = check(app)

    kind = make_url(app.config["DATABASE_URL"]).get_backend_name()
    assert exit_code == 0
    assert {name: state for name, (state, _) in lines.items()} == dict.fromkeys(
        ["settings", "database", "migrations", "mail", "redis"], "ok"
    )
    assert lines["settings"][1] == "ENVIRONMENT=development"
    assert lines["database"][1].startswith(kind)
    assert lines["migrations"][1].startswith(f"{kind} has revision 0")
    assert lines["mail"][1] == "The mail server accepts the connection."
    assert lines["redis"][1] == REDIS_IS_NOT_USED
    assert not mailbox.received()


def test_a_password_in_the_database_url_is_not_printed(new_app: Callable[..., Flask]) -> None:
    app = new_app(f"postgresql://ann:hidden@127.0.0.1:{free_port()}/a")

    result = app.test_cli_runner().invoke(args=["check"])

    assert "hidden" not in result.output


def test_a_missing_database_fails(new_app: Callable[..., Flask], tmp_path: Path) -> None:
    exit_code, lines = check(new_app(f"sqlite:///{tmp_path}/x.db"))

    reason = f"the database file {tmp_path}/x.db does not exist or is empty; `flask db upgrade` creates it"
    assert exit_code == 1
    assert lines == {
        "settings": ("ok", "ENVIRONMENT=development"),
        "database": ("failed", reason),
        "migrations": ("failed", reason),
        "mail": ("ok", MAIL_IS_PRINTED),
        "redis": ("ok", REDIS_IS_NOT_USED),
    }


def test_a_database_that_is_not_migrated_fails(new_app: Callable[..., Flask], new_database_url: Any) -> None:
    app = new_app(new_database_url("sqlite"))
    with app.app_context():
        flask_migrate.upgrade(revision="0009")

    exit_code, lines = check(app)

    assert exit_code == 1
    assert lines["database"][0] == "ok"
    failed = ("failed", "The database is not migrated. Run `flask db upgrade` first.")
    assert lines["migrations"] == failed


def test_a_read_only_database_fails(new_migrated_app: Callable[..., Flask]) -> None:
    app = new_migrated_app("postgresql")
    with app.app_context():
        name = make_url(app.config["DATABASE_URL"]).database
        db.session.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        db.session.commit()
        db.engine.dispose()

    exit_code, lines = check(app)

    assert exit_code == 1
    assert lines["database"] == ("failed", "The database is read-only.")


class TestMailServer:
    def test_that_is_unreachable_fails(self, new_migrated_app: Callable[..., Flask]) -> None:
        app = new_migrated_app("sqlite", MAIL_URL=f"smtp://127.0.0.1:{free_port()}")

        exit_code, lines = check(app)

        assert exit_code == 1
        state, reason = lines["mail"]
        assert (state, reason.partition(":")[0]) == ("failed", "ConnectionRefusedError")

    def test_that_offers_no_encryption_for_the_password_fails(
        self, new_migrated_app: Callable[..., Flask]
    ) -> None:
        with running_mailbox() as mailbox:
            url = mailbox.url.replace("//", "//ann:hidden@")
            exit_code, lines = check(new_migrated_app("sqlite", MAIL_URL=url))

        assert exit_code == 1
        assert lines["mail"] == ("failed", "SMTPNotSupportedError")


class TestRedis:
    def test_that_is_unreachable_fails(self, new_migrated_app: Callable[..., Flask]) -> None:
        app = new_migrated_app("sqlite", RATELIMIT_STORAGE_URL=f"redis://127.0.0.1:{free_port()}")

        exit_code, lines = check(app)

        assert exit_code == 1
        state, reason = lines["redis"]
        assert state == "failed"
        assert "Connection refused" in reason

    @needs_redis
    @pytest.mark.slow
    def test_that_counts_succeeds_with_the_prefix(
        self, new_migrated_app: Callable[..., Flask], tmp_path: Path
    ) -> None:  # pragma: no cover -- needs redis-server
        redis = RedisServer(tmp_path)
        app = new_migrated_app(
            "sqlite", RATELIMIT_STORAGE_URL=redis.url, RATELIMIT_STORAGE_PREFIX="blog:staging"
        )
        with redis.running():
            exit_code, lines = check(app)

        assert exit_code == 0
        assert lines["redis"] == ("ok", "Keys begin with blog:staging.")
