"""The models, one module each. Alembic and `flask shell` see those in this list."""

from api.models.email_token import EmailToken
from api.models.entity import Entity
from api.models.follow import Follow
from api.models.heartbeat import Heartbeat
from api.models.idempotency_key import IdempotencyKey
from api.models.like import Like
from api.models.post import Post
from api.models.session import Session
from api.models.user import User
from api.models.waiting_email import WaitingEmail

__all__ = [
    "EmailToken",
    "Entity",
    "Follow",
    "Heartbeat",
    "IdempotencyKey",
    "Like",
    "Post",
    "Session",
    "User",
    "WaitingEmail",
]
