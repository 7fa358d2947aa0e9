"""Rename letters to email_tokens.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-27
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _move("letters", "written_at", "email_tokens", "created_at")


def downgrade() -> None:
    _move("email_tokens", "created_at", "letters", "written_at")


def _move(old_table: str, old_column: str, table: str, column: str) -> None:
    """Create a table, copy the rows of another and drop that.

    SQLite cannot rename constraints. The table is small: it has no more rows than emails were sent to
    different addresses.
    """
    op.create_table(
        table,
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column(column, sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f(f"fk_{table}_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("email", "kind", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("token_hash", name=op.f(f"uq_{table}_token_hash")),
    )
    op.execute(
        f"INSERT INTO {table} (email, kind, user_id, token_hash, {column})"
        f" SELECT email, kind, user_id, token_hash, {old_column} FROM {old_table}"
    )
    op.drop_table(old_table)
    op.create_index(op.f(f"ix_{table}_user_id"), table, ["user_id"])
