"""Reads and writes posts with `sqlite3` or psycopg alone, for the servers that use no other library.

Each thread has a connection in autocommit mode. SQLite or PostgreSQL, by DATABASE_URL.
"""

import hmac
import re
import sqlite3
import time
from base64 import urlsafe_b64decode
from threading import local
from typing import Any

import orjson
import psycopg

from benchmarks.compare import common
from benchmarks.compare.common import now, page_of, post_of


def statement(text: str) -> str:
    """Return a statement with parameters in the driver's style."""
    return re.sub(r":(\w+)", r"%(\1)s", text) if common.ON_POSTGRESQL else text


POST, ALL_POSTS, FEED = map(statement, (common.POST, common.ALL_POSTS, common.FEED))
# One statement, which looks up the user as well.
USER_POSTS = statement(common.USER_POSTS.replace(":user_id", f"({common.USER_ID})"))
USER_ID_OF_SESSION, MENTIONED = map(statement, (common.USER_ID_OF_SESSION, common.MENTIONED))
INSERT_POST, INSERT_ENTITY = map(statement, (common.INSERT_POST, common.INSERT_ENTITY))
BEGIN = "BEGIN" if common.ON_POSTGRESQL else "BEGIN IMMEDIATE"

threads = local()


def read_post(post_id: int) -> dict[str, Any] | None:
    """Return a post."""
    row = connection().execute(POST, {"id": post_id}).fetchone()
    return post_of(row) if row else None


def read_page(statement: str, limit: int, before: int, **values: Any) -> bytes:
    """Return the JSON of a page of posts."""
    rows = connection().execute(statement, {"before": before, "limit": limit + 1, **values}).fetchall()
    return page_of(rows, limit)


def publish(user_id: int, body: str) -> dict[str, Any]:
    """Insert a post, and return it."""
    database = connection()
    database.execute(BEGIN)
    try:
        post = {"body": body, "words": common.words_column(body), "now": now(), "user_id": user_id}
        post_id = database.execute(INSERT_POST, post).fetchone()[0]
        names = common.mentioned_usernames(body)
        user_ids = (
            dict(database.execute(MENTIONED, {"names": common.names_parameter(names)}).fetchall())
            if names
            else {}
        )
        entities = [{"post_id": post_id, **entity} for entity in common.entities_of(body, user_ids)]
        database.cursor().executemany(INSERT_ENTITY, entities)
        row = database.execute(POST, {"id": post_id}).fetchone()
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    return post_of(row)


def user_id_of(authorization: str) -> int | None:
    """Return the id of the user to whom a token belongs, or None if it is not valid."""
    session_id = session_id_of(authorization)
    if session_id is None:
        return None
    row = connection().execute(USER_ID_OF_SESSION, {"session_id": session_id, "now": now()}).fetchone()
    return row[0] if row else None


def session_id_of(authorization: str) -> int | None:
    """Return the id of the session in a token, or None if it is not valid."""
    signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
    try:
        expected = hmac.digest(common.SECRET_KEY.encode(), signed.encode(), "sha256")
        if not hmac.compare_digest(urlsafe_b64decode(f"{signature}="), expected):
            return None
        claims = orjson.loads(urlsafe_b64decode(f"{signed.partition('.')[2]}=="))
    except ValueError:
        return None
    return int(claims["sub"]) if claims["exp"] > time.time() else None


def connection() -> Any:
    """Return the connection of the current thread."""
    if not hasattr(threads, "connection"):
        if common.ON_POSTGRESQL:
            threads.connection = psycopg.connect(
                common.DATABASE_URL.replace("+psycopg", ""),
                autocommit=True,
                options=common.POSTGRESQL_OPTIONS,
                prepare_threshold=0,
            )
        else:
            threads.connection = sqlite3.connect(common.SQLITE_FILE, isolation_level=None)
            threads.connection.execute("PRAGMA synchronous = FULL")
            threads.connection.execute("PRAGMA foreign_keys = ON")
    return threads.connection
