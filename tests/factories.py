"""Factories make what a test needs to be there, without going through HTTP."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from flask import Flask

from api.auth import ACCESS_TOKEN, passwords
from api.database import db, utc_now
from api.models import Follow, Like, Post, Session, User
from api.signing import signed

PASSWORD = "9 green horses"


@dataclass(frozen=True)
class Member:
    """Somebody with an account, signed in."""

    id: int
    username: str
    email: str
    session_id: int
    origin: int
    access_token: str
    password: str = PASSWORD

    @property
    def signed_in(self) -> dict[str, str]:
        """The headers that an access token needs."""
        return {"Authorization": f"Bearer {self.access_token}"}


class Factory:
    """Makes rows."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._numbers: Iterator[int] = count(1)

    def user(self, username: str | None = None, session_id: int | None = None, **columns: Any) -> Member:
        """Make a user who is signed in."""
        username = username or f"user{next(self._numbers)}"
        with self._app.app_context():
            columns = {"email": f"{username}@example.com", **columns}
            user = User(username=username, password_hash=passwords().hash(PASSWORD), **columns)
            now = utc_now()
            session = Session(
                id=session_id,
                user=user,
                created_at=now,
                refreshed_at=now,
                expires_at=now + timedelta(days=30),
            )
            db.session.add_all([user, session])
            db.session.commit()
            expires_at = int(now.timestamp()) + 900
            token = signed(ACCESS_TOKEN, [session.id, session.origin, expires_at, user.id])
            return Member(user.id, user.username, user.email, session.id, session.origin, str(token))

    def post(self, author: Member | None = None, body: str = "Hello.", **columns: Any) -> int:
        """Make a post and return its id."""
        author = author or self.user()
        with self._app.app_context():
            post = Post(user_id=author.id, body=body, **columns)
            db.session.add(post)
            db.session.commit()
            return post.id

    def like(self, user: Member, post_id: int) -> None:
        """Make a user like a post."""
        with self._app.app_context():
            db.session.add(Like(user_id=user.id, post_id=post_id))
            db.session.commit()

    def follow(self, follower: Member, followed: Member) -> None:
        """Make a user follow another."""
        with self._app.app_context():
            db.session.add(Follow(follower_id=follower.id, followed_id=followed.id))
            db.session.commit()
