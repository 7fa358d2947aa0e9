"""Which likes."""

from sqlalchemy import Select, select

from api.models import Like, Post, User
from api.prepared import prepared


@prepared
def posts_liked_by(user_id: int) -> Select[Post]:
    """What a user likes."""
    return select(Post).join(Like, Like.post_id == Post.id).where(Like.user_id == user_id)


@prepared
def users_who_like(post_id: int) -> Select[User]:
    """Who likes a post."""
    return select(User).join(Like, Like.user_id == User.id).where(Like.post_id == post_id)
