"""Migrates a database with a million posts while others read and write, and measures how long these wait.

Run: .venv/bin/python -m benchmarks.migrating [sqlite|postgresql] [--posts 1000000] [--to 0005]

Goes back to a revision one by one, and forward again, by the commands of `flask db`. Meanwhile one thread
reads a page of posts with their authors and numbers of hashtags, and another one changes a user, each every
10 ms. Their statements use what all these revisions have, with the timeouts of the service. Prints a table:
the seconds that each command took, with the start of its process, the longest read and write in milliseconds,
and how many failed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from time import perf_counter
from typing import Any

import click
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from api.config import ROOT, SETTINGS
from api.db.postgresql import READ_LOCK_TIMEOUT
from api.models import Entity, Post
from benchmarks.servers import DATABASES, run_flask, running_database

INTERVAL_SECONDS = 0.01
TIMEOUT_SECONDS: int = SETTINGS["DATABASE_TIMEOUT_SECONDS"].load_default
READ = """
    SELECT posts.id, posts.body, users.username,
        (SELECT count(tag) FROM entities WHERE entities.post_id = posts.id)
    FROM posts JOIN users ON users.id = posts.user_id ORDER BY posts.id DESC LIMIT 25
"""
WRITE = "UPDATE users SET about = 'Botanist.' WHERE id = (SELECT max(id) FROM users)"
TRIGGERS = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"


@dataclass
class Waits:
    """The longest execution of a statement in milliseconds, and the number of those that failed."""

    longest: float = 0.0
    failed: int = 0


@click.command()
@click.argument("kind", default="sqlite", type=click.Choice(list(DATABASES)))
@click.option("--posts", default=1_000_000, show_default=True)
@click.option("--to", "last", default="0005", show_default=True, help="The oldest revision.")
def main(kind: str, posts: int, last: str) -> None:
    """Seed, migrate, and print the table."""
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    path = [script.revision for script in scripts.iterate_revisions("heads", last)] + [last]
    steps = [("downgrade", revision) for revision in path[1:]]
    steps += [("upgrade", revision) for revision in reversed(path[:-1])]
    with running_database(kind) as database:
        url = database.create("seeded")
        run_flask(url, "db", "upgrade")
        run_flask(url, "seed", f"--users={posts // 100}", f"--posts={posts // 100}")
        multiply(url, posts)
        print("| command | seconds | longest read | failed reads | longest write | failed writes |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for command, revision in steps:
            with watched(url) as (reads, writes):
                began = perf_counter()
                run_flask(url, "db", command, revision)
                seconds = perf_counter() - began
            cells = [f"`flask db {command} {revision}`", f"{seconds:.1f}"]
            for waits in (reads, writes):
                cells += [f"{waits.longest:.0f}", str(waits.failed)]
            print(f"| {' | '.join(cells)} |", flush=True)


def multiply(url: str, posts: int) -> None:
    """Copy the posts and their entities until there are enough, which takes less time than `flask seed`.

    The copies are neither counted nor found by searches, which no migration notices.
    """
    engine = new_engine(url, "0")
    tables: list[Any] = [Post.__table__, Entity.__table__]
    with engine.begin() as connection:
        triggers: Sequence[Any] = []
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # No triggers.
        else:
            triggers = connection.execute(text(TRIGGERS)).all()
        for name, _ in triggers:
            connection.execute(text(f"DROP TRIGGER {name}"))
        seeded = connection.scalar(select(func.max(Post.id))) or 0
        for copied in range(seeded, posts, seeded):
            for table, key in zip(tables, (Post.id, Entity.post_id), strict=True):
                rows = [column + copied if column.name == key.name else column for column in table.c]
                original = select(*rows).where(key <= seeded)
                connection.execute(insert(table).from_select(list(table.c), original))
        for _, statement in triggers:
            connection.exec_driver_sql(statement)
    engine.dispose()


@contextmanager
def watched(url: str) -> Iterator[tuple[Waits, Waits]]:
    """Read and write in two threads."""
    stop = Event()
    reads, writes = Waits(), Waits()
    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(repeat, new_engine(url, READ_LOCK_TIMEOUT), READ, stop, reads),
            threads.submit(repeat, new_engine(url, f"{TIMEOUT_SECONDS}s"), WRITE, stop, writes),
        ]
        try:
            yield reads, writes
        finally:
            stop.set()
        for one in running:
            one.result()


def new_engine(url: str, lock_timeout: str) -> Engine:
    """Return an engine whose sessions have a timeout for locks on PostgreSQL."""
    if url.startswith("sqlite"):
        return create_engine(url, connect_args={"timeout": TIMEOUT_SECONDS})
    options = {"options": f"-c lock_timeout={lock_timeout}"}
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"), connect_args=options)


def repeat(engine: Engine, statement: str, stop: Event, waits: Waits) -> None:
    """Execute a statement in a transaction of its own, again and again."""
    while not stop.wait(INTERVAL_SECONDS):
        began = perf_counter()
        try:
            with engine.begin() as connection:
                connection.execute(text(statement))
        except DBAPIError:
            waits.failed += 1
        waits.longest = max(waits.longest, 1000 * (perf_counter() - began))
    engine.dispose()


if __name__ == "__main__":
    main()
