"""Which posts."""

from sqlalchemy import Select, select

from api.models import Post, User
from api.users.queries import user_named


def newest_posts(author: str | None = None) -> Select[Post]:
    """Everybody's posts, or those of the user with a name."""
    if author is None:
        return select(Post)
    author_id = user_named(author).with_only_columns(User.id).scalar_subquery()
    return select(Post).where(Post.user_id == author_id)


def posts_by(user: User) -> Select[Post]:
    """What a user wrote."""
    return select(Post).where(Post.user_id == user.id)
