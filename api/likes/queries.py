"""Which likes."""

from sqlalchemy import Select, select

from api.models import Like, Post, User


def posts_liked_by(user: User) -> Select[Post]:
    """What a user likes."""
    return select(Post).join(Like, Like.post_id == Post.id).where(Like.user_id == user.id)


def users_who_like(post: Post) -> Select[User]:
    """Who likes a post."""
    return select(User).join(Like, Like.user_id == User.id).where(Like.post_id == post.id)
