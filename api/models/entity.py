"""URLs, hashtags and mentions in the text of posts."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import db
from api.db.search_text import TAG_MAXIMUM
from api.models.user import User

# The longest URI of a URL in a body of 140 code points: each may become four percent-encoded bytes.
URL_MAXIMUM = 2_048


class Entity(db.Model):
    """A URL, a hashtag, or the mention of a user, at a position in a post's text, in code points.

    It is a repeat if the same URL, tag or user occurs earlier in the text; lists skip repeats, so that they
    contain a post once.
    """

    __tablename__ = "entities"

    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int]
    tag: Mapped[str | None] = mapped_column(String(TAG_MAXIMUM))
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    url: Mapped[str | None] = mapped_column(String(URL_MAXIMUM))
    is_repeat: Mapped[bool]

    user: Mapped[User | None] = relationship(lazy="joined")

    __table_args__ = (
        Index(None, "tag", "post_id"),
        Index(None, "user_id", "post_id"),
        CheckConstraint('0 <= start AND start < "end"', name="place"),
        CheckConstraint(
            "(tag IS NULL) = ((user_id IS NULL) <> (url IS NULL)) AND (tag IS NULL OR user_id IS NULL)",
            name="has_one_target",
        ),
    )
