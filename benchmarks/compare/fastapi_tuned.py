"""FastAPI tuned by hand, on uvicorn: async endpoints, rows of SQLAlchemy's Core, orjson, no access log.

Statements are written out once; answers are written by orjson without passing models. A request goes to a
thread once, for all that it asks of the database (aiosqlite would go there for every step, which costs more).
Tokens: PyJWT, then one statement for session and user.

Run: uvicorn --no-access-log benchmarks.compare.fastapi_tuned:app
"""

import sqlite3
from typing import Annotated, Any

import jwt
import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from sqlalchemy import Connection, TextClause, bindparam, create_engine, event, text

from api.text import marks_in, names_in, words_of
from benchmarks.compare.common import (
    DATABASE,
    SECRET_KEY,
    SELECT,
    THREADS,
    cursor_of,
    id_of,
    now,
    post_of,
)

LAST = 2**63 - 1
ONE = text(f"{SELECT} WHERE posts.id = :id")
ALL = text(f"{SELECT} WHERE posts.id < :before ORDER BY posts.id DESC LIMIT :limit")
THEIRS = text(
    f"{SELECT} WHERE posts.id < :before AND posts.user_id = :user_id ORDER BY posts.id DESC LIMIT :limit"
)
FEED = text(f"""
    {SELECT} WHERE posts.id < :before AND (+posts.user_id = :user_id
        OR +posts.user_id IN (SELECT followed_id FROM follows WHERE follower_id = :user_id))
    ORDER BY posts.id DESC LIMIT :limit
""")
USER_ID = text("SELECT id FROM users WHERE folded_username = :name")
USER_ID_OF_SESSION = text("""
    SELECT users.id FROM sessions JOIN users ON users.id = sessions.user_id
    WHERE sessions.id = :session_id AND sessions.expires_at > :now
""")
NAMED = text("SELECT folded_username, id FROM users WHERE folded_username IN :names")
NAMED = NAMED.bindparams(bindparam("names", expanding=True))
INSERT_POST = text("""
    INSERT INTO posts (body, words, timestamp, user_id, is_reply, version)
    VALUES (:body, :words, :now, :user_id, 0, 1) RETURNING id
""")
INSERT_ENTITY = text("""
    INSERT INTO entities (post_id, start, "end", tag, user_id, is_repeat)
    VALUES (:post_id, :start, :end, :tag, :user_id, :is_repeat)
""")

engine = create_engine(f"sqlite:///{DATABASE}", pool_size=THREADS, max_overflow=-1)
app = FastAPI()


class PostCreate(BaseModel):
    """What it takes to publish a post."""

    body: Annotated[str, Field(min_length=1, max_length=140)]


Limit = Annotated[int, Query(ge=1, le=100)]


@event.listens_for(engine, "connect")
def prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Make commits durable."""
    connection.execute("PRAGMA synchronous = FULL")


def session_id(authorization: Annotated[str, Header()] = "") -> int | None:
    """Return the id of the session that a token is for; None without a token."""
    if not authorization:
        return None
    try:
        return int(jwt.decode(authorization.removeprefix("Bearer "), SECRET_KEY, algorithms=["HS256"])["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None


SessionId = Annotated[int | None, Depends(session_id)]


def user_id_of(connection: Connection, session_id: int | None) -> int:
    """Return whose session it is."""
    found = connection.scalar(USER_ID_OF_SESSION, {"session_id": session_id, "now": now()})
    if found is None:
        raise HTTPException(401)
    return int(found)


def before_id(cursor: str | None) -> int:
    """Return the id that a page begins before."""
    try:
        return id_of(cursor) if cursor else LAST
    except ValueError:
        raise HTTPException(400) from None


def read_page(connection: Connection, statement: TextClause, limit: int, **values: Any) -> Response:
    """Answer with a page of a list."""
    rows = connection.execute(statement, {"limit": limit + 1, **values}).all()
    page = {
        "items": [post_of(row) for row in rows[:limit]],
        "next_cursor": cursor_of(rows[limit - 1][0]) if len(rows) > limit else None,
        "prev_cursor": cursor_of(rows[0][0]) if rows else None,
    }
    return Response(orjson.dumps(page), media_type="application/json")


@app.get("/api/v1/posts")
async def list_posts(session_id: SessionId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List posts."""
    before = before_id(cursor)

    def read() -> Response:
        with engine.connect() as connection:
            if session_id is not None:
                user_id_of(connection, session_id)
            return read_page(connection, ALL, limit, before=before)

    return await run_in_threadpool(read)


@app.post("/api/v1/posts", status_code=201)
async def create_post(session_id: SessionId, sent: PostCreate) -> Response:
    """Publish a post."""

    def write() -> Response:
        with engine.begin() as connection:
            user_id = user_id_of(connection, session_id)
            body = sent.body
            post = {"body": body, "words": " ".join(words_of(body)), "now": now(), "user_id": user_id}
            post_id = connection.scalar(INSERT_POST, post)
            user_ids = {}
            if names := names_in(body):
                user_ids = dict(connection.execute(NAMED, {"names": list(names)}).tuples().all())
            if marks := marks_in(body, user_ids):
                entities = [{"post_id": post_id, **mark._asdict()} for mark in marks]
                connection.execute(INSERT_ENTITY, entities)
            written = post_of(connection.execute(ONE, {"id": post_id}).one())
        return Response(orjson.dumps(written), 201, media_type="application/json")

    return await run_in_threadpool(write)


@app.get("/api/v1/posts/{post_id}")
async def get_post(post_id: int) -> Response:
    """Get a post."""

    def read() -> Response:
        with engine.connect() as connection:
            row = connection.execute(ONE, {"id": post_id}).one_or_none()
        if row is None:
            raise HTTPException(404)
        return Response(orjson.dumps(post_of(row)), media_type="application/json")

    return await run_in_threadpool(read)


@app.get("/api/v1/users/{username}/posts")
async def list_user_posts(username: str, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List a user's posts."""
    before = before_id(cursor)

    def read() -> Response:
        with engine.connect() as connection:
            user_id = connection.scalar(USER_ID, {"name": username.lower()})
            if user_id is None:
                raise HTTPException(404)
            return read_page(connection, THEIRS, limit, before=before, user_id=user_id)

    return await run_in_threadpool(read)


@app.get("/api/v1/feed")
async def list_feed(session_id: SessionId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List what the caller and those whom they follow wrote."""
    before = before_id(cursor)

    def read() -> Response:
        with engine.connect() as connection:
            user_id = user_id_of(connection, session_id)
            return read_page(connection, FEED, limit, before=before, user_id=user_id)

    return await run_in_threadpool(read)
