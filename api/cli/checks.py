"""`flask check`: whether what the service needs is there."""

import smtplib
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter, sleep

import click
from flask import current_app
from flask.cli import with_appcontext
from limits.errors import StorageError
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from api.cli.database import ensure_migrated
from api.db import db, dialect_name
from api.db.engine import is_read_only
from api.db.replicas import LAG_SECONDS_MAXIMUM, Replica, Replicas
from api.db.transactions import reason_of
from api.mail.smtp import connected


@click.command("check")
@with_appcontext
def check() -> None:
    """Check settings, database, migrations, mail server, Redis and replicas; fail if one of them fails.

    Settings that are not valid end the command before, with one line for each mistake.
    """
    has_failed = False
    replicas: Replicas | tuple[()] = current_app.extensions.get("replicas", ())
    checks = dict(CHECKS) | {replica.name: partial(_check_replica, replica) for replica in replicas}
    for name, ensure in checks.items():
        try:
            state, detail = "ok", ensure()
        except click.ClickException as error:
            has_failed, state, detail = True, "failed", error.message
        except SQLAlchemyError as error:
            has_failed, state, detail = True, "failed", reason_of(error)
        db.session.rollback()
        click.echo(f"{name:<12}{state:<8}{detail}")
    if has_failed:
        raise click.exceptions.Exit(1)


def _check_settings() -> str:
    return f"ENVIRONMENT={current_app.config['ENVIRONMENT']}"


def _check_database() -> str:
    """Begin a transaction that could write."""
    if is_read_only():
        raise click.ClickException("The database is read-only.")
    db.session.connection()
    return make_url(current_app.config["DATABASE_URL"]).render_as_string()


def _check_migrations() -> str:
    return f"{dialect_name()} has revision {ensure_migrated()}"


def _check_mail() -> str:
    """Connect to the mail server and sign in; send nothing."""
    config = current_app.config
    if not config["MAIL_URL"]:
        return "MAIL_URL is not set: emails are printed."
    try:
        with connected(config["MAIL_URL"], config["MAIL_FROM"]):
            return "The mail server accepts the connection."
    except (smtplib.SMTPException, OSError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise click.ClickException(reason.removesuffix(": ")) from None


def _check_redis() -> str:
    try:
        if current_app.extensions["rate_limits"].limiter.ensure_reachable():
            return f"Keys begin with {current_app.config['RATELIMIT_STORAGE_PREFIX']}."
    except StorageError as error:
        raise click.ClickException(str(error.storage_error).partition("\n")[0]) from None
    return "RATELIMIT_STORAGE_URL is not set: each worker process counts requests by itself."


def _check_replica(replica: Replica) -> str:
    """Store a heartbeat in the primary, and wait until the replica shows it."""
    replicas: Replicas = current_app.extensions["replicas"]
    clock = replicas.beat()
    deadline = perf_counter() + LAG_SECONDS_MAXIMUM
    while (lag := replica.read(clock)) > LAG_SECONDS_MAXIMUM:
        if perf_counter() > deadline:
            raise click.ClickException(f"It lags by {lag:.0f} s.")
        sleep(0.1)
    return f"{replica.engine.url.render_as_string()} lags by {max(lag, 0):.1f} s at most"


CHECKS: Mapping[str, Callable[[], str]] = {
    "settings": _check_settings,
    "database": _check_database,
    "migrations": _check_migrations,
    "mail": _check_mail,
    "redis": _check_redis,
}
