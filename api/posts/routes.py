"""Posts: anybody may read them, only their author may change them."""

from typing import Any

from flask import Blueprint, url_for
from sqlalchemy.orm import joinedload

from api.auth import current_user, ensure_author, token_required
from api.database import FOR_UPDATE, db
from api.endpoint import accepts, fails, returns
from api.models import Post
from api.pagination import Page, PageQuery, page_of, paginate
from api.posts.queries import newest_posts, posts_by
from api.posts.schemas import PostCreateSchema, PostQuery, PostSchema, PostUpdateSchema
from api.users.queries import user_named

posts = Blueprint("posts", __name__)


@posts.get("/posts")
@accepts(PostQuery(), location="query")
@returns(page_of(PostSchema))
def list_posts(query: dict[str, Any]) -> Page:
    """List posts.

    The newest come first. `author` picks those of one user.
    """
    return paginate(newest_posts(author=query.get("author")), query)


@posts.post("/posts")
@token_required
@accepts(PostCreateSchema())
@returns(PostSchema(), 201)
@fails(409)
def create_post(fields: dict[str, Any]) -> Any:
    """Publish a post.

    The answer's `Location` is where it can be read from now on.
    """
    post = Post(author=current_user(), **fields)
    db.session.add(post)
    db.session.commit()
    return post, {"Location": url_for(".get_post", post_id=post.id)}


@posts.get("/posts/<int:post_id>")
@returns(PostSchema())
def get_post(post_id: int) -> Post:
    """Get a post.

    Answers 404 once its author has deleted it.
    """
    return db.get_or_404(Post, post_id, options=[joinedload(Post.author)])


@posts.patch("/posts/<int:post_id>")
@token_required
@accepts(PostUpdateSchema())
@returns(PostSchema())
@fails(403)
def update_post(changes: dict[str, Any], post_id: int) -> Post:
    """Edit your post.

    Members that are left out stay as they are. If the text changes, `edited_at` says when.
    """
    post = db.get_or_404(Post, post_id, **FOR_UPDATE)
    ensure_author(post)
    post.update(changes)
    db.session.commit()
    return post


@posts.delete("/posts/<int:post_id>")
@token_required
@returns()
@fails(403)
def delete_post(post_id: int) -> None:
    """Delete your post.

    It is gone for good.
    """
    post = db.get_or_404(Post, post_id, **FOR_UPDATE)
    ensure_author(post)
    db.session.delete(post)
    db.session.commit()


@posts.get("/users/<username:username>/posts")
@accepts(PageQuery(), location="query")
@returns(page_of(PostSchema))
def list_user_posts(query: dict[str, Any], username: str) -> Page:
    """List a user's posts.

    The newest come first. The name may be given in any case.
    """
    return paginate(posts_by(db.first_or_404(user_named(username))), query)
