"""The SQL, JSON, tokens and cursors of the compared servers in Python, on SQLite and on PostgreSQL."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from api.db.search_text import words_of
from api.posts.entities import entities_in, usernames_in

DATABASE_URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
ON_POSTGRESQL = DATABASE_URL.startswith("postgresql")
SQLITE_FILE = DATABASE_URL.removeprefix("sqlite:///")
# Of PostgreSQL's sessions. Pages are read in the order of an index, as random_page_cost=1 has it.
POSTGRESQL_SETTINGS = {"TimeZone": "UTC", "random_page_cost": "1"}
POSTGRESQL_OPTIONS = " ".join(f"-c {name}={value}" for name, value in POSTGRESQL_SETTINGS.items())
SECRET_KEY = os.environ["SECRET_KEY"]  # Signs JSON Web Tokens (HS256) whose `sub` is the id of a session.
LAST_ID = 2**63 - 1

if ON_POSTGRESQL:
    _ENTITIES = """
        SELECT coalesce(CAST(json_agg(json_build_object('start', start, 'end', "end", 'tag', tag, 'username',
            (SELECT username FROM users WHERE users.id = entities.user_id)) ORDER BY start) AS text), '[]')
        FROM entities WHERE post_id = posts.id AND url IS NULL
    """
    _URLS = """
        SELECT coalesce(CAST(json_agg(json_build_object('start', start, 'end', "end", 'url', url)
            ORDER BY start) AS text), '[]')
        FROM entities WHERE post_id = posts.id AND url IS NOT NULL
    """
    _WORDS = "CAST(CAST(:words AS text) AS tsvector)"
    _NAMES = "= ANY(:names)"
else:
    _ENTITIES = """
        SELECT json_group_array(json(entity)) FROM (
            SELECT json_object('start', start, 'end', "end", 'tag', tag, 'username',
                (SELECT username FROM users WHERE users.id = entities.user_id)) AS entity
            FROM entities WHERE post_id = posts.id AND url IS NULL ORDER BY start)
    """
    _URLS = """
        SELECT json_group_array(json(entity)) FROM (
            SELECT json_object('start', start, 'end', "end", 'url', url) AS entity
            FROM entities WHERE post_id = posts.id AND url IS NOT NULL ORDER BY start)
    """
    _WORDS = ":words"
    _NAMES = "IN (SELECT value FROM json_each(:names))"
_POSTS = f"""
    SELECT posts.id, body, timestamp, edited_at, users.id, username, is_reply, in_reply_to_id, posts.version,
        ({_ENTITIES}), ({_URLS})
    FROM posts JOIN users ON users.id = posts.user_id
"""
_PAGE = "ORDER BY posts.id DESC LIMIT :limit"
POST = f"{_POSTS} WHERE posts.id = :id"
ALL_POSTS = f"{_POSTS} WHERE posts.id < :before {_PAGE}"
USER_POSTS = f"{_POSTS} WHERE posts.id < :before AND posts.user_id = :user_id {_PAGE}"
# The unary plus keeps both databases from using the index of user_id: they scan from the newest post.
FEED = f"""
    {_POSTS} WHERE posts.id < :before AND (+posts.user_id = :user_id
        OR +posts.user_id IN (SELECT followed_id FROM follows WHERE follower_id = :user_id)) {_PAGE}
"""
USER_ID = "SELECT id FROM users WHERE folded_username = :username"
USER_ID_OF_SESSION = """
    SELECT users.id FROM sessions JOIN users ON users.id = sessions.user_id
    WHERE sessions.id = :session_id AND sessions.expires_at > :now
"""
MENTIONED = f"SELECT folded_username, id FROM users WHERE folded_username {_NAMES}"
INSERT_POST = f"""
    INSERT INTO posts (body, words, timestamp, user_id, is_reply, version)
    VALUES (:body, {_WORDS}, :now, :user_id, false, 1) RETURNING id
"""
INSERT_ENTITY = """
    INSERT INTO entities (post_id, start, "end", tag, user_id, url, is_repeat)
    VALUES (:post_id, :start, :end, :tag, :user_id, :url, :is_repeat)
"""


def cursor_of(post_id: int) -> str:
    """Return the cursor of the posts before one."""
    return urlsafe_b64encode(str(post_id).encode()).decode()


def id_of(cursor: str) -> int:
    """Return the id in a cursor; raise ValueError if there is none."""
    return int(urlsafe_b64decode(cursor))


def now() -> Any:
    """Return the current time in the driver's form."""
    time = datetime.now(UTC)
    return time if ON_POSTGRESQL else time.strftime("%Y-%m-%d %H:%M:%S.%f")


def mentioned_usernames(body: str) -> list[str]:
    """Return the possible usernames in a text."""
    return list(usernames_in(body))


def names_parameter(names: list[str]) -> Any:
    """Return the parameter `names` of MENTIONED."""
    return names if ON_POSTGRESQL else orjson.dumps(names).decode()


def entities_of(body: str, user_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the entities of a text: the columns of `entities` without the post."""
    return entities_in(body, user_ids)


def words_column(body: str) -> str:
    """Return the value of `posts.words`."""
    words = words_of(body)
    if ON_POSTGRESQL:
        return " ".join(f"{word}:{position}" for position, word in enumerate(words, 1))
    return " ".join(words)


def time_of(value: Any) -> str:
    """Return a time in the format of the service."""
    if ON_POSTGRESQL:
        value = value.isoformat(timespec="milliseconds")
    return f"{value[:10]}T{value[11:23]}Z"


def post_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return the JSON of a post."""
    post_id, body, timestamp, edited_at, user_id, username, is_reply, in_reply_to_id, version, *texts = row
    entities, urls = texts
    return {
        "id": post_id,
        "body": body,
        "timestamp": time_of(timestamp),
        "edited_at": edited_at and time_of(edited_at),
        "author": {"id": user_id, "username": username},
        "is_reply": bool(is_reply),
        "in_reply_to_id": in_reply_to_id,
        "entities": orjson.Fragment(entities),
        "urls": orjson.Fragment(urls),
        "etag": str(version),
        "counts": None,
        "viewer": None,
    }


def page_of(rows: Sequence[Sequence[Any]], limit: int) -> bytes:
    """Return the JSON of a page; `rows` has one more than the limit if there is a next page."""
    return orjson.dumps(
        {
            "items": [post_of(row) for row in rows[:limit]],
            "next_cursor": cursor_of(rows[limit - 1][0]) if len(rows) > limit else None,
            "prev_cursor": cursor_of(rows[0][0]) if rows else None,
        }
    )
