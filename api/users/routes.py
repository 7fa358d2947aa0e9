"""Users: anybody may register and be looked up; what is under `/me` is the caller's own."""

from typing import Any

from flask import Blueprint, url_for
from sqlalchemy import delete

from api.auth import (
    current_session_id,
    current_user,
    current_user_id,
    ensure_password,
    locked_user,
    passwords,
    token_optional,
    token_required,
)
from api.conditional import ensure_unchanged
from api.database import db
from api.endpoint import accepts, fails, returns
from api.idempotency import idempotent
from api.letters import EMAIL_CHANGE, EMAIL_VERIFICATION, PASSWORD_RESET, end_tokens, write_later
from api.models import Session, User
from api.pagination import Page, page_of, paginate
from api.prepared import Prepared
from api.users.queries import all_users, posts_around, profile_of, users_around, users_with_prefix
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

users = Blueprint("users", __name__)
account_schema = AccountSchema()


@users.post("/users")
@idempotent
@accepts(UserCreateSchema())
@returns(account_schema, 201)
@fails(409)
def create_user(fields: dict[str, Any]) -> Any:
    """Register.

    Then sign in with `POST /tokens`. A name or an e-mail address that somebody has already, in whatever
    case, is a 409 whose `errors` say which. The address is sent a token for
    `POST /email-verifications/redeem`; nothing depends on its use.
    """
    db.session.commit()  # No transaction is open while the password is hashed.
    password_hash = passwords().hash(fields.pop("password"))
    user = User(password_hash=password_hash, **fields)
    db.session.add(user)
    db.session.flush()
    write_later(EMAIL_VERIFICATION, User.id == user.id)
    return user, {"Location": url_for(".get_user", username=user.username)}


@users.get("/users")
@token_optional
@accepts(UserQuery(), location="query")
@returns(page_of(UserSchema))
def list_users(query: dict[str, Any]) -> Page:
    """List users.

    The newest come first; with `q`, those whose names begin with it, sorted by name. Public; a token adds
    what `expand=viewer` shows.
    """
    if "q" in query:
        return paginate(users_with_prefix(query["q"]), query, User.folded_username, ascending=True)
    return paginate(all_users(), query, User.id)


@users.get("/users/<username:username>")
@token_optional
@returns(UserSchema())
def get_user(username: str) -> Prepared:
    """Get a user's public profile.

    The name may be given in any case. Public; a token adds what `expand=viewer` shows.
    """
    return profile_of(username)


@users.get("/me")
@token_required
@returns(account_schema)
def get_account() -> User:
    """Get your account.

    This is your profile and what only you see of it.
    """
    return current_user()


@users.patch("/me")
@token_required
@accepts(AccountUpdateSchema())
@returns(account_schema)
@fails(403, 409, 412)
def update_account(changes: dict[str, Any]) -> User:
    """Edit your account.

    Members that are left out stay as they are. Whoever changes the e-mail address must give the current
    password as well. The new address is not verified and is sent a token, as when you registered; what was
    mailed to the old one works no longer, and the old one is told.
    """
    password = changes.pop("current_password", None)
    if "email" in changes:
        ensure_password(password, "current_password")
    user = locked_user()
    ensure_unchanged(user, account_schema)
    old_email = user.email
    user.update(changes)
    if user.email != old_email:
        end_tokens(PASSWORD_RESET, user)
        end_tokens(EMAIL_VERIFICATION, user)
    db.session.commit()
    if user.email != old_email:
        write_later(EMAIL_VERIFICATION, User.id == user.id)
        write_later(EMAIL_CHANGE, User.id == user.id, email=old_email)
    return user


@users.delete("/me")
@token_required
@accepts(AccountDeleteSchema())
@returns()
@fails(403, 412)
def delete_account(fields: dict[str, str]) -> None:
    """Delete your account.

    Removes all that you wrote and ends all your sessions, for good.
    """
    ensure_password(fields["password"], "password")
    db.session.execute(posts_around(current_user_id()).with_for_update())
    db.session.execute(users_around(current_user_id()).with_for_update())
    user = locked_user()
    ensure_unchanged(user, account_schema)
    db.session.delete(user)
    db.session.commit()


@users.put("/me/password")
@token_required
@accepts(PasswordChangeSchema())
@returns()
@fails(403, 409)
def change_password(fields: dict[str, str]) -> None:
    """Change your password.

    Ends all your sessions but the one that asks, and a password reset that waits for its token.
    """
    user = current_user()
    ensure_no_name(fields["new_password"], user.username, user.email, "new_password")
    ensure_password(fields["current_password"], "current_password")
    user.password_hash = passwords().hash(fields["new_password"])
    # First the user, whose row a sign-in with the old password waits for; then its session, if any.
    db.session.flush()
    db.session.execute(delete(Session).where(Session.user_id == user.id, Session.id != current_session_id()))
    end_tokens(PASSWORD_RESET, user)
    db.session.commit()
