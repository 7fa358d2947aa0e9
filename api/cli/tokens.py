"""`flask tokens`: sessions, tokens in emails and idempotency keys that have expired."""

import click
from flask.cli import AppGroup

from api.cli.database import on_migrated_database
from api.tokens.purging import purge_expired

tokens = AppGroup("tokens", help="Sessions, tokens in emails, idempotency keys.")


@tokens.command("purge")
@on_migrated_database
def purge() -> None:
    """Delete what has expired.

    The service deletes expired rows of a user at the next sign-in or email; this deletes those of all users.
    It can run meanwhile.
    """
    for table, rows in purge_expired().items():
        click.echo(f"{table}: {rows} deleted")
