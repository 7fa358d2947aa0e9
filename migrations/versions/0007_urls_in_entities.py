"""URLs in the text of posts as entities.

The URLs in existing posts are found when their entities are rebuilt.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-27
"""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Names and conditions of the constraints before and after.
IS_TAG_OR_USER = "ck_entities_is_tag_or_user", "(tag IS NULL) <> (user_id IS NULL)"
HAS_ONE_TARGET = (
    "ck_entities_has_one_target",
    "(tag IS NULL) = ((user_id IS NULL) <> (url IS NULL)) AND (tag IS NULL OR user_id IS NULL)",
)


def upgrade() -> None:
    with op.batch_alter_table("entities", copy_from=_entities(_check(*IS_TAG_OR_USER))) as entities:
        entities.add_column(_url())
        _replace(entities, IS_TAG_OR_USER, HAS_ONE_TARGET)


def downgrade() -> None:
    op.execute("DELETE FROM entities WHERE url IS NOT NULL")
    with op.batch_alter_table("entities", copy_from=_entities(_url(), _check(*HAS_ONE_TARGET))) as entities:
        _replace(entities, HAS_ONE_TARGET, IS_TAG_OR_USER)
        entities.drop_column("url")


def _replace(entities: BatchOperations, old: tuple[str, str], new: tuple[str, str]) -> None:
    entities.drop_constraint(op.f(old[0]), type_="check")
    entities.create_check_constraint(op.f(new[0]), new[1])


def _url() -> sa.Column[str]:
    return sa.Column("url", sa.String(length=2_048), nullable=True)


def _check(name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(name))


def _entities(*more: sa.schema.SchemaItem) -> sa.Table:
    """Return the table of migration 0002 with additional items: SQLite replaces it."""
    return sa.Table(
        "entities",
        sa.MetaData(),
        sa.Column("post_id", ID, nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=140), nullable=True),
        sa.Column("user_id", ID, nullable=True),
        sa.Column("is_repeat", sa.Boolean(), nullable=False),
        sa.CheckConstraint('0 <= start AND start < "end"', name=op.f("ck_entities_place")),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name=op.f("fk_entities_post_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_entities_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("post_id", "start", name=op.f("pk_entities")),
        sa.Index(op.f("ix_entities_tag_post_id"), "tag", "post_id"),
        sa.Index(op.f("ix_entities_user_id_post_id"), "user_id", "post_id"),
        *more,
    )
