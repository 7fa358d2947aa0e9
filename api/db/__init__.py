"""The database: extension, engine, column types, transactions."""

from api.db.extension import Base, Id, db, migrate
from api.db.transactions import (
    FOR_NO_KEY_UPDATE,
    dialect_name,
    insert_if_absent,
    insert_or_update,
)
from api.db.types import TSVector, UTCDateTime, utc_now

__all__ = [
    "FOR_NO_KEY_UPDATE",
    "Base",
    "Id",
    "TSVector",
    "UTCDateTime",
    "db",
    "dialect_name",
    "insert_if_absent",
    "insert_or_update",
    "migrate",
    "utc_now",
]
