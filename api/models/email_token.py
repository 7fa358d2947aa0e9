"""Emails sent to users, and the tokens in them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import db
from api.models.user import User


class EmailToken(db.Model):
    """The last email of a kind to an address, and the hash of its token until that is used or revoked.

    A token has 256 random bits, which cannot be guessed, so that SHA-256 is enough to protect it. (Argon2id
    slows down guessing, for passwords that people choose.) The row outlives its token, because `created_at`
    limits how often an address is written to.
    """

    __tablename__ = "email_tokens"

    email: Mapped[str] = mapped_column(String(254), primary_key=True)  # In lower case.
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    token_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
