"""Which users."""

from typing import Any

from sqlalchemy import CompoundSelect, Select, literal, select, union
from sqlalchemy.orm import aliased

from api.models import Follow, Like, Post, User


def user_named(username: str) -> Select[User]:
    """The user with a name, whatever its case."""
    return select(User).where(User.folded_username == username.lower())


def all_users() -> Select[User]:
    """Everybody."""
    return select(User)


def users_with_prefix(prefix: str) -> Select[User]:
    """Those whose names begin with a prefix, whatever its case.

    A range rather than LIKE, so that the index on the names serves it on every database. Names keep to
    ASCII, whose last character, DEL, comes after all that a prefix can go on with.
    """
    first = prefix.lower()
    return select(User).where(User.folded_username.between(first, first + "\x7f"))


def posts_around(user: User) -> Select[int]:
    """The ids of posts that change when an account is deleted, in the order in which rows are locked.

    The user's, what those answer, what answers them, and what the user likes.
    """
    theirs = aliased(Post)
    changed: CompoundSelect[Any] = union(
        select(Post.id).where(Post.user_id == user.id),
        select(theirs.in_reply_to_id).where(theirs.user_id == user.id, theirs.in_reply_to_id.is_not(None)),
        select(Post.id).join(theirs, theirs.id == Post.in_reply_to_id).where(theirs.user_id == user.id),
        select(Like.post_id).where(Like.user_id == user.id),
    )
    return select(Post.id).where(Post.id.in_(changed)).order_by(Post.id)


def users_around(user: User) -> Select[int]:
    """The ids of users who change when an account is deleted, in the order in which rows are locked.

    The user, whom they follow, and who follows them.
    """
    changed = union(
        select(literal(user.id)),
        select(Follow.followed_id).where(Follow.follower_id == user.id),
        select(Follow.follower_id).where(Follow.followed_id == user.id),
    )
    return select(User.id).where(User.id.in_(changed)).order_by(User.id)
