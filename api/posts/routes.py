"""Posts: anybody may read them, only their author may change them."""

from typing import Any

from flask import Blueprint, abort, url_for

from api.auth import current_user_id, ensure_author, token_optional, token_required
from api.conditional import ensure_unchanged
from api.database import FOR_UPDATE, db
from api.endpoint import accepts, fails, returns
from api.idempotency import idempotent
from api.models import Post
from api.pagination import Page, PageQuery, page_of, paginate
from api.posts.queries import chain_to, id_of_post, posts_around_post, posts_by, posts_found, replies_to
from api.posts.schemas import PostCreateSchema, PostQuery, PostSchema, PostUpdateSchema, ThreadSchema
from api.posts.writing import insert_post, replace_entities
from api.prepared import Prepared, row_with
from api.rows import read_shown
from api.schema import refusal
from api.users.queries import id_of

posts = Blueprint("posts", __name__)
post_schema = PostSchema()
FIRST_PAGE: dict[str, Any] = PageQuery().load({})


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
    found, key = posts_found(**conditions)
    return paginate(found, query, key)


@posts.post("/posts")
@token_required
@idempotent
@accepts(PostCreateSchema())
@returns(post_schema, 201)
@fails(409)
def create_post(fields: dict[str, Any]) -> Any:
    """Publish a post.

    With `in_reply_to_id` it answers another. Each `#hashtag`, and each `@username` that somebody has, becomes
    one of its `entities`. The answer's `Location` is where it can be read from now on.
    """
    answered_id = fields.get("in_reply_to_id")
    if answered_id is not None and db.session.get(Post, answered_id, **FOR_UPDATE) is None:
        raise refusal("not_found", "There is no such post.", "in_reply_to_id")
    post_id = insert_post(current_user_id(), **fields)
    return row_with(post_id, model=Post), {"Location": url_for(".get_post", post_id=post_id)}


@posts.get("/posts/<int:post_id>")
@token_optional
@returns(post_schema)
def get_post(post_id: int) -> Prepared:
    """Get a post.

    Answers 404 once its author has deleted it. Public; a token adds what `expand=viewer` shows.
    """
    return row_with(post_id, model=Post)


@posts.patch("/posts/<int:post_id>")
@token_required
@accepts(PostUpdateSchema())
@returns(post_schema)
@fails(403, 412)
def update_post(changes: dict[str, Any], post_id: int) -> Post:
    """Edit your post.

    Members that are left out stay as they are. If the text changes, `edited_at` says when, and `entities` are
    found anew.
    """
    post = db.get_or_404(Post, post_id, **FOR_UPDATE)
    ensure_author(post)
    ensure_unchanged(post, post_schema)
    post.update(changes)
    if "body" in changes:
        replace_entities(post)
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
    db.session.execute(posts_around_post(post_id, current_user_id()).with_for_update())
    post = db.get_or_404(Post, post_id)
    ensure_author(post)
    ensure_unchanged(post, post_schema)
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
    return paginate(replies_to(post_id), query, Post.id, ascending=True, of=id_of_post(post_id))


@posts.get("/posts/<int:post_id>/thread")
@token_optional
@returns(ThreadSchema())
def get_thread(post_id: int) -> dict[str, Any]:
    """Get a post in its conversation.

    With what it answers, what that answers and so on (the nearest 40, oldest first), and the first page of
    replies to it. Public; a token adds what `expand=viewer` shows.
    """
    *ancestors, post = read_shown(chain_to(post_id), post_schema) or abort(404)
    replies = paginate(
        replies_to(post_id), FIRST_PAGE, Post.id, ascending=True, endpoint="posts.list_replies"
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
    return paginate(posts_by(username), query, Post.id, of=id_of(username))
