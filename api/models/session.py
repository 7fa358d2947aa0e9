"""Sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api.db import Id, db
from api.models.user import User

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A session stores about this many uses of refresh tokens within the grace period, however many there are.
USES_MAXIMUM = 50

# Uses of consecutive refresh tokens: the first generation, and the last time, in seconds since 1970.
Uses = tuple[int, float]


def created_at_of(origin: int) -> datetime:
    """Return the creation time of a session, given its `origin`."""
    return EPOCH + timedelta(microseconds=origin)


class Session(db.Model):
    """One sign-in. Its tokens are signed, and valid only as long as this row exists.

    A token contains the row's id, origin and generation. They are signed with a secret that is not in the
    database, so a copy of the table cannot be used to sign in. Deleting the row invalidates all tokens of
    the session at once.

    The refresh token of an earlier generation is accepted until the grace period after its first use ends.
    """

    __tablename__ = "sessions"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    generation: Mapped[int] = mapped_column(default=1)
    user_agent: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime]
    refreshed_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    # Uses of refresh tokens before that at `refreshed_at`, as far as they were within the grace period then.
    earlier_uses: Mapped[list[Uses]] = mapped_column(JSON, default=list, server_default="[]")
    # The position of the session's last transaction that wrote, if there are replicas (`api.db.replicas`).
    last_write: Mapped[int | None] = mapped_column(BigInteger)

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

    def refresh(self, now: datetime, *, grace: timedelta, life: timedelta) -> None:
        """Begin the next generation of tokens.

        Uses within the same fiftieth of the grace period are stored as one, which prolongs the grace of the
        earlier ones by less than that.
        """
        interval = (grace.total_seconds() or 1) / USES_MAXIMUM
        uses: list[Uses] = []
        for generation, time in self._uses:
            if uses and uses[-1][1] // interval == time // interval:
                uses[-1] = (uses[-1][0], time)
            elif time >= (now - grace).timestamp():
                uses.append((generation, time))
        self.earlier_uses = uses
        self.generation += 1
        self.refreshed_at = now
        self.expires_at = now + life

    def was_used_since(self, generation: int, time: datetime) -> bool:
        """Whether the refresh token of an earlier generation was first used at a time or later."""
        found = [used for first, used in self._uses if first <= generation < self.generation]
        return bool(found) and found[-1] >= time.timestamp()

    @property
    def _uses(self) -> list[Uses]:
        return [*self.earlier_uses, (self.generation - 1, self.refreshed_at.timestamp())]

    def __repr__(self) -> str:
        return f"<Session {self.id} of user {self.user_id}>"
