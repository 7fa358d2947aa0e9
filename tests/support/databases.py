"""Marks for tests that need only one of the two databases, and triggers of both."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import text

from api.db import db

Test = TypeVar("Test", bound=Callable[..., object])

# For tests whose result does not depend on the database, such as those of input that is refused after the
# token check.
on_sqlite = pytest.mark.parametrize("migrated_app", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)


def no_sql(test: Test) -> Test:
    """Mark a test or class that runs on SQLite only; it fails if its requests send a statement."""
    marked: Test = on_sqlite(pytest.mark.usefixtures("_no_statements")(test))
    return marked


def disable_triggers() -> None:
    """On PostgreSQL, run no triggers until the transaction ends; the counters make many rows slow."""
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("SET LOCAL session_replication_role = replica"))
