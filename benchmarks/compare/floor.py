"""The floor: a bare WSGI function, the database driver and orjson, on granian with one thread.

It does only the work that each response needs. Tokens: HMAC-SHA-256, then one statement for session and
user. SQLite or PostgreSQL, by DATABASE_URL.

Run: granian --interface wsgi --workers 1 --blocking-threads 1 benchmarks.compare.floor:app
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
import psycopg

from benchmarks.compare import common
from benchmarks.compare.common import id_of, now, page_of, post_of

PATH = re.compile(r"/api/v1/(?:posts(?:/(\d+))?|users/([\w.-]+)/posts|(feed))")
STATUSES = {201: "201 Created", 304: "304 Not Modified", 401: "401 Unauthorized", 404: "404 Not Found"}
STATUSES |= {200: "200 OK", 405: "405 Method Not Allowed", 422: "422 Unprocessable Content"}

Response = tuple[int, bytes, str | None]
threads = local()


def statement(text: str) -> str:
    """Return a statement with parameters in the driver's style."""
    return re.sub(r":(\w+)", r"%(\1)s", text) if common.ON_POSTGRESQL else text


POST, ALL_POSTS, FEED = map(statement, (common.POST, common.ALL_POSTS, common.FEED))
# One statement, which looks up the user as well.
USER_POSTS = statement(common.USER_POSTS.replace(":user_id", f"({common.USER_ID})"))
USER_ID_OF_SESSION, MENTIONED = map(statement, (common.USER_ID_OF_SESSION, common.MENTIONED))
INSERT_POST, INSERT_ENTITY = map(statement, (common.INSERT_POST, common.INSERT_ENTITY))
BEGIN = "BEGIN" if common.ON_POSTGRESQL else "BEGIN IMMEDIATE"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Handle a request."""
    status, body, etag = respond(environ)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if etag:
        headers.append(("ETag", etag))
    start_response(STATUSES[status], headers)
    return [body]


def respond(environ: dict[str, Any]) -> Response:
    """Return the status, the body and the entity tag."""
    found = PATH.fullmatch(environ["PATH_INFO"])
    if not found:
        return 404, b"", None
    post_id, username, is_feed = found.groups()
    database = thread_connection()
    authorization = environ.get("HTTP_AUTHORIZATION")
    user_id = user_id_of(database, authorization) if authorization else None
    if user_id is None and (authorization or is_feed or environ["REQUEST_METHOD"] == "POST"):
        return 401, b"", None
    if environ["REQUEST_METHOD"] == "POST":
        return publish(database, user_id, environ["wsgi.input"].read())
    if post_id:
        row = database.execute(POST, {"id": int(post_id)}).fetchone()
        if row is None:
            return 404, b"", None
        etag = f'"{row[8]}"'
        if environ.get("HTTP_IF_NONE_MATCH") == etag:
            return 304, b"", etag
        return 200, orjson.dumps(post_of(row)), etag
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    if username:
        return read_page(database, query, USER_POSTS, username=username.lower())
    if is_feed:
        return read_page(database, query, FEED, user_id=user_id)
    return read_page(database, query, ALL_POSTS)


def read_page(database: Any, query: dict[str, str], statement: str, **values: Any) -> Response:
    """Read a page of posts."""
    try:
        limit = int(query.get("limit", 20))
        before = id_of(query["cursor"]) if "cursor" in query else common.LAST_ID
    except ValueError:
        return 422, b"", None
    if not 1 <= limit <= 100:
        return 422, b"", None
    rows = database.execute(statement, {"before": before, "limit": limit + 1, **values}).fetchall()
    return 200, page_of(rows, limit), None


def publish(database: Any, user_id: int | None, content: bytes) -> Response:
    """Insert a post."""
    try:
        body = orjson.loads(content)["body"]
    except (ValueError, LookupError, TypeError):
        return 422, b"", None
    if not isinstance(body, str) or not 1 <= len(body) <= 140:
        return 422, b"", None
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
    return 201, orjson.dumps(post_of(row)), None


def user_id_of(database: Any, authorization: str) -> int | None:
    """Return the id of the user to whom a token belongs, or None if it is not valid."""
    signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
    try:
        expected = hmac.digest(common.SECRET_KEY.encode(), signed.encode(), "sha256")
        if not hmac.compare_digest(urlsafe_b64decode(f"{signature}="), expected):
            return None
        claims = orjson.loads(urlsafe_b64decode(f"{signed.partition('.')[2]}=="))
    except ValueError:
        return None
    if claims["exp"] <= time.time():
        return None
    parameters = {"session_id": int(claims["sub"]), "now": now()}
    row = database.execute(USER_ID_OF_SESSION, parameters).fetchone()
    return row[0] if row else None


def thread_connection() -> Any:
    """Return the connection of the current thread, in autocommit mode."""
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
