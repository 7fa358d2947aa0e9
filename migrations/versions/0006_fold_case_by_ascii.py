"""Fold usernames and email addresses by ASCII, whatever the locale of a PostgreSQL database.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-27
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Before version 17, PostgreSQL cannot change the expression of a generated column.
REPLACE_COLUMNS = """
    ALTER TABLE users
    DROP COLUMN folded_username,
    DROP COLUMN folded_email,
    ADD COLUMN folded_username varchar(64) COLLATE "C" NOT NULL
        GENERATED ALWAYS AS (lower(username{collate})) STORED CONSTRAINT uq_users_folded_username UNIQUE,
    ADD COLUMN folded_email varchar(254){collate} NOT NULL
        GENERATED ALWAYS AS (lower(email{collate})) STORED CONSTRAINT uq_users_folded_email UNIQUE
"""
EQUAL_USERNAMES = """
    SELECT string_agg(username || ' (id ' || id || ')', ', ' ORDER BY id) FROM users
    GROUP BY lower(username COLLATE "C") HAVING count(*) > 1 ORDER BY min(id)
"""
EQUAL_EMAILS = """
    SELECT string_agg('id ' || id, ', ' ORDER BY id) FROM users
    GROUP BY lower(email COLLATE "C") HAVING count(*) > 1 ORDER BY min(id)
"""


def upgrade() -> None:
    if not _is_postgresql():
        return  # SQLite's lower() folds ASCII letters only.
    op.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    if not op.get_context().as_sql:
        _ensure_unique()
    op.execute(REPLACE_COLUMNS.format(collate=' COLLATE "C"'))


def downgrade() -> None:
    if _is_postgresql():
        op.execute(REPLACE_COLUMNS.format(collate=""))


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _ensure_unique() -> None:
    """End the process, which rolls this migration back, if users have equal names or addresses.

    Addresses are not printed, because the output may be logged.
    """
    connection = op.get_bind()
    usernames = connection.scalars(sa.text(EQUAL_USERNAMES)).all()
    emails = connection.scalars(sa.text(EQUAL_EMAILS)).all()
    if usernames or emails:
        raise SystemExit(
            "\n".join(
                [
                    "Migration 0006 changed nothing: some users have the same username or email address in"
                    " different case.",
                    *(f"Same username: {names}." for names in usernames),
                    *(f"Same email address: {ids}." for ids in emails),
                    "Change or delete all but one of each line in the table users, then run"
                    " `flask db upgrade` again.",
                ]
            )
        )
