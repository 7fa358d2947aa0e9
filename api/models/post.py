"""What people write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from api.database import Base, Id, Words, utc_now
from api.models.entity import Entity
from api.models.user import User
from api.text import words_of


class Post(Base):
    """A short text by one author."""

    __tablename__ = "posts"

    id: Mapped[Id]
    body: Mapped[str] = mapped_column(String(140))
    # What the search compares with; a full-text index stands over it (see the migrations).
    words: Mapped[list[str]] = mapped_column(Words, deferred=True, server_default="")
    timestamp: Mapped[datetime] = mapped_column(default=utc_now)
    edited_at: Mapped[datetime | None]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    # What a reply answers can be deleted; that it answers something stays true.
    is_reply: Mapped[bool] = mapped_column(default=False, server_default=false())
    in_reply_to_id: Mapped[int | None] = mapped_column(ForeignKey("posts.id", ondelete="SET NULL"))
    # Kept by triggers, in the transaction of what they count.
    like_count: Mapped[int] = mapped_column(default=0, server_default="0")
    reply_count: Mapped[int] = mapped_column(default=0, server_default="0")
    version: Mapped[int] = mapped_column()

    author: Mapped[User] = relationship(back_populates="posts")
    entities: Mapped[list[Entity]] = relationship(order_by=Entity.start, viewonly=True)

    __table_args__ = (
        Index(None, "user_id", "id"),
        Index(None, "in_reply_to_id", "id"),
        CheckConstraint("length(body) BETWEEN 1 AND 140", name="body_length"),
        {"sqlite_autoincrement": True},
    )
    __mapper_args__ = {"version_id_col": version}

    @validates("body")
    def _index(self, _name: str, body: str) -> str:
        self.words = words_of(body)
        return body

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set columns to new values; new text makes the post an edited one."""
        if changes.get("body", self.body) != self.body:
            self.edited_at = utc_now()
        super().update(changes)

    def __repr__(self) -> str:
        return f"<Post {self.id} {self.body!r}>"
