"""The database: extension, engine, column types, transactions."""

from api.db.extension import Base, Id, db, migrate
from api.db.transactions import (
    FOR_NO_KEY_UPDATE,
    database_name,
    insert_if_absent,
    insert_or_update,
    insert_row,
)
from api.db.types import TSVector, UTCDateTime, utc_now

__all__ = [
    "FOR_NO_KEY_UPDATE",
    "Base",
    "Id",
    "TSVector",
    "UTCDateTime",
    "database_name",
    "db",
    "insert_if_absent",
    "insert_or_update",
    "insert_row",
    "migrate",
    "utc_now",
]
