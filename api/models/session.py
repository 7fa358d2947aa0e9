"""Sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Id, db
from api.models.user import User

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def created_at_of(origin: int) -> datetime:
    """Return the creation time of a session, given its `origin`."""
    return EPOCH + timedelta(microseconds=origin)


class Session(db.Model):
    """One sign-in. Its tokens are signed, and valid only as long as this row exists.

    A token contains the row's id, origin and generation. They are signed with a secret that is not in the
    database, so a copy of the table cannot be used to sign in. Deleting the row invalidates all tokens of
    the session at once.
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
        """Its creation time, in microseconds since 1970.

        Tokens contain it beside the id, because a database that is restored or re-created reuses ids.
        """
        return (self.created_at - EPOCH) // timedelta(microseconds=1)

    def __repr__(self) -> str:
        return f"<Session {self.id} of user {self.user_id}>"
