"""FastAPI tuned by hand, on uvicorn: rows of SQLAlchemy Core, orjson, no response models, no access log.

Each request goes to a thread once, for all of its statements (aiosqlite would go there for each statement,
which costs more). Tokens: PyJWT, then one statement for session and user. SQLite or PostgreSQL, by
DATABASE_URL.

Run: uvicorn --no-access-log benchmarks.compare.fastapi_tuned:app
"""

from typing import Annotated, Any

import jwt
import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, TextClause, create_engine, event, text

from benchmarks.compare import common
from benchmarks.compare.common import id_of, now, page_of, post_of
from benchmarks.compare.fastapi_input import Limit, PostCreate

POST, ALL_POSTS, USER_POSTS, FEED = map(text, (common.POST, common.ALL_POSTS, common.USER_POSTS, common.FEED))
USER_ID, USER_ID_OF_SESSION, MENTIONED = map(
    text, (common.USER_ID, common.USER_ID_OF_SESSION, common.MENTIONED)
)
INSERT_POST, INSERT_ENTITY = text(common.INSERT_POST), text(common.INSERT_ENTITY)

engine = create_engine(
    common.DATABASE_URL,
    pool_size=8,
    max_overflow=-1,
    connect_args={"options": common.POSTGRESQL_OPTIONS} if common.ON_POSTGRESQL else {},
)
# A read needs no BEGIN and ROLLBACK. (On SQLite the driver sends neither.)
reader = engine.execution_options(isolation_level="AUTOCOMMIT") if common.ON_POSTGRESQL else engine
app = FastAPI()


@event.listens_for(engine, "connect")
def make_durable(connection: Any, _record: object) -> None:
    """Let SQLite's commits wait for the disk, as PostgreSQL's do."""
    if not common.ON_POSTGRESQL:
        connection.execute("PRAGMA synchronous = FULL")


def session_id(authorization: Annotated[str, Header()] = "") -> int | None:
    """Return the id of the session in a token, or None without a token."""
    if not authorization:
        return None
    try:
        token = authorization.removeprefix("Bearer ")
        return int(jwt.decode(token, common.SECRET_KEY, algorithms=["HS256"])["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None


SessionId = Annotated[int | None, Depends(session_id)]


def user_id_of(connection: Connection, session_id: int | None) -> int:
    """Return the id of the user of a session."""
    found = connection.scalar(USER_ID_OF_SESSION, {"session_id": session_id, "now": now()})
    if found is None:
        raise HTTPException(401)
    return int(found)


def before_id(cursor: str | None) -> int:
    """Return the id before which a page begins."""
    try:
        return id_of(cursor) if cursor else common.LAST_ID
    except ValueError:
        raise HTTPException(400) from None


def json_response(content: bytes, status: int = 200) -> Response:
    """Return a response with JSON."""
    return Response(content, status, media_type="application/json")


def read_page(connection: Connection, statement: TextClause, limit: int, **values: Any) -> Response:
    """Read a page of posts."""
    rows = connection.execute(statement, {"limit": limit + 1, **values}).all()
    return json_response(page_of(rows, limit))


@app.get("/api/v1/posts")
async def list_posts(session_id: SessionId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List posts."""
    before = before_id(cursor)

    def read() -> Response:
        with reader.connect() as connection:
            if session_id is not None:
                user_id_of(connection, session_id)
            return read_page(connection, ALL_POSTS, limit, before=before)

    return await run_in_threadpool(read)


@app.post("/api/v1/posts", status_code=201)
async def create_post(session_id: SessionId, sent: PostCreate) -> Response:
    """Publish a post."""

    def write() -> Response:
        body = sent.body
        with engine.begin() as connection:
            user_id = user_id_of(connection, session_id)
            post = {"body": body, "words": common.words_column(body), "now": now(), "user_id": user_id}
            post_id = connection.scalar(INSERT_POST, post)
            user_ids = {}
            if names := common.mentioned_usernames(body):
                user_ids = dict(
                    connection.execute(MENTIONED, {"names": common.names_parameter(names)}).tuples().all()
                )
            if entities := common.entities_of(body, user_ids):
                connection.execute(INSERT_ENTITY, [{"post_id": post_id, **entity} for entity in entities])
            row = connection.execute(POST, {"id": post_id}).one()
        return json_response(orjson.dumps(post_of(row)), 201)

    return await run_in_threadpool(write)


@app.get("/api/v1/posts/{post_id}")
async def get_post(post_id: int) -> Response:
    """Get a post."""

    def read() -> Response:
        with reader.connect() as connection:
            row = connection.execute(POST, {"id": post_id}).one_or_none()
        if row is None:
            raise HTTPException(404)
        return json_response(orjson.dumps(post_of(row)))

    return await run_in_threadpool(read)


@app.get("/api/v1/users/{username}/posts")
async def list_user_posts(username: str, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List a user's posts."""
    before = before_id(cursor)

    def read() -> Response:
        with reader.connect() as connection:
            user_id = connection.scalar(USER_ID, {"username": username.lower()})
            if user_id is None:
                raise HTTPException(404)
            return read_page(connection, USER_POSTS, limit, before=before, user_id=user_id)

    return await run_in_threadpool(read)


@app.get("/api/v1/feed")
async def list_feed(session_id: SessionId, limit: Limit = 20, cursor: str | None = None) -> Response:
    """List the posts of the caller and of the users whom the caller follows."""
    before = before_id(cursor)

    def read() -> Response:
        with reader.connect() as connection:
            user_id = user_id_of(connection, session_id)
            return read_page(connection, FEED, limit, before=before, user_id=user_id)

    return await run_in_threadpool(read)
