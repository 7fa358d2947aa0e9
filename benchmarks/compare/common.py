"""What all comparisons agree on, whatever their framework: the rows, the tokens, the looks of a cursor.

And what those written by hand do alike: the select, and the JSON of a row of it.
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

DATABASE = os.environ["BENCHMARK_DATABASE"]  # A file of SQLite.
SECRET_KEY = os.environ["SECRET_KEY"]  # Signs tokens: JSON Web Tokens with a session's id as `sub`, HS256.
THREADS = 8  # As many as the service has by default.
SELECT = """
    SELECT posts.id, body, timestamp, edited_at, users.id, username, is_reply, in_reply_to_id, posts.version,
        (SELECT json_group_array(json(entity)) FROM (
            SELECT json_object('start', start, 'end', "end", 'tag', tag, 'username',
                (SELECT username FROM users WHERE users.id = entities.user_id)) AS entity
            FROM entities WHERE post_id = posts.id ORDER BY start))
    FROM posts JOIN users ON users.id = posts.user_id
"""


def cursor_of(post_id: int) -> str:
    """Return an opaque cursor for the posts before one."""
    return urlsafe_b64encode(str(post_id).encode()).decode()


def id_of(cursor: str) -> int:
    """Return the id that a cursor holds; raise ValueError if it holds none."""
    return int(urlsafe_b64decode(cursor))


def now() -> str:
    """Return this moment as the tables have it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def post_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return a post as it is shown."""
    post_id, body, timestamp, edited_at, user_id, username, is_reply, in_reply_to_id, version, entities = row
    return {
        "id": post_id,
        "body": body,
        "timestamp": f"{timestamp[:10]}T{timestamp[11:23]}Z",
        "edited_at": edited_at and f"{edited_at[:10]}T{edited_at[11:23]}Z",
        "author": {"id": user_id, "username": username},
        "is_reply": bool(is_reply),
        "in_reply_to_id": in_reply_to_id,
        "entities": orjson.Fragment(entities),
        "etag": str(version),
        "counts": None,
        "viewer": None,
    }
