"""Creates databases of up to ten million posts, for `benchmarks.lists`.

`flask seed` generates each row in Python. A database of more than `SEEDED_MAXIMUM` posts consists of copies
of its rows, which the database makes: each row becomes several neighbouring rows, whose ids and references
to other rows are multiplied alike, so that all counters remain correct.
"""

import sqlite3
from contextlib import closing
from typing import Any

import psycopg
from flask import Flask
from sqlalchemy import Column, Select, Table, func, insert, literal, make_url, select, update

from api.db import db, utc_now
from api.dev.seed import analyze
from api.models import Entity, Follow, Like, Post, User
from tests.support.databases import disable_triggers

SEEDED_MAXIMUM = 100_000
TABLES: list[Any] = [model.__table__ for model in (User, Post, Entity, Follow, Like)]
RARE_WORD, REPLACEMENT = "zeppelin", "balloon"
# One of this many posts becomes a reply to one post, unless it is a reply already: a fiftieth of all posts.
REPLIES_EVERY = 40
# The fewest and most posts of users who write seldom.
SELDOM = (1, 5)


def run(app: Flask, *arguments: str) -> None:
    """Run a command of `flask`."""
    result = app.test_cli_runner().invoke(args=arguments)
    if result.exit_code:
        raise SystemExit(result.output) from result.exception


def fill(app: Flask, size: int, urls: dict[int, str]) -> None:
    """Fill a database with a number of posts, a tenth as many users, and as many follows and likes.

    `urls` has the databases that are filled already, by their sizes; a large one multiplies one of them.
    """
    run(app, "db", "upgrade")
    if size <= SEEDED_MAXIMUM:
        users = max(2_000, size // 10)
        run(app, "seed", f"--users={users}", f"--posts={size}", f"--follows={size}", f"--likes={size}")
        return
    source = max((part for part in urls if size % part == 0 and part <= SEEDED_MAXIMUM), default=None)
    if source is None:
        raise SystemExit(f"{size} posts need a smaller size that divides them.")
    is_sqlite = urls[source].startswith("sqlite")
    multiply = _multiply_sqlite if is_sqlite else _multiply_postgresql
    multiply(urls[source], app.config["DATABASE_URL"], size // source)
    with app.app_context():
        analyze()


def _multiply_sqlite(source: str, target: str, factor: int) -> None:
    with closing(sqlite3.connect(str(make_url(target).database), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")  # In KiB.
        connection.execute("ATTACH ? AS source", [make_url(source).database])
        connection.execute("BEGIN")
        # Indexes are built faster from all rows at once.
        created = connection.execute(
            "SELECT type, name, sql FROM main.sqlite_master WHERE type IN ('index', 'trigger') AND sql > ''"
        ).fetchall()
        for kind, name, _ in created:
            connection.execute(f"DROP {kind} {name}")
        numbers = ", ".join(f"({number})" for number in range(factor))
        for table in TABLES:
            names, values = _copied(table, factor)
            rows = f"SELECT {values} FROM source.{table.name} AS original CROSS JOIN copies"
            copies = f"WITH copies (n) AS (VALUES {numbers})"
            connection.execute(f"{copies} INSERT INTO main.{table.name} ({names}) {rows}")
        for _, _, statement in created:
            connection.execute(statement)
        connection.execute("INSERT INTO posts_search(posts_search) VALUES ('rebuild')")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def _multiply_postgresql(source: str, target: str, factor: int) -> None:
    reader_url, writer_url = (url.replace("+psycopg", "") for url in (source, target))
    with psycopg.connect(reader_url) as reader, psycopg.connect(writer_url) as writer:
        writer.execute("SET session_replication_role = replica")  # Without triggers and foreign keys.
        writer.execute("SET maintenance_work_mem = '1GB'")
        created = writer.execute(
            """
            SELECT indexname, indexdef FROM pg_indexes
            WHERE schemaname = current_schema() AND tablename = ANY(%s)
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)
            """,
            [[table.name for table in TABLES]],
        ).fetchall()
        for name, _ in created:
            writer.execute(f"DROP INDEX {name}")
        for table in TABLES:
            names, values = _copied(table, factor, "TSVECTOR")
            copies = f"generate_series(0, {factor - 1}) AS copies (n)"
            rows = f"SELECT {values} FROM {table.name} AS original CROSS JOIN {copies}"
            with (
                reader.cursor().copy(f"COPY ({rows}) TO STDOUT (FORMAT binary)") as copy_from,
                writer.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN (FORMAT binary)") as copy_to,
            ):
                for block in copy_from:
                    copy_to.write(block)
            if "id" in table.columns:
                sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                writer.execute(f"SELECT setval({sequence}, max(id)) FROM {table.name}")
        for _, statement in created:
            writer.execute(statement)


def _copied(table: Table, factor: int, words_type: str = "TEXT") -> tuple[str, str]:
    """Return the names of a table's columns, and their values in the nth copy of a row."""
    columns = [column for column in table.columns if column.computed is None]
    names = [f'"{column.name}"' for column in columns]
    return ", ".join(names), ", ".join(_value(column, factor, words_type) for column in columns)


def _value(column: Column[Any], factor: int, words_type: str) -> str:
    value = f'original."{column.name}"'
    if column.name == "id" or column.foreign_keys:
        return f"{value} * {factor} - n"
    if column.name == "username":
        return f"CASE n WHEN 0 THEN {value} ELSE {value} || '_' || n END"
    if column.name == "email":
        return f"CASE n WHEN 0 THEN {value} ELSE n || '_' || {value} END"
    if column.name in ("body", "words"):  # The rare word is as rare in each database.
        copy = f"replace(CAST({value} AS TEXT), '{RARE_WORD}', '{REPLACEMENT}')"
        if column.name == "words":
            copy = f"CAST({copy} AS {words_type})"
        return f"CASE WHEN n > 0 AND original.body LIKE '%{RARE_WORD}%' THEN {copy} ELSE {value} END"
    return value


def add_extremes(app: Flask) -> None:
    """Add a post with a fiftieth of all posts as replies, and a celebrity whom all users follow."""
    with app.app_context():
        disable_triggers()
        post_id = db.session.scalars(most_liked().with_only_columns(Post.id)).one()
        chosen = update(Post).where(Post.id % REPLIES_EVERY == 0, ~Post.is_reply, Post.id != post_id)
        result: Any = db.session.execute(chosen.values(is_reply=True, in_reply_to_id=post_id))
        replies = Post.reply_count + result.rowcount
        db.session.execute(update(Post).where(Post.id == post_id).values(reply_count=replies))

        user_id = db.session.scalars(most_followed().with_only_columns(User.id)).one()
        follows = select(Follow.follower_id).where(Follow.followed_id == user_id)
        others = select(User.id, literal(user_id), literal(utc_now())).where(
            User.id != user_id, User.id.not_in(follows)
        )
        columns = ["follower_id", "followed_id", "created_at"]
        db.session.execute(insert(Follow).from_select(columns, others.order_by(User.id)))
        # As the triggers do on SQLite.
        followed = select(func.count()).where(Follow.follower_id == User.id).scalar_subquery()
        db.session.execute(update(User).values(following_count=followed))
        followers = select(func.count()).where(Follow.followed_id == User.id).scalar_subquery()
        db.session.execute(update(User).where(User.id == user_id).values(follower_count=followers))
        db.session.commit()
        analyze()


def follow(app: Flask, follower_id: int, amount: int, *, seldom: bool) -> None:
    """Let a user follow others: those that were followed first by anyone, or those that write seldom.

    The former are the more popular ones, who write most of the posts.
    """
    with app.app_context():
        followed = select(Follow.followed_id).group_by(Follow.followed_id).order_by(func.min(Follow.id))
        if seldom:
            followed = (
                select(User.id).where(User.post_count.between(*SELDOM)).order_by(User.id % 1_009, User.id)
            )
        now = utc_now()
        rows = [
            {"follower_id": follower_id, "followed_id": followed_id, "created_at": now}
            for followed_id in db.session.scalars(followed.limit(amount))
        ]
        db.session.execute(insert(Follow), rows)
        db.session.commit()


def most_liked() -> Select[Post]:
    """Return the post that has the most likes."""
    return select(Post).order_by(Post.like_count.desc(), Post.id).limit(1)


def most_followed() -> Select[User]:
    """Return the user who has the most followers."""
    return select(User).order_by(User.follower_count.desc(), User.id).limit(1)


def bytes_of_relations(app: Flask) -> dict[str, int]:
    """Return the size of each table and index of a database."""
    with app.app_context(), db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            sizes = "SELECT name, pgsize AS size FROM dbstat WHERE aggregate = TRUE"
        else:
            sizes = """
                SELECT relname AS name, pg_table_size(oid) AS size FROM pg_class
                WHERE relkind IN ('r', 'i') AND relnamespace = current_schema()::regnamespace
            """
        return {row.name: row.size for row in connection.exec_driver_sql(sizes)}
