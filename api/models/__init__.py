"""The tables, one module each. This list is what Alembic and `flask shell` see."""

from api.models.entity import Entity
from api.models.follow import Follow
from api.models.idempotency_key import IdempotencyKey
from api.models.letter import Letter
from api.models.like import Like
from api.models.post import Post
from api.models.session import Session
from api.models.user import User

__all__ = ["Entity", "Follow", "IdempotencyKey", "Letter", "Like", "Post", "Session", "User"]
