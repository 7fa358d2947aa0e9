"""Users."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, Computed, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Id, db, utc_now
from api.db.folding import FoldedColumn

if TYPE_CHECKING:
    from api.models.post import Post
    from api.models.session import Session


class User(db.Model):
    """A user account. Usernames and email addresses are unique regardless of case."""

    __tablename__ = "users"

    id: Mapped[Id]
    username: Mapped[str] = mapped_column(String(64))
    email: Mapped[str] = mapped_column(String(254))
    email_verified_at: Mapped[datetime | None]
    # Computed by the database, for comparing and sorting. With the collation "C" PostgreSQL orders text by
    # its bytes, as SQLite does, so that both find usernames by prefix in the index.
    folded_username: Mapped[str] = mapped_column(
        String(64).with_variant(String(64, collation="C"), "postgresql"),
        Computed(FoldedColumn("username"), persisted=True),
        unique=True,
    )
    folded_email: Mapped[str] = mapped_column(
        String(254).with_variant(String(254, collation="C"), "postgresql"),
        Computed(FoldedColumn("email"), persisted=True),
        unique=True,
    )
    password_hash: Mapped[str] = mapped_column(String(255))
    about: Mapped[str] = mapped_column(String(280), default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    # A suspended user cannot sign in.
    suspended_at: Mapped[datetime | None]
    # Counters, maintained by triggers in the transaction that changes them.
    post_count: Mapped[int] = mapped_column(default=0, server_default="0")
    follower_count: Mapped[int] = mapped_column(default=0, server_default="0")
    following_count: Mapped[int] = mapped_column(default=0, server_default="0")
    version: Mapped[int] = mapped_column()

    posts: Mapped[list[Post]] = relationship(
        back_populates="author", cascade="all, delete-orphan", passive_deletes=True
    )
    sessions: Mapped[list[Session]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True
    )

    __table_args__ = (
        CheckConstraint("length(username) BETWEEN 3 AND 64", name="username_length"),
        # Signing in accepts both, so the username of one user must not be the address of another.
        CheckConstraint("username NOT LIKE '%@%'", name="username_is_no_email"),
        CheckConstraint("email LIKE '%_@_%'", name="email_is_one"),
        {"sqlite_autoincrement": True},
    )
    __mapper_args__ = {"version_id_col": version}

    def update(self, changes: Mapping[str, object]) -> None:
        """Set columns to new values; a different email address is unverified."""
        if changes.get("email", self.email) != self.email:
            self.email_verified_at = None
        super().update(changes)

    def __repr__(self) -> str:
        return f"<User {self.username}>"
