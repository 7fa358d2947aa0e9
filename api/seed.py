"""Made-up rows in bulk: to try the service out, and to measure it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

import click
from sqlalchemy import func, insert, select, text

from api.database import Base, database_name, db
from api.models import Entity, Follow, Like, Post, User
from api.story import Row, Story
from api.text import marks_in

BATCH = 10_000


def seed(
    *,
    users: int,
    posts: int,
    follows: int,
    likes: int,
    password_hash: str,
    until: datetime,
    random_seed: int,
    force: bool,
) -> None:
    """Write so many rows of each, in the year before a moment; the caller commits.

    The same arguments give the same rows. Raises click.ClickException for what cannot be, and where there are
    users already, unless forced: then the new come beside them.
    """
    if follows > users * max(users - 1, 0):
        raise click.ClickException(f"{users} users cannot follow each other {follows} times.")
    if posts and not users:
        raise click.ClickException("Posts need users who write them.")
    if likes > users * posts:
        raise click.ClickException(f"{users} users cannot like {posts} posts {likes} times.")
    names = set(db.session.scalars(select(User.folded_username)))
    if names and not force:
        raise click.ClickException("There are users already. With --force, others are added.")
    taken = names | set(db.session.scalars(select(User.folded_email)))
    with _in_bulk():
        story = Story(
            _next_ids(User, users),
            _next_ids(Post, posts),
            follows=follows,
            likes=likes,
            taken=taken,
            until=until,
            random_seed=random_seed,
        )
        user_ids = {name: user_id for user_id, name in story.names.items()}
        for batch in _batches(story.users(password_hash), "users", users):
            _insert(User, batch)
        for batch in _batches(story.posts(), "posts", posts):
            _insert(Post, batch)
            marks = ((post["id"], mark) for post in batch for mark in marks_in(post["body"], user_ids))
            _insert(Entity, [{"post_id": post_id, **mark._asdict()} for post_id, mark in marks])
        for batch in _batches(story.follows(), "follows", follows):
            _insert(Follow, batch)
        for batch in _batches(story.likes(), "likes", likes):
            _insert(Like, batch)


def analyze() -> None:
    """Let the database take stock of its tables, so that it finds the best way to rows; after the commit."""
    if database_name() == "sqlite":
        db.session.execute(text("ANALYZE"))
        db.session.commit()
    else:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("RESET statement_timeout"))


@contextmanager
def _in_bulk() -> Iterator[None]:
    """Do without triggers and time limits: rows bring their counts, the search's index is made at the end.

    Nobody else writes until the transaction ends. If that is in failure, all is as it was.
    """
    connection = db.session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        tables = ("users", "posts", "follows", "likes")
        for table in tables:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        yield
        for table in tables:
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
    else:
        # In KiB. With the usual 2 MB, indexes are written and read again all the time.
        connection.execute(text("PRAGMA cache_size = -200000"))
        kept = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = connection.execute(kept).all()
        for name, _ in triggers:
            connection.execute(text(f"DROP TRIGGER {name}"))
        yield
        for _, statement in triggers:
            connection.exec_driver_sql(statement)
        connection.execute(text("INSERT INTO posts_search(posts_search) VALUES ('rebuild')"))


def _next_ids(model: type[Base], count: int) -> range:
    """Take the next ids of a table, which are not given out again."""
    table = model.__tablename__
    if database_name() == "postgresql":
        sequence = func.pg_get_serial_sequence(table, "id")
        first = db.session.scalars(select(func.nextval(sequence))).one()
        db.session.execute(select(func.setval(sequence, first + count)))
    else:
        last = text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :table")
        first = db.session.scalars(last, {"table": table}).one() + 1
    return range(first, first + count)


def _batches(rows: Iterator[Row], label: str, length: int) -> Iterator[list[Row]]:
    """Give rows some at a time, and show how far they are."""
    with click.progressbar(length=length, label=f"{label:8}") as bar:
        while batch := list(islice(rows, BATCH)):
            yield batch
            bar.update(len(batch))


def _insert(model: type[Base], rows: list[Row]) -> None:
    """Insert rows, which all have the same columns; on PostgreSQL by COPY, which takes half the time."""
    connection: Any = db.session.connection()
    if connection.dialect.name == "sqlite" and rows:
        connection.execute(insert(model), rows)
    elif rows:
        columns = [model.__table__.c[name] for name in rows[0]]
        types = [column.type.dialect_impl(connection.dialect) for column in columns]
        writers = [column_type.bind_processor(connection.dialect) for column_type in types]
        names = ", ".join(f'"{column.name}"' for column in columns)
        statement = f"COPY {model.__tablename__} ({names}) FROM STDIN"
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                values = zip(writers, row.values(), strict=True)
                copy.write_row([write(value) if write else value for write, value in values])
