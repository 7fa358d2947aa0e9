"""Likes: what you like, and who likes a post."""

from typing import Any

from flask import Blueprint
from sqlalchemy import delete

from api.auth import current_user_id, token_optional, token_required
from api.database import FOR_UPDATE, db, insert_once
from api.endpoint import accepts, fails, returns
from api.likes.queries import posts_liked_by, users_who_like
from api.models import Like, Post
from api.pagination import Page, PageQuery, page_of, paginate
from api.posts.queries import id_of_post
from api.posts.schemas import PostSchema
from api.users.schemas import UserSchema

likes = Blueprint("likes", __name__)


@likes.get("/me/likes")
@token_required
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_likes(query: dict[str, Any]) -> Page:
    """List what you like.

    What you liked last comes first.
    """
    return paginate(posts_liked_by(current_user_id()), query, Like.id)


@likes.put("/me/likes/<int:post_id>")
@token_required
@returns()
@fails(409)
def create_like(post_id: int) -> None:
    """Like a post.

    To like it again changes nothing.
    """
    post = db.get_or_404(Post, post_id, **FOR_UPDATE)
    insert_once(Like, user_id=current_user_id(), post_id=post.id)
    db.session.commit()


@likes.delete("/me/likes/<int:post_id>")
@token_required
@returns()
def delete_like(post_id: int) -> None:
    """Like a post no longer.

    To do so again changes nothing.
    """
    post = db.get_or_404(Post, post_id, **FOR_UPDATE)
    mine = Like.user_id == current_user_id()
    db.session.execute(delete(Like).where(mine, Like.post_id == post.id))
    db.session.commit()


@likes.get("/posts/<int:post_id>/likes")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(UserSchema))
def list_post_likes(query: dict[str, Any], post_id: int) -> Page:
    """List who likes a post.

    Who liked it last comes first. Public; a token adds what `expand=viewer` shows.
    """
    return paginate(users_who_like(post_id), query, Like.id, of=id_of_post(post_id))
