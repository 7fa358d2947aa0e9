"""Posts: all callers can read them; only the author can change them."""

from typing import Any

from flask import Blueprint, url_for

from api.auth.authentication import current_user_id, token_optional, token_required
from api.auth.authorization import ensure_author
from api.contract.endpoint import accepts, fails, returns
from api.contract.idempotency import idempotent
from api.db import FOR_NO_KEY_UPDATE, db
from api.models import Post
from api.posts.queries import (
    ancestors_of,
    ids_of_posts_changed_by_deleting_post,
    posts_by,
    posts_matching,
    replies_to,
)
from api.posts.schemas import PostCreateSchema, PostQuery, PostSchema, PostThreadSchema, PostUpdateSchema
from api.posts.writing import insert_post, replace_entities
from api.rendering.descriptions import Composite, Row, Rows, get_or_404, row_by_id
from api.rendering.pagination import Page, PageQuery, page_of, paginate
from api.schemas.messages import invalid
from api.users.queries import user_named
from api.web.conditional import ensure_unchanged

posts = Blueprint("posts", __name__)
post_schema = PostSchema()
# The parameters of a list without any: the default limit, and no cursor.
FIRST_PAGE: dict[str, Any] = PageQuery().load({})


@posts.get("/posts")
@token_optional
@accepts(PostQuery(), location="query")
@returns(page_of(PostSchema))
def list_posts(parameters: dict[str, Any]) -> Page:
    """List posts.

    Newest first. Several filters must all match. Public; a token is needed only for `expand=viewer`.
    """
    filters = {name: parameters.get(name) for name in ("author", "q", "tag", "mentions")}
    matching, key = posts_matching(**filters)
    return paginate(matching, parameters, key=key)


@posts.post("/posts")
@token_required
@idempotent
@accepts(PostCreateSchema())
@returns(post_schema, 201, links=("getPost", "updatePost", "deletePost", "listReplies"))
@fails(409, 410)
def create_post(fields: dict[str, Any]) -> tuple[Row, dict[str, str]]:
    """Publish a post.

    With `in_reply_to_id` it is a reply. Each `#hashtag`, and each `@username` of an existing user, becomes
    one of its `entities`, and each URL one of its `urls`. `Location` is the URL of the post.
    """
    parent_id = fields.get("in_reply_to_id")
    if parent_id is not None and db.session.get(Post, parent_id, **FOR_NO_KEY_UPDATE) is None:
        raise invalid("not_found", "There is no such post.", "in_reply_to_id")
    post_id = insert_post(current_user_id(), **fields)
    # `@idempotent` commits, together with the stored response.
    return get_or_404(Post, post_id), {"Location": url_for(".get_post", post_id=post_id)}


@posts.get("/posts/<id:post_id>")
@token_optional
@returns(post_schema)
def get_post(post_id: int) -> Row:
    """Get a post.

    Public; a token is needed only for `expand=viewer`.
    """
    return get_or_404(Post, post_id)


@posts.patch("/posts/<id:post_id>")
@token_required
@accepts(PostUpdateSchema())
@returns(post_schema)
@fails(403, 412)
def update_post(changes: dict[str, object], post_id: int) -> Row:
    """Edit your post.

    Members that are not sent stay unchanged. A different `body` sets `edited_at` and replaces `entities` and
    `urls`.
    """
    post = db.get_or_404(Post, post_id, **FOR_NO_KEY_UPDATE)
    ensure_author(post)
    ensure_unchanged(post, post_schema)
    old_body = post.body
    post.update(changes)
    if post.body != old_body:
        replace_entities(post)
    db.session.commit()
    return get_or_404(Post, post_id)


@posts.delete("/posts/<id:post_id>")
@token_required
@returns()
@fails(403, 412)
def delete_post(post_id: int) -> None:
    """Delete your post.

    Permanently. Replies to it remain; their `in_reply_to_id` becomes null.
    """
    # Locks what the deletion changes; nothing if the caller is not the author.
    changed = ids_of_posts_changed_by_deleting_post(post_id, current_user_id())
    db.session.execute(changed.with_for_update())
    post = db.get_or_404(Post, post_id)
    ensure_author(post)
    ensure_unchanged(post, post_schema)
    db.session.delete(post)
    db.session.commit()


@posts.get("/posts/<id:post_id>/replies")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_replies(parameters: dict[str, Any], post_id: int) -> Page:
    """List replies to a post.

    Oldest first. Public; a token is needed only for `expand=viewer`.
    """
    return paginate(
        replies_to(post_id), parameters, key=Post.id, ascending=True, parent=row_by_id(Post, post_id)
    )


@posts.get("/posts/<id:post_id>/thread")
@token_optional
@returns(PostThreadSchema())
def get_thread(post_id: int) -> Composite:
    """Get a post in its conversation.

    Returns the post, the posts that it descends from (the 40 nearest, oldest first), and the first page of
    its replies. Public; a token is needed only for `expand=viewer`.
    """
    replies = replies_to(post_id)
    return Composite(
        {
            "ancestors": Rows(ancestors_of(post_id)),
            "post": get_or_404(Post, post_id),
            "replies": paginate(
                replies, FIRST_PAGE, key=Post.id, ascending=True, endpoint="posts.list_replies"
            ),
        }
    )


@posts.get("/users/<username:username>/posts")
@token_optional
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_user_posts(parameters: dict[str, Any], username: str) -> Page:
    """List a user's posts.

    Newest first. The username is case-insensitive. Public; a token is needed only for `expand=viewer`.
    """
    return paginate(posts_by(username), parameters, key=Post.id, parent=user_named(username))
