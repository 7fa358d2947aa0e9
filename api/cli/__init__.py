"""Commands of `flask` for this service."""

import secrets
import unicodedata
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext
from sqlalchemy.exc import DBAPIError

from api.auth.authentication import passwords
from api.cli.backups import backup, restore
from api.cli.checks import check as check_deployment
from api.cli.database import on_migrated_database
from api.cli.tokens import tokens
from api.cli.users import users
from api.contract.openapi import as_yaml, document
from api.db import db, utc_now
from api.db.engine import is_read_only
from api.db.postgresql import UnsuitableDatabaseError
from api.models.counters import wrong_counters
from api.posts.rebuilding import rebuild_posts

AMOUNT = click.IntRange(0, 10_000_000)


def init_app(app: Flask) -> None:
    """Add the commands. Flask-SQLAlchemy adds `db` and the models to `flask shell`."""
    for command in (
        backup,
        check_deployment,
        counters,
        openapi,
        rebuild_search,
        restore,
        seed_command,
        serve,
        tokens,
        users,
    ):
        app.cli.add_command(command)

    @app.shell_context_processor
    def expire_on_commit() -> dict[str, object]:
        """Let `flask shell` read rows and lists such as `u.posts` again after a commit."""
        db.session().expire_on_commit = True
        return {}


@click.command("openapi")
@with_appcontext
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def openapi(output: Path | None) -> None:
    """Print the OpenAPI document as YAML, or write it to a file."""
    contract = as_yaml(document(current_app))
    if output:
        output.write_text(contract, "utf-8")
    else:
        click.echo(contract.encode(), nl=False)  # In UTF-8, whatever the locale.


counters = AppGroup("counters", help="Counters of posts, likes, replies and follows.")


@counters.command("check")
@click.option("--repair", is_flag=True, help="Correct wrong counters.")
@on_migrated_database
def check(repair: bool) -> None:
    """Compare the counters with the rows that they count; fail if one is wrong."""
    wrong = wrong_counters(repair=repair)
    db.session.commit()
    for counter, rows in wrong.items():
        click.echo(f"{counter}: {rows} wrong")
    if any(wrong.values()) and not repair:
        raise click.exceptions.Exit(1)


@click.command("seed")
@with_appcontext
@click.option("--users", default=1_000, type=AMOUNT, show_default=True)
@click.option("--posts", default=10_000, type=AMOUNT, show_default=True)
@click.option("--follows", type=AMOUNT, help="Default: 20 a user.")
@click.option("--likes", type=AMOUNT, help="Default: 2 a post.")
@click.option("--random-seed", default=1, show_default=True, help="Another number gives other rows.")
@click.option("--password", help="The password of all users. Without it, none can sign in.")
@click.option("--force", is_flag=True, help="Add to a database that already has users.")
@on_migrated_database
def seed_command(password: str | None, **options: Any) -> None:
    """Insert fake users, posts, follows and likes.

    They are dated in the year that ends today. The same options insert the same rows, all in one
    transaction.
    """
    # Imported here, because importing the library for fake data takes a quarter of a second.
    from api.dev.seed import analyze, seed

    password_hash = passwords().hash(unicodedata.normalize("NFC", password or secrets.token_urlsafe()))
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    seed(password_hash=password_hash, until=today, **options)
    db.session.commit()
    analyze()
    click.echo(
        f"All users have the password {password!r}."
        if password
        else "No user can sign in, because --password is not set."
    )


@click.command("serve")
@with_appcontext
def serve() -> None:
    """Serve HTTP requests at HOST and PORT until interrupted."""
    from api.server import serve_forever  # Other commands do not load granian.

    _ensure_suitable_database()
    serve_forever(current_app.config)


@click.command("rebuild-search")
@with_appcontext
@on_migrated_database
def rebuild_search() -> None:
    """Rebuild the search index and the hashtags of existing posts.

    Run it after an upgrade that changes the rules for words. The service can run meanwhile. If the command is
    interrupted, run it again: it writes only the posts that still need it.
    """
    posts, words, entities = rebuild_posts()
    click.echo(f"Checked {posts} posts: rebuilt the words of {words} and the entities of {entities}.")


def _ensure_suitable_database() -> None:
    """Raise ClickException if the database must be set up differently; warn if it is read-only.

    The service starts although the database cannot be reached, and connects when it can be.
    """
    try:
        if is_read_only():
            click.echo("The database is read-only: reads succeed, writes do not.", err=True)
    except DBAPIError as error:
        if isinstance(error.orig, UnsuitableDatabaseError):
            raise click.ClickException(f"Cannot open the database: {error.orig}") from None
    finally:
        db.engine.dispose()  # Processes that are forked must not share a connection.
