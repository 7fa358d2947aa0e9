"""The state of the database, for commands that need it."""

from collections.abc import Callable
from functools import wraps

import click
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.db import db
from api.db.revisions import current_revision
from api.db.transactions import reason_of


def ensure_migrated() -> str:
    """Return the revision of the database. Raises ClickException if this version needs a later one."""
    revision = current_revision()
    db.session.rollback()
    if revision is None:
        raise click.ClickException("The database is not migrated. Run `flask db upgrade` first.")
    return revision


def on_migrated_database(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command on a migrated database, or end it with one line."""

    @wraps(command)
    def wrapper(*args: object, **kwargs: object) -> None:
        try:
            ensure_migrated()
            command(*args, **kwargs)
        except (DatabaseError, PoolTimeoutError) as error:
            if isinstance(error, DataError | IntegrityError | ProgrammingError):
                raise
            raise click.ClickException(f"The database is not available: {reason_of(error)}") from None

    return wrapper
