"""Table `letters` of emails with the hashes of their tokens; column `users.email_verified_at`.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "letters",
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_letters_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("email", "kind", name=op.f("pk_letters")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_letters_token_hash")),
    )
    op.create_index(op.f("ix_letters_user_id"), "letters", ["user_id"])


def downgrade() -> None:
    op.drop_table("letters")
    op.drop_column("users", "email_verified_at")
