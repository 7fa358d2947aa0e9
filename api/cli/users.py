"""`flask users`: accounts. The commands change them by the same functions as the API."""

import sys
from typing import Any

import click
from flask.cli import AppGroup
from marshmallow import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from api.auth.authentication import account_with_login, folded_login
from api.cli.database import on_migrated_database
from api.cli.tables import as_json, print_json, print_rows, text_of
from api.db import db, utc_now
from api.db.transactions import retry_rolled_back
from api.models import User
from api.tokens.queries import sessions_of
from api.users.accounts import end_sessions, lock_rows_changed_by_deletion, register
from api.users.queries import all_users, users_with_prefix
from api.users.schemas import UserCreateSchema
from api.web.problems import taken_member

COLUMNS = (
    "id",
    "username",
    "email",
    "email_verified_at",
    "created_at",
    "suspended_at",
    "post_count",
    "follower_count",
    "following_count",
)
SESSION_COLUMNS = ("id", "user_agent", "created_at", "refreshed_at", "expires_at")

users = AppGroup("users", help="Accounts. NAME is a username or an email address.")
name_argument = click.argument("name")


@users.command("create")
@click.argument("username")
@click.argument("email")
@on_migrated_database
def create(username: str, email: str) -> None:
    """Register a user by the rules of the API.

    Asks for the password, or reads it from standard input if that is not a terminal.
    """
    fields = {"username": username, "email": email, "password": _read_password()}
    try:
        user = register(**UserCreateSchema().load(fields))
        db.session.commit()
    except ValidationError as error:
        messages: dict[str, Any] = error.messages_dict
        raise click.ClickException(
            "; ".join(f"{name}: {text}" for name, [text] in messages.items())
        ) from None
    except IntegrityError as error:
        raise click.ClickException(f"{taken_member(error)}: Another user has this already.") from None
    click.echo(f"Created {user.username}, id {user.id}. The email that verifies the address is being sent.")


@users.command("list")
@click.option("--prefix", default="", help="Only usernames that begin with this text, sorted by username.")
@click.option("--suspended", is_flag=True, help="Only suspended users.")
@click.option("--limit", default=50, type=click.IntRange(1), show_default=True, help="How many at most.")
@as_json
@on_migrated_database
def list_users(prefix: str, suspended: bool, limit: int, as_json: bool) -> None:
    """List users, the newest first."""
    if prefix:
        found = users_with_prefix(prefix).select().order_by(User.folded_username)
    else:
        found = all_users().select().order_by(User.id.desc())
    if suspended:
        found = found.where(User.suspended_at.is_not(None))
    rows = [vars(user) for user in db.session.scalars(found.limit(limit))]
    db.session.commit()
    print_rows(rows, COLUMNS, as_json=as_json)


@users.command("show")
@name_argument
@as_json
@on_migrated_database
def show(name: str, as_json: bool) -> None:
    """Show an account."""
    user = _locked_user(name)
    sessions = db.session.scalars(sessions_of(user.id, utc_now()).select()).all()
    db.session.commit()
    account = {column: getattr(user, column) for column in COLUMNS} | {"sessions": len(sessions)}
    if as_json:
        print_json(account)
        return
    for column, value in account.items():
        click.echo(f"{column:<20}{text_of(value)}")


@users.command("suspend")
@name_argument
@on_migrated_database
@retry_rolled_back
def suspend(name: str) -> None:
    """Keep a user from signing in, and end their sessions. Their posts stay."""
    user = _locked_user(name)
    user.suspended_at = user.suspended_at or utc_now()
    end_sessions(user)
    db.session.commit()
    click.echo(f"Suspended {user.username}, id {user.id}.")


@users.command("restore")
@name_argument
@on_migrated_database
@retry_rolled_back
def restore(name: str) -> None:
    """Allow a suspended user to sign in again."""
    user = _locked_user(name)
    user.suspended_at = None
    db.session.commit()
    click.echo(f"Restored {user.username}, id {user.id}.")


@users.command("delete")
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_migrated_database
def delete(name: str, yes: bool) -> None:
    """Delete a user permanently, with all their posts, likes, follows and sessions."""
    user = _locked_user(name)
    db.session.commit()
    if not yes:
        click.confirm(f"Delete {user.username}, id {user.id}, with {user.post_count} posts?", abort=True)
    _delete(user.id, name)
    click.echo(f"Deleted {user.username}, id {user.id}.")


@retry_rolled_back
def _delete(user_id: int, name: str) -> None:
    lock_rows_changed_by_deletion(user_id)
    db.session.delete(_locked_user(name, user_id))
    db.session.commit()


@users.command("sessions")
@name_argument
@click.option("--end", is_flag=True, help="End all sessions.")
@as_json
@on_migrated_database
def sessions(name: str, end: bool, as_json: bool) -> None:
    """List the sessions of a user, the newest first."""
    user = _locked_user(name)
    if end:
        end_sessions(user)
        db.session.commit()
        click.echo(f"Ended all sessions of {user.username}, id {user.id}.")
        return
    found = sessions_of(user.id, utc_now()).select()
    newest_first = sorted(db.session.scalars(found), key=lambda session: session.id, reverse=True)
    db.session.commit()
    print_rows(map(vars, newest_first), SESSION_COLUMNS, as_json=as_json)


def _locked_user(name: str, user_id: int | None = None) -> User:
    """Return the user with an id or, without one, with a name; the row is locked.

    Raises ClickException, with the name, if there is none.
    """
    found = select(User).where(User.id == (user_id or account_with_login(folded_login(name))[0]))
    user = db.session.scalar(found.with_for_update(), execution_options={"populate_existing": True})
    if user is None:
        raise click.ClickException(f"There is no user {name}.")
    return user


def _read_password() -> str:
    """Return a password: typed twice at a terminal, or the first line of standard input."""
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    try:
        return sys.stdin.buffer.readline().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.ClickException("The password is not in UTF-8.") from None
