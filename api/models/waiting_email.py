"""Emails that wait to be sent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import db, utc_now
from api.models.user import User


class WaitingEmail(db.Model):
    """An email that is to be sent, at most one of a kind to an address. The row is deleted afterwards.

    It contains no token: that is issued when the email is sent, so that a copy of the table cannot be used.
    """

    __tablename__ = "waiting_emails"

    email: Mapped[str] = mapped_column(String(254), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    # Null only within a transaction, see `send_email_to_account`.
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    due_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
