"""Which users."""

from typing import Any

from sqlalchemy import CompoundSelect, ScalarSelect, Select, literal, select, union
from sqlalchemy.orm import aliased

from api.models import Entity, Follow, Like, Post, User
from api.prepared import Prepared, prepared


def id_named(folded_username: str) -> ScalarSelect[int]:
    """The id of the user with a name, given in lower case: a value within another statement."""
    return _ids_named(folded_username).scalar_subquery()


@prepared
def id_of(folded_username: str) -> Select[int]:
    """The id of the user with a name, given in lower case."""
    return _ids_named(folded_username)


def _ids_named(folded_username: str) -> Select[int]:
    return select(User.id).where(User.folded_username == folded_username)


@prepared
def profile_of(folded_username: str) -> Select[User]:
    """The user with a name, given in lower case."""
    return select(User).where(User.folded_username == folded_username)


@prepared
def all_users() -> Select[User]:
    """Everybody."""
    return select(User)


def users_with_prefix(prefix: str) -> Prepared:
    """Those whose names begin with a prefix, whatever its case.

    A range rather than LIKE, so that the index on the names serves it on every database. Names keep to
    ASCII, whose last character, DEL, comes after all that a prefix can go on with.
    """
    first = prefix.lower()
    return _users_between(first, first + "\x7f")


@prepared
def _users_between(first: str, last: str) -> Select[User]:
    return select(User).where(User.folded_username.between(first, last))


def posts_around(user_id: int) -> Select[int]:
    """The ids of posts that change when an account is deleted, in the order in which rows are locked.

    The user's, what those answer, what answers them, what the user likes, and what mentions the user.
    """
    theirs = aliased(Post)
    changed: CompoundSelect[Any] = union(
        select(Post.id).where(Post.user_id == user_id),
        select(theirs.in_reply_to_id).where(theirs.user_id == user_id, theirs.in_reply_to_id.is_not(None)),
        select(Post.id).join(theirs, theirs.id == Post.in_reply_to_id).where(theirs.user_id == user_id),
        select(Like.post_id).where(Like.user_id == user_id),
        select(Entity.post_id).where(Entity.user_id == user_id),
    )
    return select(Post.id).where(Post.id.in_(changed)).order_by(Post.id)


def users_around(user_id: int) -> Select[int]:
    """The ids of users who change when an account is deleted, in the order in which rows are locked.

    The user, whom they follow, and who follows them.
    """
    changed = union(
        select(literal(user_id)),
        select(Follow.followed_id).where(Follow.follower_id == user_id),
        select(Follow.follower_id).where(Follow.followed_id == user_id),
    )
    return select(User.id).where(User.id.in_(changed)).order_by(User.id)
