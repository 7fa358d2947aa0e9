"""The floor: a bare WSGI function, the database's driver and orjson, on granian as the service is.

It does what the answer cannot do without. Tokens: HMAC-SHA-256, then one statement for session and user.

Run: granian --interface wsgi --workers 1 --blocking-threads 8 benchmarks.compare.floor:app
"""

import hmac
import re
import sqlite3
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable
from threading import local
from typing import Any
from urllib.parse import parse_qsl

import orjson

from api.text import marks_in, names_in, words_of
from benchmarks.compare.common import DATABASE, SECRET_KEY, SELECT, cursor_of, id_of, now, post_of

PATH = re.compile(r"/api/v1/(?:posts(?:/(\d+))?|users/([\w.-]+)/posts|(feed))")
STATUSES = {201: "201 Created", 304: "304 Not Modified", 401: "401 Unauthorized", 404: "404 Not Found"}
STATUSES |= {200: "200 OK", 405: "405 Method Not Allowed", 422: "422 Unprocessable Content"}
USER_OF_SESSION = """
    SELECT users.id FROM sessions JOIN users ON users.id = sessions.user_id
    WHERE sessions.id = ? AND sessions.expires_at > ?
"""
INSERT_POST = """
    INSERT INTO posts (body, words, timestamp, user_id, is_reply, version) VALUES (?, ?, ?, ?, 0, 1)
    RETURNING id
"""
INSERT_ENTITY = """
    INSERT INTO entities (start, "end", tag, user_id, is_repeat, post_id) VALUES (?, ?, ?, ?, ?, ?)
"""

Answer = tuple[int, bytes, str | None]
threads = local()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request."""
    status, body, etag = answer(environ)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if etag:
        headers.append(("ETag", etag))
    start_response(STATUSES[status], headers)
    return [body]


def answer(environ: dict[str, Any]) -> Answer:
    """Return the status, the body and the entity tag; the request's path says what is asked for."""
    found = PATH.fullmatch(environ["PATH_INFO"])
    if not found:
        return 404, b"", None
    post_id, username, feed = found.groups()
    database = connection()
    authorization = environ.get("HTTP_AUTHORIZATION")
    user_id = user_of(database, authorization) if authorization else None
    if user_id is None and (authorization or feed or environ["REQUEST_METHOD"] == "POST"):
        return 401, b"", None
    if environ["REQUEST_METHOD"] == "POST":
        return published(database, user_id, environ["wsgi.input"].read())
    if post_id:
        row = database.execute(f"{SELECT} WHERE posts.id = ?", (post_id,)).fetchone()
        if row is None:
            return 404, b"", None
        etag = f'"{row[8]}"'
        if environ.get("HTTP_IF_NONE_MATCH") == etag:
            return 304, b"", etag
        return 200, orjson.dumps(post_of(row)), etag
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    if username:
        theirs = "posts.user_id = (SELECT id FROM users WHERE folded_username = ?)"
        return page(database, query, theirs, username.lower())
    if feed:
        followed = "SELECT followed_id FROM follows WHERE follower_id = ?"
        return page(
            database, query, f"(+posts.user_id = ? OR +posts.user_id IN ({followed}))", user_id, user_id
        )
    return page(database, query, "true")


def page(database: sqlite3.Connection, query: dict[str, str], condition: str, *values: Any) -> Answer:
    """Read a page of the posts for which a condition holds."""
    try:
        limit = int(query.get("limit", 20))
        before = id_of(query["cursor"]) if "cursor" in query else 2**63 - 1
    except ValueError:
        return 422, b"", None
    if not 1 <= limit <= 100:
        return 422, b"", None
    statement = f"{SELECT} WHERE posts.id < ? AND {condition} ORDER BY posts.id DESC LIMIT ?"
    rows = database.execute(statement, (before, *values, limit + 1)).fetchall()
    shown = {
        "items": [post_of(row) for row in rows[:limit]],
        "next_cursor": cursor_of(rows[limit - 1][0]) if len(rows) > limit else None,
        "prev_cursor": cursor_of(rows[0][0]) if rows else None,
    }
    return 200, orjson.dumps(shown), None


def published(database: sqlite3.Connection, user_id: int | None, sent: bytes) -> Answer:
    """Write a post."""
    try:
        body = orjson.loads(sent)["body"]
    except (ValueError, LookupError, TypeError):
        return 422, b"", None
    if not isinstance(body, str) or not 1 <= len(body) <= 140:
        return 422, b"", None
    moment = now()
    database.execute("BEGIN IMMEDIATE")
    try:
        post = (body, " ".join(words_of(body)), moment, user_id)
        post_id = database.execute(INSERT_POST, post).fetchone()[0]
        user_ids = {}
        if names := names_in(body):
            places = ", ".join("?" * len(names))
            named = f"SELECT folded_username, id FROM users WHERE folded_username IN ({places})"
            user_ids = dict(database.execute(named, tuple(names)))
        database.executemany(INSERT_ENTITY, [(*mark, post_id) for mark in marks_in(body, user_ids)])
        row = database.execute(f"{SELECT} WHERE posts.id = ?", (post_id,)).fetchone()
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    return 201, orjson.dumps(post_of(row)), None


def user_of(database: sqlite3.Connection, authorization: str) -> int | None:
    """Return the id of whose token it is, if it is good."""
    signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
    try:
        expected = hmac.digest(SECRET_KEY.encode(), signed.encode(), "sha256")
        if not hmac.compare_digest(urlsafe_b64decode(f"{signature}="), expected):
            return None
        claims = orjson.loads(urlsafe_b64decode(f"{signed.partition('.')[2]}=="))
    except ValueError:
        return None
    if claims["exp"] <= time.time():
        return None
    row = database.execute(USER_OF_SESSION, (claims["sub"], now())).fetchone()
    return row[0] if row else None


def connection() -> sqlite3.Connection:
    """Return this thread's connection."""
    if not hasattr(threads, "connection"):
        threads.connection = sqlite3.connect(DATABASE, isolation_level=None)
        threads.connection.execute("PRAGMA synchronous = FULL")
        threads.connection.execute("PRAGMA foreign_keys = ON")
    return threads.connection  # type: ignore[no-any-return]
