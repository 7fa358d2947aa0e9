"""Posts: anybody may read them, only their author may change them."""

from typing import Any

from flask import Blueprint, abort, url_for
from sqlalchemy import Select, select

from api.auth import current_user, ensure_author, token_optional, token_required
from api.conditional import ensure_unchanged
from api.database import FOR_UPDATE, db
from api.endpoint import accepts, fails, returns
from api.idempotency import idempotent
from api.models import Post
from api.pagination import Page, PageQuery, page_of, paginate
from api.posts.entities import save_entities
from api.posts.queries import answered_and_answer, chain_to, posts_by, posts_found, replies_to
from api.posts.schemas import PostCreateSchema, PostQuery, PostSchema, PostUpdateSchema, ThreadSchema
from api.rows import read_shown
from api.schema import refusal
from api.users.queries import user_named

posts = Blueprint("posts", __name__)


@posts.get("/posts")
@token_optional
@accepts(PostQuery(), location="query")
@returns(page_of(PostSchema))
def list_posts(query: dict[str, Any]) -> Page:
    """List posts.

    The newest come first. Of several conditions all must be true. Public; a token adds what `expand=viewer`
    shows.
    """
    conditions = {name: query[name] for name in ("author", "q", "tag", "mentions") if name in query}
    statement, key = posts_found(**conditions)
    return paginate(statement, query, key=key)


@posts.post("/posts")
@token_required
@idempotent
@accepts(PostCreateSchema())
@returns(PostSchema(), 201)
@fails(409)
def create_post(fields: dict[str, Any]) -> Any:
    """Publish a post.

    With `in_reply_to_id` it answers another. Each `#hashtag`, and each `@username` that somebody has, becomes
    one of its `entities`. The answer's `Location` is where it can be read from now on.
    """
    answered_id = fields.get("in_reply_to_id")
    if answered_id is not None and db.session.get(Post, answered_id, **FOR_UPDATE) is None:
        raise refusal("not_found", "There is no such post.", "in_reply_to_id")
    post = Post(author=current_user(), is_reply=answered_id is not None, **fields)
    db.session.add(post)
    save_entities(post)
    return post, {"Location": url_for(".get_post", post_id=post.id)}


@posts.get("/posts/<int:post_id>")
@token_optional
@returns(PostSchema())
def get_post(post_id: int) -> Select[Post]:
    """Get a post.

    Answers 404 once its author has deleted it. Public; a token adds what `expand=viewer` shows.
    """
    return select(Post).where(Post.id == post_id)


@posts.patch("/posts/<int:post_id>")
@token_required
@accepts(PostUpdateSchema())
@returns(PostSchema())
@fails(403, 412)
def update_post(changes: dict[str, Any], post_id: int) -> Post:
    """Edit your post.

    Members that are left out stay as they are. If the text changes, `edited_at` says when, and `entities` are
    found anew.
    """
    post = db.get_or_404(Post, post_id, **FOR_UPDATE)
    ensure_author(post)
    ensure_unchanged(post, PostSchema())
    post.update(changes)
    if "body" in changes:
        save_entities(post)
    db.session.commit()
    return post


@posts.delete("/posts/<int:post_id>")
@token_required
@returns()
@fails(403, 412)
def delete_post(post_id: int) -> None:
    """Delete your post.

    It is gone for good. Replies to it stay, and no longer say what they answer.
    """
    db.session.execute(answered_and_answer(post_id).with_for_update())
    post = db.get_or_404(Post, post_id)
    ensure_author(post)
    ensure_unchanged(post, PostSchema())
    db.session.delete(post)
    db.session.commit()


@posts.get("/posts/<int:post_id>/replies")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_replies(query: dict[str, Any], post_id: int) -> Page:
    """List replies to a post.

    The oldest come first. Public; a token adds what `expand=viewer` shows.
    """
    post = db.get_or_404(Post, post_id)
    return paginate(replies_to(post.id), query, ascending=True)


@posts.get("/posts/<int:post_id>/thread")
@token_optional
@returns(ThreadSchema())
def get_thread(post_id: int) -> dict[str, Any]:
    """Get a post in its conversation.

    With what it answers, what that answers and so on (the nearest 40, oldest first), and the first page of
    replies to it. Public; a token adds what `expand=viewer` shows.
    """
    *ancestors, post = read_shown(chain_to(post_id), PostSchema()) or abort(404)
    replies = paginate(
        replies_to(post_id), PageQuery().load({}), ascending=True, endpoint="posts.list_replies"
    )
    return {"ancestors": ancestors, "post": post, "replies": replies}


@posts.get("/users/<username:username>/posts")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_user_posts(query: dict[str, Any], username: str) -> Page:
    """List a user's posts.

    The newest come first. The name may be given in any case. Public; a token adds what `expand=viewer`
    shows.
    """
    return paginate(posts_by(db.first_or_404(user_named(username))), query)
