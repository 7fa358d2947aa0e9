"""Stored responses, for retries of requests."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from api.db import db, utc_now
from api.models.user import User


class IdempotencyKey(db.Model):
    """A completed request, identified by caller, method, path and key, and its response."""

    __tablename__ = "idempotency_keys"

    # Keyed hashes: of caller, method, path and key; and of these together with the query and the body.
    hashed: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    status: Mapped[int]
    headers: Mapped[dict[str, str]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
