"""Who follows whom, and what that gives to read."""

from functools import partial
from typing import Any

from sqlalchemy import CTE, ColumnElement, ScalarSelect, Select, and_, func, select, tuple_
from sqlalchemy.orm import aliased

from api.converters import LARGEST_ID
from api.database import database_name
from api.models import Follow, Post, User
from api.pagination import Window, ordered
from api.prepared import Prepared, prepared
from api.users.queries import id_named


def follow_of(follower_id: int, followed_id: int) -> Select[Follow]:
    """One user's following another."""
    return select(Follow).where(Follow.follower_id == follower_id, Follow.followed_id == followed_id)


def ids_in_order(*user_ids: int) -> Select[int]:
    """The ids of users, in the order in which their rows are locked."""
    return select(User.id).where(User.id.in_(user_ids)).order_by(User.id)


@prepared
def followers_of(folded_username: str) -> Select[User]:
    """Who follows the user with a name."""
    followed = Follow.followed_id == id_named(folded_username)
    return select(User).join(Follow, Follow.follower_id == User.id).where(followed)


@prepared
def followed_by(folded_username: str) -> Select[User]:
    """Whom the user with a name follows."""
    follower = Follow.follower_id == id_named(folded_username)
    return select(User).join(Follow, Follow.followed_id == User.id).where(follower)


def feed_of(user_id: int, window: Window) -> Prepared:
    """What a user and those whom they follow wrote: as much as one page of it and one more.

    Nothing is kept for each reader. The index on (user_id, id) gives each author's post that is nearest to
    the cursor; only the authors of the nearest can be on the page, each with as many posts as it has room
    for. So the cost depends on the number of the followed and the size of the page, but not on how much there
    is to read, nor on how deep in it the page is.
    """
    near = 0 if window.upwards else LARGEST_ID
    if window.anchor is not None:
        near = int(window.anchor)
    return _feed(user_id, near, window.limit, upwards=window.upwards)


@prepared
def _feed(user_id: int, near: int, limit: int, *, upwards: bool) -> Select[Post]:
    theirs = aliased(Post)
    reader_id: Any = user_id
    end = LARGEST_ID if upwards else 0
    in_order = partial(ordered, upwards=upwards)

    def between(place: Any, near: Any, far: Any) -> ColumnElement[bool]:
        return and_(place > near, place <= far) if upwards else and_(place < near, place >= far)

    def unread(author_id: ColumnElement[int], last_id: Any) -> ColumnElement[bool]:
        """Say whether a post is by an author, beyond the cursor, and no farther than another."""
        if database_name() == "sqlite":  # It would seek by the first of a pair alone.
            return and_(theirs.user_id == author_id, between(theirs.id, near, last_id))
        # In pairs, so that PostgreSQL cannot but walk the index on both.
        place = tuple_(theirs.user_id, theirs.id)
        return between(place, tuple_(author_id, near), tuple_(author_id, last_id))

    def post_of(author_id: ColumnElement[int], *, after: int) -> ScalarSelect[int]:
        """An author's nearest post after skipping some."""
        found = select(theirs.id).where(unread(author_id, end))
        nearest_first = found.order_by(in_order(theirs.user_id), in_order(theirs.id))
        return nearest_first.limit(1).offset(after).scalar_subquery()

    def step(name: str, statement: Select[Any]) -> CTE:
        return statement.cte(name).prefix_with("MATERIALIZED")

    followed = select(Follow.followed_id.label("id")).where(Follow.follower_id == user_id)
    authors = followed.union_all(select(reader_id)).cte("authors")
    nearest = step("nearest", select(authors.c.id, post_of(authors.c.id, after=0).label("post_id")))
    on_page = select(nearest.c.id).where(nearest.c.post_id.is_not(None))
    chosen = step("chosen", on_page.order_by(in_order(nearest.c.post_id)).limit(limit + 1))
    farthest = func.coalesce(post_of(chosen.c.id, after=limit), end).label("post_id")
    room = step("room", select(chosen.c.id, farthest))
    # The ids once more by themselves, or else PostgreSQL expects too many and goes through all posts.
    in_room = and_(between(theirs.id, near, room.c.post_id), unread(room.c.id, room.c.post_id))
    candidates = step("candidates", select(theirs.id).join(room, room.c.id == theirs.user_id).where(in_room))
    page = select(candidates.c.id).order_by(in_order(candidates.c.id)).limit(limit + 1)
    return select(Post).where(Post.id.in_(page))
