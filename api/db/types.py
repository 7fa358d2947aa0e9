"""Column types that behave alike on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

# The largest value of a BIGINT column.
LARGEST_ID = 2**63 - 1


class UTCDateTime(TypeDecorator[datetime]):
    """A datetime in UTC. SQLite stores no time zone; PostgreSQL returns the connection's time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the datetime with the time zone UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class TSVector(TypeDecorator[list[str]]):
    """The words of a text in their order, for the full-text index. Write-only.

    PostgreSQL stores a `tsvector`, SQLite the words separated by spaces.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type on a database."""
        return dialect.type_descriptor(postgresql.TSVECTOR() if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> str:
        """Write the words; on PostgreSQL each with its position, in the syntax of `tsvector`."""
        words = value or []
        if dialect.name == "postgresql":
            words = [f"{word}:{position}" for position, word in enumerate(words, start=1)]
        return " ".join(words)


def utc_now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)
