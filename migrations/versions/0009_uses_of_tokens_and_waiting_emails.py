"""Column `sessions.earlier_uses` of refresh tokens; table `waiting_emails`.

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-27
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("earlier_uses", sa.JSON(), server_default="[]", nullable=False))
    op.create_table(
        "waiting_emails",
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_waiting_emails_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("email", "kind", name=op.f("pk_waiting_emails")),
    )
    op.create_index(op.f("ix_waiting_emails_due_at"), "waiting_emails", ["due_at"])
    op.create_index(op.f("ix_waiting_emails_user_id"), "waiting_emails", ["user_id"])


def downgrade() -> None:
    op.drop_table("waiting_emails")
    op.drop_column("sessions", "earlier_uses")
