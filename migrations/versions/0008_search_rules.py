"""Say that the search index of existing posts must be rebuilt, because the rules for words have changed.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-27
"""

import click
import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _say_if_there_are_posts()


def downgrade() -> None:
    _say_if_there_are_posts()


def _say_if_there_are_posts() -> None:
    """Print a message, unless the migration is only written as SQL."""
    if op.get_context().as_sql:
        return
    if op.get_bind().scalar(sa.text("SELECT id FROM posts LIMIT 1")) is not None:
        click.echo(
            "Posts are indexed by other rules than this version searches by. "
            "Run `flask rebuild-search` when all processes of the service are of this version.",
            err=True,
        )
