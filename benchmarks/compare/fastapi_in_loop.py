"""FastAPI without SQLAlchemy and without threads, on uvicorn: handlers call `sqlite3` in the event loop.

A statement takes less time than a thread switch, so that this is faster than aiosqlite or a thread pool.
SQLite only.

Run: uvicorn --no-access-log benchmarks.compare.fastapi_in_loop:app
"""

from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Response

from benchmarks.compare import driver
from benchmarks.compare.common import LAST_ID, id_of
from benchmarks.compare.fastapi_input import Limit, PostCreate

app = FastAPI()


async def optional_user_id(authorization: Annotated[str, Header()] = "") -> int | None:
    """Return the id of the caller, or None without a token."""
    if not authorization:
        return None
    user_id = driver.user_id_of(authorization)
    if user_id is None:
        raise HTTPException(401)
    return user_id


OptionalUserId = Annotated[int | None, Depends(optional_user_id)]


async def required_user_id(user_id: OptionalUserId) -> int:
    """Return the id of the caller."""
    if user_id is None:
        raise HTTPException(401)
    return user_id


UserId = Annotated[int, Depends(required_user_id)]


def read_page(statement: str, limit: int, cursor: str | None, **values: Any) -> Response:
    """Read a page of posts."""
    try:
        before = id_of(cursor) if cursor else LAST_ID
    except ValueError:
        raise HTTPException(400) from None
    return Response(driver.read_page(statement, limit, before, **values), media_type="application/json")


@app.get("/api/v1/posts")
async def list_posts(_user_id: OptionalUserId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List posts."""
    return read_page(driver.ALL_POSTS, limit, cursor)


@app.post("/api/v1/posts", status_code=201)
async def create_post(user_id: UserId, sent: PostCreate) -> Response:
    """Publish a post."""
    post = driver.publish(user_id, sent.body)
    return Response(orjson.dumps(post), 201, media_type="application/json")


@app.get("/api/v1/posts/{post_id}")
async def get_post(post_id: int) -> Response:
    """Get a post."""
    post = driver.read_post(post_id)
    if post is None:
        raise HTTPException(404)
    return Response(orjson.dumps(post), media_type="application/json")


@app.get("/api/v1/users/{username}/posts")
async def list_user_posts(username: str, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List a user's posts."""
    return read_page(driver.USER_POSTS, limit, cursor, username=username.lower())


@app.get("/api/v1/feed")
async def list_feed(user_id: UserId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List the posts of the caller and of the users whom the caller follows."""
    return read_page(driver.FEED, limit, cursor, user_id=user_id)
