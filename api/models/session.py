"""Where people are signed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.database import Base, Id
from api.models.user import User

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def created_at_of(origin: int) -> datetime:
    """Return when a session began, given its `origin`."""
    return EPOCH + timedelta(microseconds=origin)


class Session(Base):
    """One sign-in, from which all its tokens descend.

    Tokens are signed statements about this row (its id, origin and generation), so a copy of the table signs
    nobody in, and deleting the row ends every token at once.
    """

    __tablename__ = "sessions"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    generation: Mapped[int] = mapped_column(default=1)
    user_agent: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime]
    refreshed_at: Mapped[datetime]
    expires_at: Mapped[datetime]

    user: Mapped[User] = relationship(back_populates="sessions")

    __table_args__ = (
        Index(None, "user_id", "id"),
        {"sqlite_autoincrement": True},
    )

    @property
    def origin(self) -> int:
        """When it began, in microseconds since 1970.

        Tokens have it beside the id, which a database that was restored or made anew gives out again.
        """
        return (self.created_at - EPOCH) // timedelta(microseconds=1)

    def __repr__(self) -> str:
        return f"<Session {self.id} of user {self.user_id}>"
