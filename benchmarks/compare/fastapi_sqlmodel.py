"""FastAPI and SQLModel in the style of their tutorials, on uvicorn. SQLite only.

https://fastapi.tiangolo.com/tutorial/sql-databases/, https://sqlmodel.tiangolo.com/tutorial/fastapi/. It
differs in one point: relations are loaded eagerly, not post by post. Tokens as in
https://fastapi.tiangolo.com/tutorial/security/oauth2-jwt/: PyJWT, then one statement, here for session and
user, there for the user.

Run: uvicorn benchmarks.compare.fastapi_sqlmodel:app
"""

import sqlite3
from datetime import UTC, datetime
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, status
from fastapi.security import OAuth2PasswordBearer
from pydantic import PlainSerializer, StringConstraints
from sqlalchemy import event
from sqlalchemy.orm import joinedload, selectinload
from sqlmodel import Field, Relationship, Session, SQLModel, col, create_engine, or_, select

from benchmarks.compare.common import (
    DATABASE_URL,
    SECRET_KEY,
    cursor_of,
    entities_of,
    id_of,
    mentioned_usernames,
    words_column,
)


def rfc3339(value: datetime) -> str:
    """Return a time in the format of the service."""
    return f"{value.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


UTCDateTime = Annotated[datetime, PlainSerializer(rfc3339)]


class User(SQLModel, table=True):
    __tablename__ = "users"

    id: int | None = Field(default=None, primary_key=True)
    username: str
    folded_username: str
    about: str
    created_at: datetime


class SignIn(SQLModel, table=True):
    __tablename__ = "sessions"

    id: int | None = Field(default=None, primary_key=True)
    user_id: int = Field(foreign_key="users.id")
    expires_at: datetime


class Follow(SQLModel, table=True):
    __tablename__ = "follows"

    id: int | None = Field(default=None, primary_key=True)
    follower_id: int = Field(foreign_key="users.id")
    followed_id: int = Field(foreign_key="users.id")


class Entity(SQLModel, table=True):
    __tablename__ = "entities"

    post_id: int | None = Field(default=None, foreign_key="posts.id", primary_key=True)
    start: int = Field(primary_key=True)
    end: int
    tag: str | None = None
    user_id: int | None = Field(default=None, foreign_key="users.id")
    url: str | None = None
    is_repeat: bool

    user: User | None = Relationship()

    @property
    def username(self) -> str | None:
        return self.user.username if self.user else None


class Post(SQLModel, table=True):
    __tablename__ = "posts"

    id: int | None = Field(default=None, primary_key=True)
    body: str
    words: str
    timestamp: datetime
    edited_at: datetime | None = None
    user_id: int = Field(foreign_key="users.id")
    is_reply: bool = False
    in_reply_to_id: int | None = Field(default=None, foreign_key="posts.id")
    version: int = 1

    author: User = Relationship()
    all_entities: list[Entity] = Relationship(sa_relationship_kwargs={"order_by": "Entity.start"})

    @property
    def entities(self) -> list[Entity]:
        return [entity for entity in self.all_entities if entity.url is None]

    @property
    def urls(self) -> list[Entity]:
        return [entity for entity in self.all_entities if entity.url is not None]

    @property
    def etag(self) -> str:
        return str(self.version)


class AuthorPublic(SQLModel):
    id: int
    username: str


class EntityPublic(SQLModel):
    start: int
    end: int
    tag: str | None
    username: str | None


class URLPublic(SQLModel):
    start: int
    end: int
    url: str


class PostPublic(SQLModel):
    id: int
    body: str
    timestamp: UTCDateTime
    edited_at: UTCDateTime | None
    author: AuthorPublic
    is_reply: bool
    in_reply_to_id: int | None
    entities: list[EntityPublic]
    urls: list[URLPublic]
    etag: str
    counts: None = None
    viewer: None = None


class PostPage(SQLModel):
    items: list[PostPublic]
    next_cursor: str | None
    prev_cursor: str | None


class PostCreate(SQLModel):
    body: Annotated[str, StringConstraints(min_length=1, max_length=140)]


class PageQuery(SQLModel):
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = None


engine = create_engine(DATABASE_URL, connect_args={"check_same_thread": False})
app = FastAPI()
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="token")
optional_oauth2_scheme = OAuth2PasswordBearer(tokenUrl="token", auto_error=False)


@event.listens_for(engine, "connect")
def prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")


def get_session():
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]


def get_current_user(token: Annotated[str, Depends(oauth2_scheme)], session: SessionDep) -> User:
    credentials_exception = HTTPException(
        status_code=status.HTTP_401_UNAUTHORIZED,
        detail="Could not validate credentials",
        headers={"WWW-Authenticate": "Bearer"},
    )
    try:
        session_id = jwt.decode(token, SECRET_KEY, algorithms=["HS256"])["sub"]
    except jwt.InvalidTokenError:
        raise credentials_exception from None
    statement = select(User).join(SignIn, col(SignIn.user_id) == User.id)
    current = statement.where(SignIn.id == int(session_id), SignIn.expires_at > datetime.now(UTC))
    user = session.exec(current).first()
    if user is None:
        raise credentials_exception
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


def get_optional_user(
    token: Annotated[str | None, Depends(optional_oauth2_scheme)], session: SessionDep
) -> User | None:
    return get_current_user(token, session) if token else None


def page(session: Session, statement: Any, query: PageQuery) -> Any:
    if query.cursor:
        try:
            statement = statement.where(Post.id < id_of(query.cursor))
        except ValueError:
            raise HTTPException(status_code=400, detail="Bad cursor") from None
    relations = joinedload(Post.author), selectinload(Post.all_entities).joinedload(Entity.user)
    statement = statement.options(*relations).order_by(col(Post.id).desc()).limit(query.limit + 1)
    posts = session.exec(statement).all()
    more = len(posts) > query.limit
    posts = posts[: query.limit]
    return {
        "items": posts,
        "next_cursor": cursor_of(posts[-1].id) if more else None,
        "prev_cursor": cursor_of(posts[0].id) if posts else None,
    }


@app.get("/api/v1/posts", response_model=PostPage)
def list_posts(
    session: SessionDep,
    query: Annotated[PageQuery, Query()],
    _user: Annotated[User | None, Depends(get_optional_user)],
):
    return page(session, select(Post), query)


@app.post("/api/v1/posts", response_model=PostPublic, status_code=201)
def create_post(session: SessionDep, user: CurrentUser, sent: PostCreate):
    names = mentioned_usernames(sent.body)
    mentioned = select(User.folded_username, User.id).where(col(User.folded_username).in_(names))
    entities = entities_of(sent.body, dict(session.exec(mentioned).all()))
    post = Post(
        body=sent.body,
        words=words_column(sent.body),
        timestamp=datetime.now(UTC),
        author=user,
        all_entities=[Entity(**entity) for entity in entities],
    )
    session.add(post)
    session.commit()
    session.refresh(post)
    return post


@app.get("/api/v1/posts/{post_id}", response_model=PostPublic)
def get_post(session: SessionDep, post_id: int):
    relations = joinedload(Post.author), selectinload(Post.all_entities).joinedload(Entity.user)
    post = session.get(Post, post_id, options=relations)
    if not post:
        raise HTTPException(status_code=404, detail="Post not found")
    return post


@app.get("/api/v1/users/{username}/posts", response_model=PostPage)
def list_user_posts(session: SessionDep, query: Annotated[PageQuery, Query()], username: str):
    user = session.exec(select(User).where(User.folded_username == username.lower())).first()
    if not user:
        raise HTTPException(status_code=404, detail="User not found")
    return page(session, select(Post).where(Post.user_id == user.id), query)


@app.get("/api/v1/feed", response_model=PostPage)
def list_feed(session: SessionDep, query: Annotated[PageQuery, Query()], user: CurrentUser):
    followed = select(Follow.followed_id).where(Follow.follower_id == user.id)
    mine_and_theirs = or_(Post.user_id == user.id, col(Post.user_id).in_(followed))
    return page(session, select(Post).where(mine_and_theirs), query)
