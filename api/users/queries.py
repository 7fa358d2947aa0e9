"""Queries for users. Usernames are given in lower case."""

from typing import Any

from sqlalchemy import CompoundSelect, ScalarSelect, Select, literal, select, union
from sqlalchemy.orm import aliased

from api.db.folding import folded
from api.models import Entity, Follow, Like, Post, User
from api.rendering.descriptions import Query, query


def user_id_named(username: str) -> ScalarSelect[int]:
    """Return a subquery for the id of the user with a username."""
    return select(User.id).where(User.folded_username == username).scalar_subquery()


@query
def user_named(username: str) -> Select[User]:
    """Return the user with a username."""
    return select(User).where(User.folded_username == username)


@query
def all_users() -> Select[User]:
    """Return all users."""
    return select(User)


def users_with_prefix(prefix: str) -> Query[User]:
    """Return the users whose usernames begin with a prefix, regardless of case.

    Uses a range rather than LIKE, so that both databases use the index. Usernames are ASCII; DEL, the last
    ASCII character, sorts after all of them.
    """
    first = folded(prefix)
    return _users_between(first, first + "\x7f")


@query
def _users_between(first: str, last: str) -> Select[User]:
    return select(User).where(User.folded_username.between(first, last))


def ids_of_posts_changed_by_deleting_user(user_id: int) -> Select[int]:
    """Return the ids of the posts that change when an account is deleted, in locking order.

    These are the user's posts, the posts that these reply to, the replies to them, the posts that the user
    likes, and the posts that mention the user.
    """
    own = aliased(Post)
    changed: CompoundSelect[Any] = union(
        select(Post.id).where(Post.user_id == user_id),
        select(own.in_reply_to_id).where(own.user_id == user_id, own.in_reply_to_id.is_not(None)),
        select(Post.id).join(own, own.id == Post.in_reply_to_id).where(own.user_id == user_id),
        select(Like.post_id).where(Like.user_id == user_id),
        select(Entity.post_id).where(Entity.user_id == user_id),
    )
    return select(Post.id).where(Post.id.in_(changed)).order_by(Post.id)


def ids_of_users_changed_by_deleting_user(user_id: int) -> Select[int]:
    """Return the ids of the users that change when an account is deleted, in locking order.

    These are the user, the users that they follow, and their followers.
    """
    changed = union(
        select(literal(user_id)),
        select(Follow.followed_id).where(Follow.follower_id == user_id),
        select(Follow.follower_id).where(Follow.followed_id == user_id),
    )
    return select(User.id).where(User.id.in_(changed)).order_by(User.id)
