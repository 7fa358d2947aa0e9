"""Follows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Id, db, utc_now
from api.models.user import User


class Follow(db.Model):
    """One user follows another; users cannot follow themselves."""

    __tablename__ = "follows"

    id: Mapped[Id]
    follower_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    followed_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    follower: Mapped[User] = relationship(foreign_keys=follower_id)
    followed: Mapped[User] = relationship(foreign_keys=followed_id)

    __table_args__ = (
        UniqueConstraint("follower_id", "followed_id"),
        Index(None, "follower_id", "id"),
        Index(None, "followed_id", "id"),
        CheckConstraint("follower_id <> followed_id", name="not_oneself"),
        {"sqlite_autoincrement": True},
    )
