"""Which posts."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, cast, column, literal, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import aliased

from api.database import database_name
from api.models import Entity, Post
from api.pagination import Key
from api.prepared import Prepared, prepared
from api.text import Term, tag_of, terms_of
from api.users.queries import id_named

CHAIN_MAXIMUM = 40

# SQLite's full-text index (https://sqlite.org/fts5.html), a row for each post.
search_index = table("posts_search", column("rowid"), column("posts_search"))


# Sorted by a sum, which no index has, posts are found by their words.
BY_WORDS = Post.id + 0

Tagged, Mentioning = aliased(Entity), aliased(Entity)


def posts_found(
    author: str | None = None, q: str | None = None, tag: str | None = None, mentions: str | None = None
) -> tuple[Prepared, Key]:
    """Everybody's posts, or those of which all is true that is given; and the key that gives their order.

    The key is of the index that finds them, so that a page is read off it without sorting.
    """
    key: Key = Post.id
    if tag is not None:
        key = Tagged.post_id
    if mentions is not None:
        key = Mentioning.post_id
    terms = terms_of(q or "")
    if q is not None and database_name() == "sqlite":
        key = search_index.c.rowid
    elif any(len(term.words) > 1 for term in terms):
        # PostgreSQL takes phrases for more common than they are, and looks for one in post after post.
        key = BY_WORDS
    values = {"author": author, "q": q, "tag": tag, "mentions": mentions}
    given = frozenset(name for name, value in values.items() if value is not None)
    posts = _posts_where(
        (author or "").lower(), _searched(terms), tag_of(tag or ""), (mentions or "").lower(), given=given
    )
    return posts, key


@prepared
def _posts_where(author: str, q: str, tag: str, mentions: str, *, given: frozenset[str]) -> Select[Post]:
    statement = select(Post)
    if "author" in given:
        statement = statement.where(Post.user_id == id_named(author))
    if "tag" in given:
        statement = statement.join(Tagged, _points_from(Tagged) == Post.id)
        statement = statement.where(Tagged.tag == tag, ~Tagged.is_repeat)
    if "mentions" in given:
        statement = statement.join(Mentioning, _points_from(Mentioning) == Post.id)
        statement = statement.where(Mentioning.user_id == id_named(mentions), ~Mentioning.is_repeat)
    if "q" in given and database_name() == "postgresql":
        statement = statement.where(Post.words.op("@@")(cast(q, TSQUERY)))
    elif "q" in given:
        statement = statement.join(search_index, search_index.c.rowid == Post.id)
        statement = statement.where(search_index.c.posts_search.op("MATCH")(q))
    return statement


def _points_from(place: type[Entity]) -> ColumnElement[int]:
    """The id of the post that a place is in; a sum, lest PostgreSQL go through all posts to join them."""
    return place.post_id + 0


def _searched(terms: Sequence[Term]) -> str:
    """Return what is searched for in the syntax of the database; without words, what matches nothing."""
    if database_name() == "postgresql":
        return " & ".join(f"({' <-> '.join(term.words)}{':*' * term.is_prefix})" for term in terms)
    return " AND ".join(f'"{" ".join(term.words)}"{"*" * term.is_prefix}' for term in terms) or '""'


@prepared
def id_of_post(post_id: int) -> Select[int]:
    """The id of a post, if there is such a post."""
    return select(Post.id).where(Post.id == post_id)


@prepared
def posts_by(folded_username: str) -> Select[Post]:
    """What the user with a name wrote."""
    return select(Post).where(Post.user_id == id_named(folded_username))


@prepared
def replies_to(post_id: int) -> Select[Post]:
    """What answers a post."""
    return select(Post).where(Post.in_reply_to_id == post_id)


def posts_around_post(post_id: int, author_id: int) -> Select[int]:
    """The ids of posts that change when an author's post is deleted, in the order in which rows are locked.

    What it answers, the post, and what answers it; none if it is somebody else's.
    """
    theirs = Post.id == post_id, Post.user_id == author_id
    one = select(Post.id).where(*theirs).scalar_subquery()
    answered = select(Post.in_reply_to_id).where(*theirs).scalar_subquery()
    changed = or_(Post.id.in_([answered, one]), Post.in_reply_to_id == one)
    return select(Post.id).where(changed).order_by(Post.id)


@prepared
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
