"""Likes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Id, db, utc_now
from api.models.post import Post
from api.models.user import User


class Like(db.Model):
    """One user likes one post."""

    __tablename__ = "likes"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    post_id: Mapped[int] = mapped_column(ForeignKey(Post.id, ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    user: Mapped[User] = relationship()
    post: Mapped[Post] = relationship()

    __table_args__ = (
        UniqueConstraint("user_id", "post_id"),
        Index(None, "user_id", "id"),
        Index(None, "post_id", "id"),
        {"sqlite_autoincrement": True},
    )
