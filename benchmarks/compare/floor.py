"""The floor: a bare WSGI function, the database driver and orjson, on granian with one thread.

It does only the work that each response needs. Tokens: HMAC-SHA-256, then one statement for session and
user. SQLite or PostgreSQL, by DATABASE_URL.

Run: granian --interface wsgi --workers 1 --blocking-threads 1 benchmarks.compare.floor:app
"""

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import orjson

from benchmarks.compare import driver
from benchmarks.compare.common import LAST_ID, id_of

PATH = re.compile(r"/api/v1/(?:posts(?:/(\d+))?|users/([\w.-]+)/posts|(feed))")
STATUSES = {201: "201 Created", 304: "304 Not Modified", 401: "401 Unauthorized", 404: "404 Not Found"}
STATUSES |= {200: "200 OK", 405: "405 Method Not Allowed", 422: "422 Unprocessable Content"}

Response = tuple[int, bytes, str | None]


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
    authorization = environ.get("HTTP_AUTHORIZATION")
    user_id = driver.user_id_of(authorization) if authorization else None
    if user_id is None and (authorization or is_feed or environ["REQUEST_METHOD"] == "POST"):
        return 401, b"", None
    if environ["REQUEST_METHOD"] == "POST":
        return publish(user_id, environ["wsgi.input"].read())
    if post_id:
        post = driver.read_post(int(post_id))
        if post is None:
            return 404, b"", None
        etag = f'"{post["etag"]}"'
        if environ.get("HTTP_IF_NONE_MATCH") == etag:
            return 304, b"", etag
        return 200, orjson.dumps(post), etag
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    if username:
        return read_page(query, driver.USER_POSTS, username=username.lower())
    if is_feed:
        return read_page(query, driver.FEED, user_id=user_id)
    return read_page(query, driver.ALL_POSTS)


def read_page(query: dict[str, str], statement: str, **values: Any) -> Response:
    """Read a page of posts."""
    try:
        limit = int(query.get("limit", 20))
        before = id_of(query["cursor"]) if "cursor" in query else LAST_ID
    except ValueError:
        return 422, b"", None
    if not 1 <= limit <= 100:
        return 422, b"", None
    return 200, driver.read_page(statement, limit, before, **values), None


def publish(user_id: int | None, content: bytes) -> Response:
    """Insert a post."""
    try:
        body = orjson.loads(content)["body"]
    except (ValueError, LookupError, TypeError):
        return 422, b"", None
    if user_id is None or not isinstance(body, str) or not 1 <= len(body) <= 140:
        return 422, b"", None
    return 201, orjson.dumps(driver.publish(user_id, body)), None
