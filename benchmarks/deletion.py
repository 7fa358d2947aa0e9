"""Measures how long the deletion of an account takes that has many followers.

Run: .venv/bin/python -m benchmarks.deletion [sqlite|postgresql] [--followers 1000,10000,100000,1000000]
The count of followed users changes for each follower, all in the transaction of the deletion.
"""

import logging
from time import perf_counter
from typing import Any

import click
from flask import Flask
from sqlalchemy import String, cast, insert, literal, select, update

from api.app import create_app
from api.config import API_PREFIX, Config
from api.db import db, utc_now
from api.dev.seed import analyze
from api.models import Follow, User
from benchmarks.large_databases import run
from benchmarks.servers import DATABASES, SETTINGS, running_database
from tests.support.databases import disable_triggers

CELEBRITY = {"username": "celebrity", "email": "celebrity@example.org", "password": "9 green horses"}


@click.command()
@click.argument("kind", default="sqlite", type=click.Choice(list(DATABASES)))
@click.option("--followers", default="1000,10000,100000,1000000", show_default=True)
def main(kind: str, followers: str) -> None:
    """Print a table with the seconds for each number of followers."""
    logging.disable()
    click.echo("| followers | seconds | µs for each |\n| ---: | ---: | ---: |")
    with running_database(kind) as database:
        for number in map(int, followers.split(",")):
            url = database.create(f"followers_{number}")
            seconds = seconds_of_deletion(url, number)
            click.echo(f"| {number:,} | {seconds:.2f} | {1e6 * seconds / number:.0f} |")


def seconds_of_deletion(database_url: str, followers: int) -> float:
    """Fill an empty database with a user and followers, and delete the user through the API."""
    settings = {**SETTINGS, "DATABASE_URL": database_url, "DATABASE_TIMEOUT_SECONDS": "3600"}
    app = create_app(Config.from_environment(settings))
    run(app, "db", "upgrade")
    client = app.test_client()
    user: Any = client.post(f"{API_PREFIX}/users", json=CELEBRITY).get_json()
    add_followers(app, user["id"], followers)
    tokens: Any = client.post(
        f"{API_PREFIX}/tokens", auth=(CELEBRITY["username"], CELEBRITY["password"])
    ).get_json()
    began = perf_counter()
    response = client.delete(
        f"{API_PREFIX}/me",
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
        json={"password": CELEBRITY["password"]},
    )
    seconds = perf_counter() - began
    if response.status_code != 204:
        raise SystemExit(response.text)
    with app.app_context():
        analyze()  # PostgreSQL would plan the check for many follows, and take hours.
        db.session.commit()
    run(app, "counters", "check")
    with app.app_context():
        db.engine.dispose()
    return seconds


def add_followers(app: Flask, user_id: int, followers: int) -> None:
    """Insert users who follow a user."""
    with app.app_context():
        disable_triggers()
        number = select(literal(1).label("number")).cte("numbers", recursive=True)
        number = number.union_all(select(number.c.number + 1).where(number.c.number < followers))
        name = literal("follower") + cast(number.c.number, String)
        now = literal(utc_now())
        users = select(name, name + "@example.org", literal(""), literal(""), now, literal(1))
        columns = ["username", "email", "password_hash", "about", "created_at", "version"]
        db.session.execute(insert(User).from_select(columns, users))
        follows = select(User.id, literal(user_id), now).where(User.id != user_id)
        columns = ["follower_id", "followed_id", "created_at"]
        db.session.execute(insert(Follow).from_select(columns, follows))
        # As the triggers do on SQLite.
        db.session.execute(update(User).where(User.id != user_id).values(following_count=1))
        db.session.execute(update(User).where(User.id == user_id).values(follower_count=followers))
        db.session.commit()
        analyze()
        db.session.commit()


if __name__ == "__main__":
    main()
