"""Replies, likes, follows, entities, and search; with triggers that maintain counters and the search index.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-22
"""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import regex
import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
USER_COUNTERS = ["post_count", "follower_count", "following_count"]
POST_COUNTERS = ["like_count", "reply_count"]

# The statements that update counters when a row of a table is inserted or deleted, with {row} for the row and
# {sign} for + or -. Posts are changed before users, and two users in the order of their ids, so that
# transactions that change the same rows do not deadlock.
FOLLOW = """
    UPDATE users SET follower_count = follower_count {sign} (id = {row}.followed_id){number},
        following_count = following_count {sign} (id = {row}.follower_id){number}
    WHERE id = """
COUNTED = {
    "likes": ["UPDATE posts SET like_count = like_count {sign} 1 WHERE id = {row}.post_id"],
    "posts": [
        "UPDATE posts SET reply_count = reply_count {sign} 1 WHERE id = {row}.in_reply_to_id",
        "UPDATE users SET post_count = post_count {sign} 1 WHERE id = {row}.user_id",
    ],
    "follows": [
        FOLLOW + "{least}({row}.follower_id, {row}.followed_id)",
        FOLLOW + "{greatest}({row}.follower_id, {row}.followed_id)",
    ],
}
EVENTS = {"insert": ("NEW", "+"), "delete": ("OLD", "-")}

# The words are folded and split already, so the tokenizer treats all characters outside ASCII as letters.
SEARCH = """
    CREATE VIRTUAL TABLE posts_search
    USING fts5(words, content='posts', content_rowid='id', columnsize=0, prefix='1 2 3', tokenize='ascii')
"""
SEARCHED = {
    "AFTER INSERT": ["INSERT INTO posts_search(rowid, words) VALUES (NEW.id, NEW.words)"],
    "AFTER DELETE": [
        "INSERT INTO posts_search(posts_search, rowid, words) VALUES ('delete', OLD.id, OLD.words)"
    ],
}
SEARCHED["AFTER UPDATE OF words"] = [*SEARCHED["AFTER DELETE"], *SEARCHED["AFTER INSERT"]]


def upgrade() -> None:
    op.create_table(
        "follows",
        sa.Column("id", ID, nullable=False),
        sa.Column("follower_id", ID, nullable=False),
        sa.Column("followed_id", ID, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("follower_id <> followed_id", name=op.f("ck_follows_not_oneself")),
        sa.ForeignKeyConstraint(
            ["followed_id"], ["users.id"], name=op.f("fk_follows_followed_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["follower_id"], ["users.id"], name=op.f("fk_follows_follower_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_follows")),
        sa.UniqueConstraint("follower_id", "followed_id", name=op.f("uq_follows_follower_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_follows_followed_id_id"), "follows", ["followed_id", "id"])
    op.create_index(op.f("ix_follows_follower_id_id"), "follows", ["follower_id", "id"])

    op.create_table(
        "likes",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("post_id", ID, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["post_id"], ["posts.id"], name=op.f("fk_likes_post_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_likes_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_likes")),
        sa.UniqueConstraint("user_id", "post_id", name=op.f("uq_likes_user_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_likes_post_id_id"), "likes", ["post_id", "id"])
    op.create_index(op.f("ix_likes_user_id_id"), "likes", ["user_id", "id"])

    op.create_table(
        "entities",
        sa.Column("post_id", ID, nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=140), nullable=True),
        sa.Column("user_id", ID, nullable=True),
        sa.Column("is_repeat", sa.Boolean(), nullable=False),
        sa.CheckConstraint('0 <= start AND start < "end"', name=op.f("ck_entities_place")),
        sa.CheckConstraint("(tag IS NULL) <> (user_id IS NULL)", name=op.f("ck_entities_is_tag_or_user")),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name=op.f("fk_entities_post_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_entities_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("post_id", "start", name=op.f("pk_entities")),
    )
    op.create_index(op.f("ix_entities_tag_post_id"), "entities", ["tag", "post_id"])
    op.create_index(op.f("ix_entities_user_id_post_id"), "entities", ["user_id", "post_id"])

    for name in USER_COUNTERS:
        op.add_column("users", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE users SET post_count = (SELECT count(*) FROM posts WHERE user_id = users.id)")
    words = sa.String() if _is_sqlite() else postgresql.TSVECTOR()
    with _posts_altered(_posts()) as posts:
        for name in POST_COUNTERS:
            posts.add_column(sa.Column(name, sa.Integer(), server_default="0", nullable=False))
        posts.add_column(sa.Column("is_reply", sa.Boolean(), server_default=sa.false(), nullable=False))
        posts.add_column(sa.Column("in_reply_to_id", ID, nullable=True))
        posts.add_column(sa.Column("words", words, server_default="", nullable=False))
        posts.create_foreign_key(
            op.f("fk_posts_in_reply_to_id"), "posts", ["in_reply_to_id"], ["id"], ondelete="SET NULL"
        )
    op.create_index(op.f("ix_posts_in_reply_to_id_id"), "posts", ["in_reply_to_id", "id"])
    if not op.get_context().as_sql:
        _fill_words()
    if _is_sqlite():
        op.execute(SEARCH)
        op.execute("INSERT INTO posts_search(posts_search) VALUES ('rebuild')")
    else:
        op.create_index("posts_search", "posts", ["words"], postgresql_using="gin")
    for statement in _create_triggers():
        op.execute(statement)


def downgrade() -> None:
    for statement in _drop_triggers():
        op.execute(statement)
    for table in ("entities", "likes", "follows"):
        op.drop_table(table)
    if _is_sqlite():
        op.drop_table("posts_search")
    else:
        op.drop_index("posts_search", "posts")
    op.drop_index(op.f("ix_posts_in_reply_to_id_id"), "posts")
    answered = sa.ForeignKeyConstraint(["in_reply_to_id"], ["posts.id"], name=op.f("fk_posts_in_reply_to_id"))
    names = [*POST_COUNTERS, "is_reply", "in_reply_to_id", "words"]
    with _posts_altered(_posts(*(sa.Column(name) for name in names), answered)) as posts:
        posts.drop_constraint(op.f("fk_posts_in_reply_to_id"))
        for name in names:
            posts.drop_column(name)
    for name in USER_COUNTERS:
        op.drop_column("users", name)


def _is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def _posts(*more: sa.schema.SchemaItem) -> sa.Table:
    """Return the table as the first migration creates it, with additional items."""
    return sa.Table(
        "posts",
        sa.MetaData(),
        sa.Column("id", ID, nullable=False),
        sa.Column("body", sa.String(length=140), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("length(body) BETWEEN 1 AND 140", name=op.f("ck_posts_body_length")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_posts_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_posts")),
        sa.Index(op.f("ix_posts_user_id_id"), "user_id", "id"),
        *more,
        sqlite_autoincrement=True,
    )


@contextmanager
def _posts_altered(posts: sa.Table) -> Iterator[BatchOperations]:
    """Alter the table of posts. SQLite re-creates it, with its sequence, so that ids are not reused."""
    if _is_sqlite():
        op.execute("CREATE TABLE kept AS SELECT name, seq FROM sqlite_sequence WHERE name = 'posts'")
    with op.batch_alter_table("posts", copy_from=posts) as altered:
        yield altered
    if _is_sqlite():
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'posts'")
        op.execute("INSERT INTO sqlite_sequence (name, seq) SELECT name, seq FROM kept")
        op.execute("DROP TABLE kept")


def _fill_words() -> None:
    """Fill the words of existing posts, so that the search finds them."""
    connection = op.get_bind()
    unspaced = r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc]&&[\p{L}\p{N}]]"
    word = regex.compile(
        rf"{unspaced}|[[\p{{L}}\p{{N}}]--{unspaced}][[\p{{L}}\p{{M}}\p{{N}}]--{unspaced}]*", regex.VERSION1
    )
    overlooked = regex.compile(r"[\u0300-\u036f\u20d0-\u20ff\p{Default_Ignorable_Code_Point}]")
    set_words = sa.text("UPDATE posts SET words = :words WHERE id = :id")
    if not _is_sqlite():
        set_words = sa.text("UPDATE posts SET words = CAST(:words AS tsvector) WHERE id = :id")
    last_id = 0
    page = sa.text("SELECT id, body FROM posts WHERE id > :last_id ORDER BY id LIMIT 1000")
    while rows := connection.execute(page, {"last_id": last_id}).all():
        filled = []
        for last_id, body in rows:
            folded = overlooked.sub("", unicodedata.normalize("NFKD", body)).casefold()
            words = word.findall(unicodedata.normalize("NFKC", folded))[:256]
            if not _is_sqlite():
                words = [f"{found}:{position}" for position, found in enumerate(words, start=1)]
            filled.append({"id": last_id, "words": " ".join(words)})
        connection.execute(set_words, filled)


def _create_triggers() -> Iterator[str]:
    words = {"number": "::int", "least": "least", "greatest": "greatest"}
    if _is_sqlite():
        words = {"number": "", "least": "min", "greatest": "max"}
    for table, statements in COUNTED.items():
        for event, (row, sign) in EVENTS.items():
            name = f"count_{table}_{event}"
            body = "; ".join(statement.format(row=row, sign=sign, **words) for statement in statements)
            if _is_sqlite():
                yield f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {body}; END"
            else:
                yield (
                    f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
                    f" $$ BEGIN {body}; RETURN NULL; END $$"
                )
                # Triggers fire in the order of their names. A name in capitals sorts before those of the
                # foreign keys ("RI_..."), which take weaker locks on the same rows.
                yield (
                    f'CREATE TRIGGER "{name.upper()}" AFTER {event} ON {table}'
                    f" FOR EACH ROW EXECUTE FUNCTION {name}()"
                )
    if _is_sqlite():
        for number, (event, statements) in enumerate(SEARCHED.items(), start=1):
            yield f"CREATE TRIGGER search_{number} {event} ON posts BEGIN {'; '.join(statements)}; END"


def _drop_triggers() -> Iterator[str]:
    for table in COUNTED:
        for event in EVENTS:
            if _is_sqlite():
                yield f"DROP TRIGGER count_{table}_{event}"
            else:
                yield f"DROP FUNCTION count_{table}_{event} CASCADE"
    if _is_sqlite():
        yield from (f"DROP TRIGGER search_{number}" for number in range(1, len(SEARCHED) + 1))
