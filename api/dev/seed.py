"""Inserts fake rows in bulk."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

import click
from sqlalchemy import func, insert, select, text

from api.db import Base, db, dialect_name
from api.dev.fake_data import FakeData, Row
from api.models import Entity, Follow, Like, Post, User
from api.posts.entities import entities_in

BATCH = 10_000
FOLLOWS_PER_USER, LIKES_PER_POST = 20, 2


def seed(
    *,
    users: int,
    posts: int,
    follows: int | None,
    likes: int | None,
    password_hash: str,
    until: datetime,
    random_seed: int,
    force: bool,
) -> None:
    """Insert the given numbers of rows, dated in the year before `until`. The caller commits.

    None stands for 20 follows per user and 2 likes per post, but at most half of all possible pairs. The same
    arguments insert the same rows. Raises click.ClickException if the numbers contradict each other, or if
    the database has users and `force` is not set.
    """
    follows, likes = _follows_and_likes(users, posts, follows, likes)
    usernames = set(db.session.scalars(select(User.folded_username)))
    if usernames and not force:
        raise click.ClickException("The database already has users. Use --force to add to them.")
    taken = usernames | set(db.session.scalars(select(User.folded_email)))
    with _bulk_inserts():
        fake_data = FakeData(
            _reserve_ids(User, users),
            _reserve_ids(Post, posts),
            follows=follows,
            likes=likes,
            taken=taken,
            until=until,
            random_seed=random_seed,
        )
        user_ids = {username: user_id for user_id, username in fake_data.usernames.items()}
        for batch in _batches(fake_data.users(password_hash), "users", users):
            _insert(User, batch)
        for batch in _batches(fake_data.posts(), "posts", posts):
            _insert(Post, batch)
            entities = (
                (post["id"], columns) for post in batch for columns in entities_in(post["body"], user_ids)
            )
            _insert(Entity, [{"post_id": post_id, **columns} for post_id, columns in entities])
        for batch in _batches(fake_data.follows(), "follows", follows):
            _insert(Follow, batch)
        for batch in _batches(fake_data.likes(), "likes", likes):
            _insert(Like, batch)


def analyze() -> None:
    """Update the statistics of the query planner; call it after the commit."""
    if dialect_name() == "sqlite":
        db.session.execute(text("ANALYZE"))
        db.session.commit()
    else:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("SET lock_timeout = 0"))  # Autovacuum locks a table that was just filled.
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("RESET statement_timeout"))
            connection.execute(text("RESET lock_timeout"))


def _follows_and_likes(users: int, posts: int, follows: int | None, likes: int | None) -> tuple[int, int]:
    """Return the numbers of follows and likes. Raises ClickException if they are impossible."""
    possible_follows, possible_likes = users * max(users - 1, 0), users * posts
    if follows is None:
        follows = min(FOLLOWS_PER_USER * users, possible_follows // 2)
    if likes is None:
        likes = min(LIKES_PER_POST * posts, possible_likes // 2)
    if follows > possible_follows:
        raise click.ClickException(f"{users} users cannot follow each other {follows} times.")
    if posts and not users:
        raise click.ClickException("Posts need at least one user.")
    if likes > possible_likes:
        raise click.ClickException(f"{users} users cannot like {posts} posts {likes} times.")
    return follows, likes


@contextmanager
def _bulk_inserts() -> Iterator[None]:
    """Disable triggers and timeouts for the transaction.

    The rows contain their counters, and SQLite's full-text index is built at the end. The transaction blocks
    other writers; a rollback restores the triggers.
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
        # In KiB. The default of 2 MB is smaller than the indexes, whose pages would be written repeatedly.
        connection.execute(text("PRAGMA cache_size = -200000"))
        triggers = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        ).all()
        for name, _ in triggers:
            connection.execute(text(f"DROP TRIGGER {name}"))
        yield
        for _, statement in triggers:
            connection.exec_driver_sql(statement)
        connection.execute(text("INSERT INTO posts_search(posts_search) VALUES ('rebuild')"))


def _reserve_ids(model: type[Base], count: int) -> range:
    """Return the next ids of a table; rows that are inserted later get higher ones."""
    table = model.__tablename__
    if dialect_name() == "postgresql":
        sequence = func.pg_get_serial_sequence(table, "id")
        first = db.session.scalars(select(func.nextval(sequence))).one()
        db.session.execute(select(func.setval(sequence, first + count)))
    else:
        # An AUTOINCREMENT table continues after the highest id that it has ever had.
        last = text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :table")
        first = db.session.scalars(last, {"table": table}).one() + 1
    return range(first, first + count)


def _batches(rows: Iterator[Row], label: str, length: int) -> Iterator[list[Row]]:
    """Group rows into batches and print the progress."""
    with click.progressbar(length=length, label=f"{label:8}") as bar:
        while batch := list(islice(rows, BATCH)):
            yield batch
            bar.update(len(batch))


def _insert(model: type[Base], rows: list[Row]) -> None:
    """Insert rows that have the same columns. PostgreSQL's COPY takes half the time of INSERT."""
    connection: Any = db.session.connection()
    if connection.dialect.name == "sqlite" and rows:
        connection.execute(insert(model), rows)
    elif rows:
        columns = [model.__table__.c[name] for name in rows[0]]
        types = [column.type.dialect_impl(connection.dialect) for column in columns]
        processors = [column_type.bind_processor(connection.dialect) for column_type in types]
        names = ", ".join(f'"{column.name}"' for column in columns)
        statement = f"COPY {model.__tablename__} ({names}) FROM STDIN"
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                values = zip(processors, row.values(), strict=True)
                copy.write_row([process(value) if process else value for process, value in values])
