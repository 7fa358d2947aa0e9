"""Factories that insert rows directly, without HTTP requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import Any

from flask import Flask

from api.auth.authentication import ACCESS_TOKEN, passwords
from api.auth.signing import signed
from api.db import db, utc_now
from api.mail.kinds import EmailKind
from api.models import EmailToken, Entity, Follow, Like, Post, Session, User
from api.tokens.routes import REFRESH_TOKEN

PASSWORD = "9 green horses"


@dataclass(frozen=True)
class Account:
    """A user with a session."""

    id: int
    username: str
    email: str
    session_id: int
    origin: int
    access_token: str
    password: str = PASSWORD

    @property
    def signed_in(self) -> dict[str, str]:
        """The headers of an authenticated request."""
        return {"Authorization": f"Bearer {self.access_token}"}


class Factory:
    """Inserts rows, in one transaction each or all in one transaction."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._numbers: Iterator[int] = count(1)
        self._is_in_transaction = False

    @contextmanager
    def one_transaction(self) -> Iterator[None]:
        """Insert the rows of the block in one transaction, which is faster for many."""
        with self._app.app_context():
            self._is_in_transaction = True
            yield
            self._is_in_transaction = False
            db.session.commit()

    def user(self, username: str | None = None, session_id: int | None = None, **columns: Any) -> Account:
        """Insert a user with a session."""
        username = username or f"user{next(self._numbers)}"
        columns = {"email": f"{username}@example.com", **columns}
        with self._session() as db_session:
            user = User(username=username, password_hash=passwords().hash(PASSWORD), **columns)
            now = utc_now()
            session = Session(
                id=session_id,
                user=user,
                created_at=now,
                refreshed_at=now,
                expires_at=now + timedelta(days=30),
            )
            db_session.add_all([user, session])
            db_session.flush()
            expires_at = int(now.timestamp()) + 900
            token = signed(ACCESS_TOKEN, [session.id, session.origin, expires_at, user.id])
            return Account(user.id, user.username, user.email, session.id, session.origin, str(token))

    def refresh_token(self, account: Account) -> str:
        """Return the refresh token of a new session."""
        with self._session():
            return str(signed(REFRESH_TOKEN, [account.session_id, account.origin, 1]))

    def email_token(self, account: Account, kind: EmailKind) -> str:
        """Insert a token as if an email had been sent to the user, and return it."""
        token = f"token for {kind.name}"
        row = EmailToken(
            email=account.email,
            kind=kind.name,
            token_hash=sha256(token.encode()).hexdigest(),
            user_id=account.id,
            created_at=utc_now(),
        )
        self._add(row)
        return token

    def post(self, author: Account | None = None, body: str = "Hello.", **columns: Any) -> int:
        """Insert a post and return its id."""
        author = author or self.user()
        with self._session() as session:
            post = Post(user_id=author.id, body=body, **columns)
            session.add(post)
            session.flush()
            return post.id

    def mention(self, post_id: int, user: Account) -> None:
        """Insert the mention of a user in a post whose body begins with `@` and the username."""
        end = len(user.username) + 1
        self._add(Entity(post_id=post_id, start=0, end=end, user_id=user.id, is_repeat=False))

    def like(self, user: Account, post_id: int) -> None:
        """Insert a like."""
        self._add(Like(user_id=user.id, post_id=post_id))

    def follow(self, follower: Account, followed: Account) -> None:
        """Insert a follow."""
        self._add(Follow(follower_id=follower.id, followed_id=followed.id))

    def _add(self, row: Any) -> None:
        with self._session() as session:
            session.add(row)

    @contextmanager
    def _session(self) -> Iterator[Any]:
        """Yield the session; commit at the end, except within `one_transaction`."""
        if self._is_in_transaction:
            yield db.session
            return
        with self._app.app_context():
            yield db.session
            db.session.commit()
