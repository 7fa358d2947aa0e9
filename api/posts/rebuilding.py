"""Rebuilds what is derived from the text of existing posts: their words for the search and their entities."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from sqlalchemy import bindparam, delete, func, insert, select, update

from api.db import TSVector, db
from api.db.folding import folded
from api.db.search_text import words_of
from api.db.transactions import retry_rolled_back, yield_to_writers
from api.models import Entity, Post, User
from api.posts.entities import entities_in

BATCH = 100

new_words = bindparam("new_words", type_=TSVector())
UPDATE_WORDS = (
    update(Post)
    .where(Post.id == bindparam("post_id"), Post.words.is_distinct_from(new_words))
    .values(words=new_words)
)


class Rebuilt(NamedTuple):
    """How many posts were checked, and how many of them had other words or entities."""

    posts: int
    words: int
    entities: int


def rebuild_posts() -> Rebuilt:
    """Rebuild all posts that exist now, and print the progress.

    A batch of posts is one short transaction, which locks them against changes. Posts that are up to date are
    not written, so that a run that was interrupted can be started again.
    """
    last_id: int = db.session.scalars(select(func.coalesce(func.max(Post.id), 0))).one()
    db.session.commit()
    after, total = 0, Rebuilt(0, 0, 0)
    with click.progressbar(length=last_id, label="posts") as bar:
        while after < last_id:
            before = after
            after, rebuilt = _rebuild_batch(before, last_id)
            total = Rebuilt(*map(sum, zip(total, rebuilt, strict=True)))
            bar.update(after - before)
            yield_to_writers()
    return total


@retry_rolled_back
def _rebuild_batch(after: int, last_id: int) -> tuple[int, Rebuilt]:
    """Rebuild the next posts after an id, commit, and return the highest of their ids."""
    in_range = Post.id > after, Post.id <= last_id
    posts = select(Post.id, Post.body).where(*in_range).order_by(Post.id).limit(BATCH)
    bodies = dict(db.session.execute(posts.with_for_update(key_share=True)).all())
    rebuilt = Rebuilt(len(bodies), _rebuild_words(bodies), _rebuild_entities(bodies))
    db.session.commit()
    return max(bodies, default=last_id), rebuilt


def _rebuild_words(bodies: Mapping[int, str]) -> int:
    """Write the words of posts where they differ; return the number of these posts."""
    words = [{"post_id": post_id, "new_words": words_of(body)} for post_id, body in bodies.items()]
    return db.session.connection().execute(UPDATE_WORDS, words).rowcount if words else 0


def _rebuild_entities(bodies: Mapping[int, str]) -> int:
    """Replace the entities of locked posts where they differ; return the number of these posts.

    A username mentions the user whom it mentioned before. Others are not looked up, because the name may be
    that of another user today.
    """
    is_theirs = Entity.post_id.in_(bodies)
    users = select(User.id).where(User.id.in_(select(Entity.user_id).where(is_theirs))).order_by(User.id)
    db.session.execute(users.with_for_update(read=True, key_share=True))
    stored: dict[int, list[dict[str, Any]]] = {post_id: [] for post_id in bodies}
    for row in db.session.execute(
        select(Entity.__table__).where(is_theirs).order_by(Entity.start)
    ).mappings():
        entity = dict(row)
        stored[entity.pop("post_id")].append(entity)
    found = {
        post_id: entities_in(body, _mentioned(body, stored[post_id])) for post_id, body in bodies.items()
    }
    different = [post_id for post_id in bodies if found[post_id] != stored[post_id]]
    db.session.execute(delete(Entity).where(Entity.post_id.in_(different)))
    if rows := [{"post_id": post_id, **entity} for post_id in different for entity in found[post_id]]:
        db.session.connection().execute(insert(Entity), rows)
    return len(different)


def _mentioned(body: str, entities: list[dict[str, Any]]) -> dict[str, int]:
    """Return the ids of the users whom a text mentions, by the usernames in it."""
    return {
        folded(body[entity["start"] + 1 : entity["end"]]): entity["user_id"]
        for entity in entities
        if entity["user_id"] is not None
    }
