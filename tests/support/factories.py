"""Factories that insert rows directly, without HTTP requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import Any

from flask import Flask
from sqlalchemy import insert

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
        if self._is_in_transaction:
            yield
            return
        with self._app.app_context():
            self._is_in_transaction = True
            try:
                yield
                db.session.commit()
            finally:
                self._is_in_transaction = False

    def user(self, username: str | None = None, session_id: int | None = None, **columns: Any) -> Account:
        """Insert a user with a session."""
        username = username or f"user{next(self._numbers)}"
        columns = {"email": f"{username}@example.com", **columns}
        now = utc_now()
        times = {"created_at": now, "refreshed_at": now, "expires_at": now + timedelta(days=30)}
        chosen_id = {"id": session_id} if session_id else {}
        with self.one_transaction():
            password_hash = passwords().hash(PASSWORD)
            user_id = self._insert(User, username=username, password_hash=password_hash, version=1, **columns)
            session_id = self._insert(Session, user_id=user_id, **times, **chosen_id)
            origin = Session(created_at=now).origin
            token = signed(ACCESS_TOKEN, [session_id, origin, int(now.timestamp()) + 900, user_id])
        return Account(user_id, username, columns["email"], session_id, origin, str(token))

    def refresh_token(self, account: Account) -> str:
        """Return the refresh token of a new session."""
        with self._app.app_context():
            return str(signed(REFRESH_TOKEN, [account.session_id, account.origin, 1]))

    def email_token(self, account: Account, kind: EmailKind) -> str:
        """Insert a token as if an email had been sent to the user, and return it."""
        token = f"token for {kind.name}"
        self._insert(
            EmailToken,
            email=account.email,
            kind=kind.name,
            token_hash=sha256(token.encode()).hexdigest(),
            user_id=account.id,
            created_at=utc_now(),
        )
        return token

    def post(self, author: Account | None = None, body: str = "Hello.", **columns: Any) -> int:
        """Insert a post and return its id."""
        author = author or self.user()
        return int(self._insert(Post, user_id=author.id, body=body, **columns))

    def mention(self, post_id: int, user: Account) -> None:
        """Insert the mention of a user in a post whose body begins with `@` and the username."""
        end = len(user.username) + 1
        self._insert(Entity, post_id=post_id, start=0, end=end, user_id=user.id, is_repeat=False)

    def like(self, user: Account, post_id: int) -> None:
        """Insert a like."""
        self._insert(Like, user_id=user.id, post_id=post_id)

    def follow(self, follower: Account, followed: Account) -> None:
        """Insert a follow."""
        self._insert(Follow, follower_id=follower.id, followed_id=followed.id)

    def insert(self, model: Any, rows: list[dict[str, Any]]) -> None:
        """Insert several rows of a table, in one statement."""
        with self.one_transaction():
            db.session.execute(insert(model.__table__), rows)

    def _insert(self, model: Any, **columns: Any) -> Any:
        """Insert a row without the cost of the unit of work, and return the first column of its key."""
        with self.one_transaction():
            inserted: Any = db.session.execute(insert(model.__table__).values(columns))
            return inserted.inserted_primary_key[0]
