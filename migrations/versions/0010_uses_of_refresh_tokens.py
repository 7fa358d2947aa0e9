"""Column `sessions.earlier_uses`: when refresh tokens were used.

Revision ID: 0010
Revises: 0005
Create Date: 2026-11-27
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("earlier_uses", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    op.drop_column("sessions", "earlier_uses")
