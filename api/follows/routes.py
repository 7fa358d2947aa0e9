"""Follows: whom you follow, who follows whom, and the feed that comes of it."""

from typing import Any

from flask import Blueprint
from sqlalchemy import delete

from api.auth import current_user_id, token_optional, token_required
from api.database import db, insert_once
from api.endpoint import accepts, fails, returns
from api.errors import InputError, Problem
from api.follows.queries import feed_of, follow_of, followed_by, followers_of, ids_in_order
from api.models import Follow, Post
from api.pagination import Page, PageQuery, Window, page_of, paginate
from api.posts.schemas import PostSchema
from api.users.queries import id_of
from api.users.schemas import UserSchema

follows = Blueprint("follows", __name__)


@follows.get("/feed")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_feed(query: dict[str, Any]) -> Page:
    """List your feed.

    What you and those whom you follow wrote, newest first.
    """
    window = Window.of(query, Post.id)
    return Page(feed_of(current_user_id(), window), window)


@follows.get("/me/following/<username:username>")
@token_required
@returns()
def get_following(username: str) -> None:
    """Ask whether you follow a user.

    204 if you do, 404 if you do not, or if there is nobody of this name.
    """
    followed_id = id_of(username).first_or_404()
    db.first_or_404(follow_of(current_user_id(), followed_id))


@follows.put("/me/following/<username:username>")
@token_required
@returns()
@fails(409)
def create_following(username: str) -> None:
    """Follow a user.

    To follow them again changes nothing. You cannot follow yourself.
    """
    followed_id: int = id_of(username).first_or_404()
    if followed_id == current_user_id():
        yourself = InputError("parameter", "username", "yourself", "You cannot follow yourself.")
        raise Problem("invalid_input", errors=[yourself])
    db.session.execute(ids_in_order(current_user_id(), followed_id).with_for_update(key_share=True))
    insert_once(Follow, follower_id=current_user_id(), followed_id=followed_id)
    db.session.commit()


@follows.delete("/me/following/<username:username>")
@token_required
@returns()
def delete_following(username: str) -> None:
    """Follow a user no longer.

    To do so again changes nothing.
    """
    followed_id: int = id_of(username).first_or_404()
    db.session.execute(ids_in_order(current_user_id(), followed_id).with_for_update(key_share=True))
    follower_is_me = Follow.follower_id == current_user_id()
    db.session.execute(delete(Follow).where(follower_is_me, Follow.followed_id == followed_id))
    db.session.commit()


@follows.get("/users/<username:username>/followers")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(UserSchema))
def list_followers(query: dict[str, Any], username: str) -> Page:
    """List who follows a user.

    Whoever did so last comes first. Public; a token adds what `expand=viewer` shows.
    """
    return paginate(followers_of(username), query, Follow.id, of=id_of(username))


@follows.get("/users/<username:username>/following")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(UserSchema))
def list_following(query: dict[str, Any], username: str) -> Page:
    """List whom a user follows.

    Whom they followed last comes first. Public; a token adds what `expand=viewer` shows.
    """
    return paginate(followed_by(username), query, Follow.id, of=id_of(username))
