"""What people write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.database import Base, Id, utc_now
from api.models.user import User


class Post(Base):
    """A short text by one author."""

    __tablename__ = "posts"

    id: Mapped[Id]
    body: Mapped[str] = mapped_column(String(140))
    timestamp: Mapped[datetime] = mapped_column(default=utc_now)
    edited_at: Mapped[datetime | None]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    version: Mapped[int] = mapped_column()

    author: Mapped[User] = relationship(back_populates="posts")

    __table_args__ = (
        Index(None, "user_id", "id"),
        CheckConstraint("length(body) BETWEEN 1 AND 140", name="body_length"),
        {"sqlite_autoincrement": True},
    )
    __mapper_args__ = {"version_id_col": version}

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set columns to new values; new text makes the post an edited one."""
        if changes.get("body", self.body) != self.body:
            self.edited_at = utc_now()
        super().update(changes)

    def __repr__(self) -> str:
        return f"<Post {self.id} {self.body!r}>"
