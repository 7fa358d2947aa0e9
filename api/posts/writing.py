"""How posts are written: the row, and what its text points at."""

from collections.abc import Mapping
from datetime import datetime

import orjson
from sqlalchemy import Insert, Select, cast, delete, func, insert, select, union_all
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.dml import ReturningInsert

from api.database import database_name, db, utc_now
from api.models import Entity, Post, User
from api.prepared import prepared, write_all
from api.text import marks_in, names_in, words_of


def insert_post(user_id: int, body: str, in_reply_to_id: int | None = None) -> int:
    """Write a new post; return its id. Whoever it mentions cannot be deleted or renamed meanwhile."""
    user_ids = _mentioned(body, user_id)
    is_reply = in_reply_to_id is not None
    insertion = _insertion(user_id, body, words_of(body), utc_now(), is_reply, in_reply_to_id)
    [[post_id]] = insertion.write()
    _insert_entities(post_id, body, user_ids)
    return int(post_id)


def replace_entities(post: Post) -> None:
    """Keep what a changed post's text points at, in place of what it pointed at before."""
    user_ids = _mentioned(post.body, post.user_id)
    db.session.flush()
    db.session.execute(delete(Entity).where(Entity.post_id == post.id))
    _insert_entities(post.id, post.body, user_ids)
    db.session.expire(post, ["entities"])


@prepared
def _insertion(
    user_id: int, body: str, words: list[str], now: datetime, is_reply: bool, in_reply_to_id: int | None
) -> ReturningInsert[int]:
    statement = insert(Post).values(
        user_id=user_id,
        body=body,
        words=words,
        timestamp=now,
        is_reply=is_reply,
        in_reply_to_id=in_reply_to_id,
        like_count=0,
        reply_count=0,
        version=1,
    )
    return statement.returning(Post.id)


def _mentioned(body: str, author_id: int) -> dict[str, int]:
    """Return ids by name, among them those of all whom a text mentions; lock their rows and the author's.

    Without a name in the text nothing is locked.
    """
    names = names_in(body)
    found = _author_and_named(author_id, orjson.dumps(list(names)).decode()).write() if names else []
    return dict(found)


@prepared
def _author_and_named(author_id: int, names: str) -> Select[str, int]:
    """The author of a post and those who have one of the names in a JSON array: names and ids.

    The rows are locked in the order of their ids; the author's more strongly, since a new post changes a
    counter there.
    """
    if database_name() == "sqlite":
        within = select(func.json_each(names).table_valued("value").c.value)
    else:
        within = select(func.jsonb_array_elements_text(cast(names, JSONB)))
    is_named = User.folded_username.in_(within)
    unindexed_id = User.id + 0  # PostgreSQL expects more names than there are, and would go through the ids.
    in_order = [
        (is_named & (unindexed_id < author_id), True),
        (User.id == author_id, False),
        (is_named & (unindexed_id > author_id), True),
    ]
    users = select(User.folded_username, User.id).order_by(User.id)
    locked = [users.where(who).with_for_update(read=weakly, key_share=True) for who, weakly in in_order]
    return select(union_all(*(select(each.subquery()) for each in locked)).subquery())


def _insert_entities(post_id: int, body: str, user_ids: Mapping[str, int]) -> None:
    if marks := marks_in(body, user_ids):
        write_all([_entity(post_id, *mark) for mark in marks])


@prepared
def _entity(
    post_id: int, start: int, end: int, tag: str | None, user_id: int | None, is_repeat: bool
) -> Insert:
    return insert(Entity).values(
        post_id=post_id, start=start, end=end, tag=tag, user_id=user_id, is_repeat=is_repeat
    )
