"""Likes: the posts that you like, and the users who like a post."""

from typing import Any

from flask import Blueprint
from sqlalchemy import delete

from api.auth.authentication import current_user_id, token_optional, token_required
from api.contract.endpoint import accepts, fails, returns
from api.db import FOR_NO_KEY_UPDATE, db, insert_if_absent
from api.likes.queries import posts_liked_by, users_who_like
from api.models import Like, Post
from api.posts.schemas import PostSchema
from api.rendering.descriptions import row_by_id
from api.rendering.pagination import Page, PageQuery, page_of, paginate
from api.users.schemas import UserSchema

likes = Blueprint("likes", __name__)


@likes.get("/me/likes")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_likes(parameters: dict[str, Any]) -> Page:
    """List the posts that you like.

    The most recent like comes first.
    """
    return paginate(posts_liked_by(current_user_id()), parameters, key=Like.id)


@likes.put("/me/likes/<id:post_id>")
@token_required
@returns()
@fails(409)
def create_like(post_id: int) -> None:
    """Like a post.

    Repeating it changes nothing.
    """
    post = db.get_or_404(Post, post_id, **FOR_NO_KEY_UPDATE)
    insert_if_absent(Like, user_id=current_user_id(), post_id=post.id)
    db.session.commit()


@likes.delete("/me/likes/<id:post_id>")
@token_required
@returns()
def delete_like(post_id: int) -> None:
    """Stop liking a post.

    Repeating it changes nothing.
    """
    post = db.get_or_404(Post, post_id, **FOR_NO_KEY_UPDATE)
    db.session.execute(delete(Like).where(Like.user_id == current_user_id(), Like.post_id == post.id))
    db.session.commit()


@likes.get("/posts/<id:post_id>/likes")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(UserSchema))
def list_post_likes(parameters: dict[str, Any], post_id: int) -> Page:
    """List the users who like a post.

    The most recent like comes first. Public; a token is needed only for `expand=viewer`.
    """
    return paginate(users_who_like(post_id), parameters, key=Like.id, parent=row_by_id(Post, post_id))
