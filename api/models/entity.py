"""What the text of a post points at."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, select
from sqlalchemy.orm import Mapped, column_property, mapped_column

from api.database import Base
from api.models.user import User
from api.text import TAG_MAXIMUM


class Entity(Base):
    """A place in a post's text, in code points: a hashtag, or the mention of a user.

    It is a repeat if the same tag or user stands earlier in the text; lists find each post once.
    """

    __tablename__ = "entities"

    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int]
    tag: Mapped[str | None] = mapped_column(String(TAG_MAXIMUM))
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    is_repeat: Mapped[bool]

    # As they are called now.
    username: Mapped[str | None] = column_property(
        select(User.username).where(User.id == user_id).correlate_except(User).scalar_subquery()
    )

    __table_args__ = (
        Index(None, "tag", "post_id"),
        Index(None, "user_id", "post_id"),
        CheckConstraint('0 <= start AND start < "end"', name="place"),
        CheckConstraint("(tag IS NULL) <> (user_id IS NULL)", name="is_tag_or_user"),
    )
