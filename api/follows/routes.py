"""Follows: the users that you follow, your followers, and the feed."""

from typing import Any

from flask import Blueprint
from sqlalchemy import delete

from api.auth.authentication import current_user_id, token_optional, token_required
from api.contract.endpoint import accepts, fails, returns
from api.db import db, insert_if_absent
from api.db.types import LARGEST_ID
from api.follows.queries import feed_of, follow_of, followed_by, followers_of, lock_pair
from api.models import Follow, Post
from api.posts.schemas import PostSchema
from api.rendering.pagination import Page, PageQuery, Window, page_of, paginate
from api.users.queries import user_named
from api.users.schemas import UserSchema
from api.web.problems import InputError, Problem

follows = Blueprint("follows", __name__)


@follows.get("/feed")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_feed(parameters: dict[str, Any]) -> Page:
    """List your feed.

    Your own posts and those of the users that you follow, newest first.
    """
    window = Window.of(parameters, Post.id)
    start = 0 if window.upwards else LARGEST_ID
    near = start if window.anchor is None else int(window.anchor)
    return Page(feed_of(current_user_id(), near, window.limit, upwards=window.upwards), window)


@follows.get("/me/following/<username:username>")
@token_required
@returns()
def get_following(username: str) -> None:
    """Check whether you follow a user.

    204 if you do; 404 if you do not, or if there is no such user.
    """
    db.first_or_404(follow_of(current_user_id(), username))


@follows.put("/me/following/<username:username>")
@token_required
@returns()
@fails(409)
def create_following(username: str) -> None:
    """Follow a user.

    Repeating it changes nothing. You cannot follow yourself.
    """
    followed = db.first_or_404(user_named(username).select())
    if followed.id == current_user_id():
        yourself = InputError("parameter", "username", "yourself", "You cannot follow yourself.")
        raise Problem("invalid_input", errors=[yourself])
    db.session.execute(lock_pair(current_user_id(), followed.id))
    insert_if_absent(Follow, follower_id=current_user_id(), followed_id=followed.id)
    db.session.commit()


@follows.delete("/me/following/<username:username>")
@token_required
@returns()
def delete_following(username: str) -> None:
    """Unfollow a user.

    Repeating it changes nothing.
    """
    followed = db.first_or_404(user_named(username).select())
    db.session.execute(lock_pair(current_user_id(), followed.id))
    is_follower = Follow.follower_id == current_user_id()
    db.session.execute(delete(Follow).where(is_follower, Follow.followed_id == followed.id))
    db.session.commit()


@follows.get("/users/<username:username>/followers")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(UserSchema))
def list_followers(parameters: dict[str, Any], username: str) -> Page:
    """List a user's followers.

    The most recent follower comes first. Public; a token is needed only for `expand=viewer`.
    """
    return paginate(followers_of(username), parameters, key=Follow.id, parent=user_named(username))


@follows.get("/users/<username:username>/following")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(UserSchema))
def list_following(parameters: dict[str, Any], username: str) -> Page:
    """List the users that a user follows.

    The most recently followed comes first. Public; a token is needed only for `expand=viewer`.
    """
    return paginate(followed_by(username), parameters, key=Follow.id, parent=user_named(username))
