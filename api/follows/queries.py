"""Queries for follows and the feed. Usernames are given in lower case."""

from functools import partial
from typing import Any, cast

from sqlalchemy import CTE, ColumnElement, ScalarSelect, Select, and_, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from api.db import dialect_name
from api.db.types import LARGEST_ID
from api.models import Follow, Post, User
from api.rendering.descriptions import query
from api.rendering.pagination import ordered
from api.users.queries import user_id_named

# The number of posts that a feed scans before it looks up those of each author.
SCANNED = 1_000


def follow_of(follower_id: int, username: str) -> Select[Follow]:
    """Return the follow of one user by another."""
    return select(Follow).where(
        Follow.follower_id == follower_id, Follow.followed_id == user_id_named(username)
    )


def lock_pair(*user_ids: int) -> Select[int]:
    """Return a SELECT that locks two users whose counters change, in the order of their ids."""
    ids = select(User.id).where(User.id.in_(user_ids)).order_by(User.id)
    return ids.with_for_update(key_share=True)


@query
def followers_of(username: str) -> Select[User]:
    """Return the followers of a user."""
    is_followed = Follow.followed_id == user_id_named(username)
    return select(User).join(Follow, Follow.follower_id == User.id).where(is_followed)


@query
def followed_by(username: str) -> Select[User]:
    """Return the users that a user follows."""
    is_follower = Follow.follower_id == user_id_named(username)
    return select(User).join(Follow, Follow.followed_id == User.id).where(is_follower)


@query
def feed_of(user_id: int, near: int, limit: int, *, upwards: bool) -> Select[Post]:
    """Return the posts of one page of a user's feed, and one more.

    The page has at most `limit` posts, beyond the id `near`. Its ids increase if `upwards`, else decrease.

    The feed is not stored for each reader. Two plans are in the statement, because each is slow for callers
    whom the other suits:

    - The posts next to the cursor are scanned, at most `SCANNED`. They fill the page of a caller who follows
      users who write often. They are also enough if there are no others, as when a client polls.
    - Otherwise the index on (user_id, id) gives each author's post nearest to the cursor. Only the authors of
      the nearest posts can be on the page, each with as many posts as fit on it. The cost depends on the
      number of followed users and the size of the page, but not on the number of posts or the depth of the
      page.
    """
    theirs = aliased(Post)
    end = LARGEST_ID if upwards else 0
    in_order = partial(ordered, upwards=upwards)

    def beyond(value: Any, near: Any) -> ColumnElement[bool]:
        return cast("ColumnElement[bool]", value > near if upwards else value < near)

    def between(value: Any, near: Any, far: Any) -> ColumnElement[bool]:
        return and_(beyond(value, near), value <= far if upwards else value >= far)

    def unread(author_id: ColumnElement[int], last_id: Any) -> ColumnElement[bool]:
        """Whether a post is by an author, beyond the cursor, and not beyond another post."""
        if dialect_name() == "sqlite":  # SQLite would use only the first column of a pair.
            return and_(theirs.user_id == author_id, between(theirs.id, near, last_id))
        # Row values, so that PostgreSQL uses both columns of the index.
        pair = tuple_(theirs.user_id, theirs.id)
        return between(pair, tuple_(author_id, near), tuple_(author_id, last_id))

    def post_of(author_id: ColumnElement[int], *, after: Any) -> ScalarSelect[int]:
        """Return the id of an author's nearest post, after skipping `after` posts."""
        found = select(theirs.id).where(unread(author_id, end))
        nearest_first = found.order_by(in_order(theirs.user_id), in_order(theirs.id))
        return nearest_first.limit(1).offset(after).scalar_subquery()

    def step(name: str, statement: Select[Any]) -> CTE:
        return statement.cte(name).prefix_with("MATERIALIZED")

    followed = select(Follow.followed_id.label("id")).where(Follow.follower_id == user_id)

    first_id, last_id = (func.min, func.max) if upwards else (func.max, func.min)
    end_id = first_id(theirs.id) + (SCANNED if upwards else -SCANNED)
    scan = step("scan", select(end_id.label("end_id")).where(beyond(theirs.id, near)))
    end_of_scan = select(scan.c.end_id).scalar_subquery()
    unindexed_user_id = theirs.user_id + 0  # So that the posts are read in the order of their ids.
    is_wanted = or_(unindexed_user_id == user_id, unindexed_user_id.in_(followed))
    wanted = select(theirs.id).where(between(theirs.id, near, end_of_scan), is_wanted)
    scanned = step("scanned", wanted.order_by(in_order(theirs.id)).limit(limit + 1))
    is_short = and_(
        select(func.count()).select_from(scanned).scalar_subquery() <= limit,
        beyond(select(last_id(theirs.id)).scalar_subquery(), end_of_scan),
    )

    yourself = select(User.id).where(User.id == user_id)
    authors = followed.where(is_short).union_all(yourself.where(is_short)).cte("authors")
    nearest = step("nearest", select(authors.c.id, post_of(authors.c.id, after=0).label("post_id")))
    on_page = select(nearest.c.id).where(nearest.c.post_id.is_not(None))
    chosen = step("chosen", on_page.order_by(in_order(nearest.c.post_id)).limit(limit + 1))
    farthest = func.coalesce(post_of(chosen.c.id, after=limit), end).label("post_id")
    ranges = step("ranges", select(chosen.c.id, farthest))
    # The ids are compared once more without the author: PostgreSQL overestimates how many row values match,
    # and would scan all posts.
    in_range = and_(between(theirs.id, near, ranges.c.post_id), unread(ranges.c.id, ranges.c.post_id))
    candidates = step(
        "candidates", select(theirs.id).join(ranges, ranges.c.id == theirs.user_id).where(in_range)
    )
    found = select(scanned.c.id).union(select(candidates.c.id)).subquery()
    page = select(found.c.id).order_by(in_order(found.c.id)).limit(limit + 1)
    return select(Post).where(Post.id.in_(page))
