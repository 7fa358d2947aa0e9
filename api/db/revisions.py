"""The revision of the database's schema, compared with those that this version of the service knows."""

from functools import lru_cache

from alembic.script import ScriptDirectory
from sqlalchemy import text

from api.db.extension import db, migrate


def revision_scripts() -> ScriptDirectory:
    """Return the revisions of this version of the service."""
    return ScriptDirectory.from_config(migrate.get_config())


def is_migration_missing() -> bool:
    """Whether the database has an older revision than this version needs, or none.

    A revision that this version does not know is newer: the service runs on, while others are upgraded.
    Raises DBAPIError if the database has no table of revisions.
    """
    revisions = db.session.scalars(text("SELECT version_num FROM alembic_version")).all()
    return not revisions or not _older_revisions().isdisjoint(revisions)


@lru_cache(1)
def _older_revisions() -> frozenset[str]:
    scripts = revision_scripts()
    return frozenset(script.revision for script in scripts.walk_revisions()).difference(scripts.get_heads())
