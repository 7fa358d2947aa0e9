"""Which posts."""

from sqlalchemy import ColumnElement, ScalarSelect, Select, cast, column, literal, select, table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import aliased

from api.database import db
from api.models import Entity, Post, User
from api.pagination import Key
from api.text import tag_of, terms_of
from api.users.queries import user_named

CHAIN_MAXIMUM = 40

# SQLite's full-text index (https://sqlite.org/fts5.html), a row for each post.
search_index = table("posts_search", column("rowid"), column("posts_search"))


def posts_found(
    author: str | None = None, q: str | None = None, tag: str | None = None, mentions: str | None = None
) -> tuple[Select[Post], Key]:
    """Everybody's posts, or those of which all is true that is given; and the key that gives their order.

    The key is of the index that finds them, so that a page is read off it without sorting.
    """
    statement = select(Post)
    key: Key = Post.id
    if author is not None:
        statement = statement.where(Post.user_id == _id_of(author))
    if tag is not None:
        place = aliased(Entity)
        statement = statement.join(place, _points_from(place) == Post.id)
        statement = statement.where(place.tag == tag_of(tag), ~place.is_repeat)
        key = place.post_id
    if mentions is not None:
        place = aliased(Entity)
        statement = statement.join(place, _points_from(place) == Post.id)
        statement = statement.where(place.user_id == _id_of(mentions), ~place.is_repeat)
        key = place.post_id
    if q is not None and db.engine.dialect.name == "postgresql":
        statement = statement.where(Post.words.op("@@")(cast(_tsquery(q), TSQUERY)))
        if any(len(term.words) > 1 for term in terms_of(q)):
            # PostgreSQL takes phrases for more common than they are, and looks for one in post after post.
            # Sorted by a sum, which no index has, they are found by their words.
            key = Post.id + 0
    elif q is not None:
        statement = statement.join(search_index, search_index.c.rowid == Post.id)
        statement = statement.where(search_index.c.posts_search.op("MATCH")(_fts5_query(q)))
        key = search_index.c.rowid
    return statement, key


def _points_from(place: type[Entity]) -> ColumnElement[int]:
    """The id of the post that a place is in; a sum, lest PostgreSQL go through all posts to join them."""
    return place.post_id + 0


def _id_of(username: str) -> ScalarSelect[int]:
    return user_named(username).with_only_columns(User.id).scalar_subquery()


def _tsquery(q: str) -> str:
    """Return what is searched for in the syntax of PostgreSQL; without words, what matches nothing."""
    return " & ".join(f"({' <-> '.join(term.words)}{':*' * term.is_prefix})" for term in terms_of(q))


def _fts5_query(q: str) -> str:
    """Return what is searched for in the syntax of SQLite; without words, what matches nothing."""
    return " AND ".join(f'"{" ".join(term.words)}"{"*" * term.is_prefix}' for term in terms_of(q)) or '""'


def posts_by(user: User) -> Select[Post]:
    """What a user wrote."""
    return select(Post).where(Post.user_id == user.id)


def replies_to(post_id: int) -> Select[Post]:
    """What answers a post."""
    return select(Post).where(Post.in_reply_to_id == post_id)


def answered_and_answer(post_id: int) -> Select[int]:
    """The ids of what a post answers, if anything, and of the post."""
    answered_id = select(Post.in_reply_to_id).where(Post.id == post_id).scalar_subquery()
    return select(Post.id).where(Post.id.in_([answered_id, literal(post_id)])).order_by(Post.id)


def chain_to(post_id: int) -> Select[Post]:
    """A post and what it answers, what that answers, and so on: the nearest 40, the oldest first."""
    chain = (
        select(Post.id, Post.in_reply_to_id, literal(0).label("distance"))
        .where(Post.id == post_id)
        .cte("chain", recursive=True)
    )
    answered = aliased(Post)
    chain = chain.union_all(
        select(answered.id, answered.in_reply_to_id, chain.c.distance + 1)
        .join(chain, answered.id == chain.c.in_reply_to_id)
        .where(chain.c.distance < CHAIN_MAXIMUM)
    )
    return select(Post).join(chain, chain.c.id == Post.id).order_by(Post.id)
