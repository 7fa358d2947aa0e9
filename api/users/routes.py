"""Users: all callers can register and read profiles; `/me` is your own account."""

from typing import Any

from flask import Blueprint, url_for

from api.auth.authentication import (
    current_session_id,
    current_user_id,
    passwords,
    token_optional,
    token_required,
)
from api.auth.authorization import current_user, ensure_password, locked_user
from api.contract.endpoint import accepts, fails, returns
from api.contract.idempotency import idempotent
from api.db import db
from api.mail.emails import send_email
from api.mail.kinds import EMAIL_CHANGE, EMAIL_VERIFICATION, PASSWORD_RESET
from api.mail.tokens import revoke_tokens
from api.models import User
from api.rate_limiting.policies import rate_limited
from api.rendering.descriptions import Row, first_or_404
from api.rendering.pagination import Page, page_of, paginate
from api.users.accounts import end_sessions, lock_rows_changed_by_deletion, register
from api.users.queries import all_users, user_named, users_with_prefix
from api.users.schemas import (
    AccountDeleteSchema,
    AccountSchema,
    AccountUpdateSchema,
    PasswordChangeSchema,
    UserCreateSchema,
    UserQuery,
    UserSchema,
    ensure_no_name,
)
from api.web.conditional import ensure_unchanged

users = Blueprint("users", __name__)
account_schema = AccountSchema()


@users.post("/users")
@rate_limited("registration")
@idempotent
@accepts(UserCreateSchema())
@returns(account_schema, 201, links=("createToken", "getUser"))
@fails(409)
def create_user(fields: dict[str, Any]) -> tuple[User, dict[str, str]]:
    """Register.

    Then sign in with `POST /tokens`. If another user has the username or the email address, regardless of
    case, the response is 409 and its `errors` name the member. A token for
    `POST /email-verifications/redeem` is sent to the address; using it is optional.
    """
    # No transaction is open while the password is hashed. The lock of `@idempotent` ends here too; it only
    # saves work.
    db.session.commit()
    user = register(**fields)
    return user, {"Location": url_for(".get_user", username=user.username)}


@users.get("/users")
@token_optional
@accepts(UserQuery(), location="query")
@returns(page_of(UserSchema))
def list_users(parameters: dict[str, Any]) -> Page:
    """List users.

    Newest first; with `q`, sorted by username. Public; a token is needed only for `expand=viewer`.
    """
    if "q" in parameters:
        return paginate(
            users_with_prefix(parameters["q"]), parameters, key=User.folded_username, ascending=True
        )
    return paginate(all_users(), parameters, key=User.id)


@users.get("/users/<username:username>")
@token_optional
@returns(UserSchema())
def get_user(username: str) -> Row:
    """Get a user's public profile.

    The username is case-insensitive. Public; a token is needed only for `expand=viewer`.
    """
    return first_or_404(user_named(username))


@users.get("/me")
@token_required
@returns(account_schema)
def get_account() -> User:
    """Get your account.

    Your profile, with the members that only you can see.
    """
    return current_user()


@users.patch("/me")
@rate_limited(wrong_password=403)
@token_required
@accepts(AccountUpdateSchema())
@returns(account_schema)
@fails(403, 409, 412)
def update_account(changes: dict[str, Any]) -> User:
    """Edit your account.

    Members that are not sent stay unchanged. Changing the email address requires `current_password`. The new
    address is unverified, and a token is sent to it, as at registration. Tokens sent to the old address
    become invalid, and a notice is sent there.
    """
    password = changes.pop("current_password", None)
    if "email" in changes:
        ensure_password(password, "current_password")
    user = locked_user()
    ensure_unchanged(user, account_schema)
    old_email = user.email
    user.update(changes)
    if user.email != old_email:
        revoke_tokens(PASSWORD_RESET, user)
        revoke_tokens(EMAIL_VERIFICATION, user)
        send_email(EMAIL_VERIFICATION, user)
        send_email(EMAIL_CHANGE, user, to=old_email)
    db.session.commit()
    return user


@users.delete("/me")
@rate_limited(wrong_password=403)
@token_required
@accepts(AccountDeleteSchema())
@returns()
@fails(403, 412)
def delete_account(fields: dict[str, str]) -> None:
    """Delete your account.

    Permanently, with all your posts, likes, follows and sessions.
    """
    ensure_password(fields["password"], "password")
    lock_rows_changed_by_deletion(current_user_id())
    user = locked_user()
    ensure_unchanged(user, account_schema)
    db.session.delete(user)
    db.session.commit()


@users.put("/me/password")
@rate_limited(wrong_password=403)
@token_required
@accepts(PasswordChangeSchema())
@returns()
@fails(403, 409)
def change_password(fields: dict[str, str]) -> None:
    """Change your password.

    Ends all your other sessions; tokens for a password reset become invalid.
    """
    user = current_user()
    ensure_no_name(fields["new_password"], user.username, user.email, "new_password")
    ensure_password(fields["current_password"], "current_password")
    user.password_hash = passwords().hash(fields["new_password"])
    end_sessions(user, other_than=current_session_id())
    revoke_tokens(PASSWORD_RESET, user)
    db.session.commit()
