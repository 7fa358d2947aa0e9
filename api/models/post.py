"""Posts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, and_, false
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from api.db import Id, TSVector, db, utc_now
from api.db.search_text import words_of
from api.models.entity import Entity
from api.models.user import User


class Post(db.Model):
    """A short text by one author."""

    __tablename__ = "posts"

    id: Mapped[Id]
    body: Mapped[str] = mapped_column(String(140))
    # The words of the body, for the full-text index (see the migrations).
    words: Mapped[list[str]] = mapped_column(
        TSVector,
        deferred=True,
        default=lambda context: words_of(context.get_current_parameters()["body"]),
        server_default="",
    )
    timestamp: Mapped[datetime] = mapped_column(default=utc_now)
    edited_at: Mapped[datetime | None]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    # Stays true when the post that this one replies to is deleted.
    is_reply: Mapped[bool] = mapped_column(
        default=lambda context: context.get_current_parameters().get("in_reply_to_id") is not None,
        server_default=false(),
    )
    in_reply_to_id: Mapped[int | None] = mapped_column(ForeignKey("posts.id", ondelete="SET NULL"))
    # Counters, maintained by triggers in the transaction that changes them.
    like_count: Mapped[int] = mapped_column(default=0, server_default="0")
    reply_count: Mapped[int] = mapped_column(default=0, server_default="0")
    version: Mapped[int] = mapped_column(default=1)

    author: Mapped[User] = relationship(back_populates="posts")
    # The hashtags and mentions in the text, and its URLs.
    entities: Mapped[list[Entity]] = relationship(
        primaryjoin=lambda: and_(Post.id == Entity.post_id, Entity.url.is_(None)),
        order_by=Entity.start,
        viewonly=True,
    )
    urls: Mapped[list[Entity]] = relationship(
        primaryjoin=lambda: and_(Post.id == Entity.post_id, Entity.url.is_not(None)),
        order_by=Entity.start,
        viewonly=True,
    )

    __table_args__ = (
        Index(None, "user_id", "id"),
        Index(None, "in_reply_to_id", "id"),
        CheckConstraint("length(body) BETWEEN 1 AND 140", name="body_length"),
        {"sqlite_autoincrement": True},
    )
    __mapper_args__ = {"version_id_col": version}

    @validates("body")
    def _index_words(self, _name: str, body: str) -> str:
        self.words = words_of(body)
        return body

    def update(self, changes: Mapping[str, object]) -> None:
        """Set columns to new values; a different body sets `edited_at`."""
        if changes.get("body", self.body) != self.body:
            self.edited_at = utc_now()
        super().update(changes)

    def __repr__(self) -> str:
        return f"<Post {self.id} {self.body!r}>"
