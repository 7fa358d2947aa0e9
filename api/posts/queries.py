"""Queries for posts. Usernames are given in lower case."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, cast, column, literal, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import aliased

from api.db import dialect_name
from api.db.driver import CUSTOM_PLAN
from api.db.folding import folded
from api.db.search_text import Term, tag_of, terms_of
from api.models import Entity, Post
from api.rendering.descriptions import Query, query
from api.rendering.pagination import FEW_OR_MANY, Key
from api.users.queries import user_id_named

ANCESTORS_MAXIMUM = 40

# SQLite's full-text index (https://sqlite.org/fts5.html), with a row for each post.
search_index = table("posts_search", column("rowid"), column("posts_search"))

Hashtag, Mention = aliased(Entity), aliased(Entity)


@query
def posts_by(username: str) -> Select[Post]:
    """Return the posts of a user."""
    return select(Post).where(Post.user_id == user_id_named(username))


@query
def replies_to(post_id: int) -> Select[Post]:
    """Return the replies to a post."""
    return select(Post).where(Post.in_reply_to_id == post_id)


@query
def ancestors_of(post_id: int) -> Select[Post]:
    """Return the post that a post replies to, the post that this one replies to, and so on.

    Oldest first; at most the 40 nearest.
    """
    chain = (
        select(Post.id, Post.in_reply_to_id, literal(0).label("distance"))
        .where(Post.id == post_id)
        .cte("chain", recursive=True)
    )
    parent = aliased(Post)
    chain = chain.union_all(
        select(parent.id, parent.in_reply_to_id, chain.c.distance + 1)
        .join(chain, parent.id == chain.c.in_reply_to_id)
        .where(chain.c.distance < ANCESTORS_MAXIMUM)
    )
    ancestors = select(Post).join(chain, chain.c.id == Post.id).where(chain.c.distance > 0)
    return ancestors.order_by(Post.id)


def posts_matching(
    author: str | None = None, q: str | None = None, tag: str | None = None, mentions: str | None = None
) -> tuple[Query[Post], Key]:
    """Return the posts that match all given filters, and the key that orders them.

    Each key is the id of the post, in the table whose index finds the posts. A page is read in its order,
    without sorting.
    """
    key: Key = Post.id
    if tag is not None:
        key = Hashtag.post_id
    if mentions is not None:
        key = Mention.post_id
    if q is not None and dialect_name() == "sqlite":
        key = search_index.c.rowid
    matching = _posts_matching(
        author=None if author is None else folded(author),
        search=None if q is None else _search_expression(terms_of(q)),
        tag=None if tag is None else tag_of(tag),
        mentions=None if mentions is None else folded(mentions),
    )
    return matching, key


@query
def _posts_matching(
    author: str | None, search: str | None, tag: str | None, mentions: str | None
) -> Select[Post]:
    statement = select(Post)
    if author is not None:
        statement = statement.where(Post.user_id == user_id_named(author))
    if tag is not None:
        statement = statement.join(Hashtag, _unindexed_post_id(Hashtag) == Post.id)
        statement = statement.where(Hashtag.tag == tag, ~Hashtag.is_repeat)
    if mentions is not None:
        statement = statement.join(Mention, _unindexed_post_id(Mention) == Post.id)
        statement = statement.where(Mention.user_id == user_id_named(mentions), ~Mention.is_repeat)
    if search is not None and dialect_name() == "postgresql":
        statement = statement.where(Post.words.op("@@")(cast(search, TSQUERY)))
        # Plan with actual values: selectivity differs widely between search words. PostgreSQL has statistics
        # of common words only, and none of phrases. With `author` few posts remain, so no scan is needed.
        statement = statement.execution_options(**{CUSTOM_PLAN: True, FEW_OR_MANY: author is None})
    elif search is not None:
        statement = statement.join(search_index, search_index.c.rowid == Post.id)
        statement = statement.where(search_index.c.posts_search.op("MATCH")(search))
    return statement


def _unindexed_post_id(entity: type[Entity]) -> ColumnElement[int]:
    """Return the id of an entity's post. `+ 0` keeps PostgreSQL from a merge join that scans all posts."""
    return entity.post_id + 0


def _search_expression(terms: Sequence[Term]) -> str:
    """Return the terms in the search syntax of the database; without terms, one that matches nothing."""
    if dialect_name() == "postgresql":
        return " & ".join(f"({' <-> '.join(term.words)}{':*' * term.is_prefix})" for term in terms)
    return " AND ".join(f'"{" ".join(term.words)}"{"*" * term.is_prefix}' for term in terms) or '""'


def ids_of_posts_changed_by_deleting_post(post_id: int, author_id: int) -> Select[int]:
    """Return the ids of the posts that change when a post is deleted, in locking order.

    These are the post that it replies to, the post, and its replies; none if it has another author.
    """
    own = Post.id == post_id, Post.user_id == author_id
    post = select(Post.id).where(*own).scalar_subquery()
    parent = select(Post.in_reply_to_id).where(*own).scalar_subquery()
    changed = or_(Post.id.in_([parent, post]), Post.in_reply_to_id == post)
    return select(Post.id).where(changed).order_by(Post.id)
