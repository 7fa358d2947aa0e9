"""The heartbeat of the primary, for its replicas."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Id, db


class Heartbeat(db.Model):
    """The one row that tells how much of the primary's history a replica shows (`api.db.replicas`)."""

    __tablename__ = "heartbeats"

    id: Mapped[Id]
    # All transactions before it have ended.
    position: Mapped[int] = mapped_column(BigInteger)
    written_at: Mapped[datetime]
