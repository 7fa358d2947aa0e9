"""What was answered to requests that may come again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from api.database import Base, utc_now
from api.models.user import User


class IdempotencyKey(Base):
    """A request that was done, known by its caller, method, path and key together, and its answer."""

    __tablename__ = "idempotency_keys"

    # Keyed hashes: of what it is known by; and of that and all that was sent.
    hashed: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    status: Mapped[int]
    headers: Mapped[dict[str, str]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
