"""What was mailed to people."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base
from api.models.user import User


class Letter(Base):
    """The last letter of a kind to an address, with the hash of its token while that can be used.

    A token is 256 random bits. Nobody can guess those, so one SHA-256 hides them; Argon2id, which makes
    guessing slow, is for passwords, which people choose. The row outlives its token: it says when the address
    was last written to.
    """

    __tablename__ = "letters"

    email: Mapped[str] = mapped_column(String(254), primary_key=True)  # In lower case.
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    token_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    written_at: Mapped[datetime]
