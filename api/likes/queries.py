"""Queries for likes."""

from sqlalchemy import Select, select

from api.models import Like, Post, User
from api.rendering.descriptions import query


@query
def posts_liked_by(user_id: int) -> Select[Post]:
    """Return the posts that a user likes."""
    return select(Post).join(Like, Like.post_id == Post.id).where(Like.user_id == user_id)


@query
def users_who_like(post_id: int) -> Select[User]:
    """Return the users who like a post."""
    return select(User).join(Like, Like.user_id == User.id).where(Like.post_id == post_id)
