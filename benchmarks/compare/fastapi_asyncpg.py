"""FastAPI with asyncpg and its pool, on uvicorn: no SQLAlchemy, no threads. PostgreSQL only.

asyncpg prepares each statement.

Run: uvicorn --no-access-log benchmarks.compare.fastapi_asyncpg:app
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Response

from benchmarks.compare import common
from benchmarks.compare.common import LAST_ID, id_of, now, page_of, post_of
from benchmarks.compare.driver import session_id_of
from benchmarks.compare.fastapi_input import Limit, PostCreate

CONNECTIONS = 8


class Statement:
    """A statement whose parameters have numbers instead of names."""

    def __init__(self, text: str) -> None:
        self._names = list(dict.fromkeys(re.findall(r":(\w+)", text)))
        self.text = re.sub(r":(\w+)", lambda found: f"${self._names.index(found[1]) + 1}", text)

    def arguments(self, **values: Any) -> list[Any]:
        """Return the text and the parameters in their order."""
        return [self.text, *(values[name] for name in self._names)]


# One statement, which looks up the user as well.
USER_POSTS = Statement(common.USER_POSTS.replace(":user_id", f"({common.USER_ID})"))
POST, ALL_POSTS, FEED = map(Statement, (common.POST, common.ALL_POSTS, common.FEED))
USER_ID_OF_SESSION, MENTIONED = map(Statement, (common.USER_ID_OF_SESSION, common.MENTIONED))
INSERT_POST, INSERT_ENTITY = map(Statement, (common.INSERT_POST, common.INSERT_ENTITY))


async def keep(_connection: Any) -> None:
    """Return a connection to the pool as it is: no request leaves a setting or a lock."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the pool."""
    async with asyncpg.create_pool(
        common.DATABASE_URL.replace("+psycopg", ""),
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        server_settings=common.POSTGRESQL_SETTINGS,
        reset=keep,
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


async def optional_session_id(authorization: Annotated[str, Header()] = "") -> int | None:
    """Return the id of the session in a token, or None without a token."""
    if not authorization:
        return None
    session_id = session_id_of(authorization)
    if session_id is None:
        raise HTTPException(401)
    return session_id


SessionId = Annotated[int | None, Depends(optional_session_id)]


async def user_id_of(connection: Any, session_id: int | None) -> int:
    """Return the id of the user of a session."""
    user_id = None
    if session_id is not None:
        arguments = USER_ID_OF_SESSION.arguments(session_id=session_id, now=now())
        user_id = await connection.fetchval(*arguments)
    if user_id is None:
        raise HTTPException(401)
    return int(user_id)


def before_id(cursor: str | None) -> int:
    """Return the id before which a page begins."""
    try:
        return id_of(cursor) if cursor else LAST_ID
    except ValueError:
        raise HTTPException(400) from None


async def read_page(connection: Any, statement: Statement, limit: int, **values: Any) -> Response:
    """Read a page of posts."""
    rows = await connection.fetch(*statement.arguments(limit=limit + 1, **values))
    return Response(page_of(rows, limit), media_type="application/json")


@app.get("/api/v1/posts")
async def list_posts(session_id: SessionId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List posts."""
    before = before_id(cursor)
    async with app.state.pool.acquire() as connection:
        if session_id is not None:
            await user_id_of(connection, session_id)
        return await read_page(connection, ALL_POSTS, limit, before=before)


@app.post("/api/v1/posts", status_code=201)
async def create_post(session_id: SessionId, sent: PostCreate) -> Response:
    """Publish a post."""
    body = sent.body
    async with app.state.pool.acquire() as connection:
        user_id = await user_id_of(connection, session_id)
        async with connection.transaction():
            post = {"body": body, "words": common.words_column(body), "now": now(), "user_id": user_id}
            post_id = await connection.fetchval(*INSERT_POST.arguments(**post))
            user_ids = {}
            if names := common.mentioned_usernames(body):
                user_ids = dict(await connection.fetch(*MENTIONED.arguments(names=names)))
            entities = common.entities_of(body, user_ids)
            rows = [INSERT_ENTITY.arguments(post_id=post_id, **entity)[1:] for entity in entities]
            await connection.executemany(INSERT_ENTITY.text, rows)
            row = await connection.fetchrow(*POST.arguments(id=post_id))
    return Response(orjson.dumps(post_of(row)), 201, media_type="application/json")


@app.get("/api/v1/posts/{post_id}")
async def get_post(post_id: int) -> Response:
    """Get a post."""
    async with app.state.pool.acquire() as connection:
        row = await connection.fetchrow(*POST.arguments(id=post_id))
    if row is None:
        raise HTTPException(404)
    return Response(orjson.dumps(post_of(row)), media_type="application/json")


@app.get("/api/v1/users/{username}/posts")
async def list_user_posts(username: str, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List a user's posts."""
    before = before_id(cursor)
    async with app.state.pool.acquire() as connection:
        return await read_page(connection, USER_POSTS, limit, before=before, username=username.lower())


@app.get("/api/v1/feed")
async def list_feed(session_id: SessionId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List the posts of the caller and of the users whom the caller follows."""
    before = before_id(cursor)
    async with app.state.pool.acquire() as connection:
        user_id = await user_id_of(connection, session_id)
        return await read_page(connection, FEED, limit, before=before, user_id=user_id)
