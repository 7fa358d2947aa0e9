"""The revision of the database's schema, compared with those that this version of the service knows."""

from functools import lru_cache

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.db.extension import db, migrate
from api.db.transactions import is_programming_error


def revision_scripts() -> ScriptDirectory:
    """Return the revisions of this version of the service."""
    return ScriptDirectory.from_config(migrate.get_config())


def current_revision() -> str | None:
    """Return the revision of the database, or None if this version needs a later one.

    A revision that this version does not know is newer: the service runs on, while others are upgraded.
    Raises DBAPIError if the database cannot be read.
    """
    try:
        revisions = db.session.scalars(text("SELECT version_num FROM alembic_version")).all()
    except DBAPIError as error:
        if is_programming_error(error):  # There is no such table.
            return None
        raise
    is_current = bool(revisions) and _older_revisions().isdisjoint(revisions)
    return ", ".join(revisions) if is_current else None


@lru_cache(1)
def _older_revisions() -> frozenset[str]:
    scripts = revision_scripts()
    return frozenset(script.revision for script in scripts.walk_revisions()).difference(scripts.get_heads())
