"""`flask backup` and `flask restore`, for SQLite."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from api.db import db, dialect_name, sqlite_backup
from api.db.revisions import revision_scripts
from api.db.sqlite_backup import BackupError, checksum_file

file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command("backup")
@file_argument
@with_appcontext
def backup(file: Path) -> None:
    """Write the SQLite database to FILE, and its checksum to FILE.sha256.

    The service can run meanwhile. The backup has all that was committed before the command began. It is
    verified, and readable by its owner only.
    """
    _ensure_sqlite()
    with _one_line_for_errors():
        pooled = db.engine.raw_connection()
        try:
            driver_connection: Any = pooled.driver_connection
            sqlite_backup.back_up(driver_connection, file)
        finally:
            pooled.close()
    click.echo(f"Wrote {file} ({file.stat().st_size:,} bytes) and {checksum_file(file).name}.")


@click.command("restore")
@file_argument
@click.option("--force", is_flag=True, help="Restore although the database is in use, newer or not readable.")
@with_appcontext
def restore(file: Path, force: bool) -> None:
    """Replace the SQLite database by the backup in FILE.

    Stop the service first. Nothing is replaced if the backup is not intact, or does not have the checksum in
    FILE.sha256.
    """
    _ensure_sqlite()
    scripts = revision_scripts()
    with _one_line_for_errors():
        revision = sqlite_backup.restore(
            file,
            Path(str(db.engine.url.database)),
            revisions={script.revision for script in scripts.walk_revisions()},
            force=force,
        )
    click.echo(f"Restored {file}.")
    if revision != scripts.get_current_head():
        click.echo(f"The schema is that of revision {revision}: run `flask db upgrade`.")


def _ensure_sqlite() -> None:
    if dialect_name() != "sqlite":
        raise click.ClickException("This command is for SQLite. docs/operating.md has those for PostgreSQL.")


@contextmanager
def _one_line_for_errors() -> Iterator[None]:
    try:
        yield
    except BackupError as error:
        raise click.ClickException(str(error)) from None
    except sqlite3.Error as error:
        raise click.ClickException(f"SQLite: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
