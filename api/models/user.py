"""People who write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import CheckConstraint, Computed, String
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from api.database import Base, Id, utc_now

if TYPE_CHECKING:
    from api.models.post import Post
    from api.models.session import Session


class User(Base):
    """Somebody with an account. Names and addresses are unique whatever their case."""

    __tablename__ = "users"

    id: Mapped[Id]
    username: Mapped[str] = mapped_column(String(64))
    email: Mapped[str] = mapped_column(String(254))
    email_verified_at: Mapped[datetime | None]
    # The database makes these, to compare and sort by. In the collation "C" PostgreSQL orders text by its
    # bytes, as SQLite does, so that an index can find names by prefix on both.
    folded_username: Mapped[str] = mapped_column(
        String(64).with_variant(String(64, collation="C"), "postgresql"),
        Computed("lower(username)", persisted=True),
        unique=True,
    )
    folded_email: Mapped[str] = mapped_column(
        String(254), Computed("lower(email)", persisted=True), unique=True
    )
    password_hash: Mapped[str] = mapped_column(String(255))
    about: Mapped[str] = mapped_column(String(280), default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    # Kept by triggers, in the transaction of what they count.
    post_count: Mapped[int] = mapped_column(default=0, server_default="0")
    follower_count: Mapped[int] = mapped_column(default=0, server_default="0")
    following_count: Mapped[int] = mapped_column(default=0, server_default="0")
    version: Mapped[int] = mapped_column()

    posts: WriteOnlyMapped[Post] = relationship(
        back_populates="author", cascade="all, delete-orphan", passive_deletes=True
    )
    sessions: WriteOnlyMapped[Session] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True
    )

    __table_args__ = (
        CheckConstraint("length(username) BETWEEN 3 AND 64", name="username_length"),
        # Signing in takes either, so one person's name must never be another's address.
        CheckConstraint("username NOT LIKE '%@%'", name="username_is_no_email"),
        CheckConstraint("email LIKE '%_@_%'", name="email_is_one"),
        {"sqlite_autoincrement": True},
    )
    __mapper_args__ = {"version_id_col": version}

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set columns to new values; nobody has verified a new address yet."""
        if changes.get("email", self.email) != self.email:
            self.email_verified_at = None
        super().update(changes)

    def __repr__(self) -> str:
        return f"<User {self.username}>"
