"""Writes posts with their entities."""

from functools import cache
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    String,
    any_,
    bindparam,
    delete,
    func,
    insert,
    select,
    union_all,
)

from api.db import db, dialect_name
from api.db.driver import driver_insert, driver_rows
from api.models import Entity, Post, User
from api.posts.entities import entities_in, usernames_in

INSERT_POST, INSERT_ENTITY = insert(Post), insert(Entity)


def insert_post(user_id: int, body: str, **columns: Any) -> int:
    """Insert a post with its entities, and return its id."""
    user_ids = _lock_mentioned_users(user_id, body)
    # Past the ORM's unit of work: a third less processor time than with `db.session.add` and `flush`.
    values = {"user_id": user_id, "body": body, **columns}
    inserted: Any = db.session.connection().execute(INSERT_POST, values)
    [post_id] = inserted.inserted_primary_key
    _insert_entities(post_id, body, user_ids)
    return int(post_id)


def replace_entities(post: Post) -> None:
    """Flush a post with a new body, and replace its entities by those in the body."""
    user_ids = _lock_mentioned_users(post.user_id, post.body)
    db.session.flush()
    db.session.execute(delete(Entity).where(Entity.post_id == post.id))
    _insert_entities(post.id, post.body, user_ids)
    # `ensure_unchanged` may have loaded them, and the reference renderer reads the same object.
    db.session.expire(post, ["entities", "urls"])


def _insert_entities(post_id: int, body: str, user_ids: dict[str, int]) -> None:
    if entities := entities_in(body, user_ids):
        driver_insert(INSERT_ENTITY, [{"post_id": post_id, **entity} for entity in entities])


def _lock_mentioned_users(author_id: int, body: str) -> dict[str, int]:
    """Return the ids, by username, of the users that a text may mention. The author may be among them.

    Locks their rows and the author's, so that they cannot be renamed or deleted before the transaction ends.
    Without usernames in the text it locks nothing.
    """
    usernames = usernames_in(body)
    if not usernames:
        return {}
    names: list[str] | str = sorted(usernames)
    if dialect_name() == "sqlite":
        names = orjson.dumps(names).decode()
    db.session.connection()  # Begins the transaction; without one, `driver_rows` runs in autocommit.
    return dict(driver_rows(_lock_users(dialect_name()), author_id=author_id, usernames=names))


@cache
def _lock_users(database: str) -> Select[str, int]:
    """Return a SELECT of username and id that locks the author of a post and the users with some usernames.

    Its parameters are `author_id`, and `usernames` as an array or, on SQLite, as a JSON array. The rows are
    locked in the order of their ids; the author's more strongly, because a new post changes a counter there.
    """
    author_id = bindparam("author_id", type_=BigInteger())
    is_named: ColumnElement[bool]
    if database == "sqlite":
        usernames = func.json_each(bindparam("usernames", type_=String()))
        is_named = User.folded_username.in_(select(usernames.table_valued("value").c.value))
    else:
        is_named = User.folded_username == any_(bindparam("usernames", type_=ARRAY(String())))
    unindexed_id = User.id + 0  # PostgreSQL overestimates the number of usernames, and would scan the ids.
    in_order = [
        (is_named & (unindexed_id < author_id), True),
        (User.id == author_id, False),
        (is_named & (unindexed_id > author_id), True),
    ]
    users = select(User.folded_username, User.id).order_by(User.id)
    # PostgreSQL allows no locking clause in a branch of UNION ALL, but in a subquery of a branch.
    locked = [users.where(which).with_for_update(read=read, key_share=True) for which, read in in_order]
    return select(union_all(*(select(each.subquery()) for each in locked)).subquery())
