"""Authentication and authorization of callers."""

from api.auth.authentication import (
    ACCESS_TOKEN,
    current_session_id,
    current_user_id,
    invalid_token,
    password_required,
    passwords,
    token_optional,
    token_required,
)
from api.auth.authorization import current_user, ensure_author, ensure_password, locked_user

__all__ = [
    "ACCESS_TOKEN",
    "current_session_id",
    "current_user",
    "current_user_id",
    "ensure_author",
    "ensure_password",
    "invalid_token",
    "locked_user",
    "password_required",
    "passwords",
    "token_optional",
    "token_required",
]
