"""How posts are shown, and what it takes to write one."""

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import EXCLUDE, fields, validate
from marshmallow_sqlalchemy import auto_field
from sqlalchemy import exists
from sqlalchemy.orm import aliased

from api.converters import LARGEST_ID
from api.models import Entity, Like, Post
from api.pagination import PageQuery, page_of
from api.rows import CALLER_ID, ETag, Expandable, Flag
from api.schema import BaseSchema, Text
from api.users.schemas import AuthorSchema

BODY = {
    "description": "The text: 1 to 140 code points after NFC normalisation, not blank.",
    "minLength": 1,
    "example": "The first snowdrops are out. #garden",
}


class PostCountsSchema(BaseSchema):
    """What strangers make of a post."""

    class Meta:
        model = Post
        unknown = EXCLUDE

    like_count = auto_field(required=True, metadata={"description": "How many users like it.", "example": 3})
    reply_count = auto_field(
        required=True, metadata={"description": "How many replies it has.", "example": 1}
    )


TheirLike = aliased(Like)


class PostViewerSchema(BaseSchema):
    """What a post and the caller are to each other."""

    class Meta:
        unknown = EXCLUDE

    liked = Flag(
        exists().where(TheirLike.user_id == CALLER_ID, TheirLike.post_id == Post.id),
        metadata={"description": "Whether you like it.", "example": True},
    )


class EntitySchema(BaseSchema):
    """A place in a post's text that a reader can follow: a hashtag or the mention of a user."""

    class Meta:
        model = Entity
        unknown = EXCLUDE

    start = auto_field(
        required=True,
        metadata={"format": "int32", "description": "Code points before it.", "example": 29},
    )
    end = auto_field(
        required=True,
        metadata={"format": "int32", "description": "Code points up to its end.", "example": 36},
    )
    tag = auto_field(
        required=True,
        metadata={"description": "What to ask `GET /posts?tag=` for; null if a user.", "example": "garden"},
    )
    username = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "What the user is called now; null if a hashtag.", "example": None},
    )


class PostSchema(BaseSchema):
    """A post, the same for every reader."""

    class Meta:
        model = Post
        unknown = EXCLUDE

    id = auto_field(required=True, metadata={"description": "Id of the post.", "example": 42})
    body = auto_field(required=True, metadata=BODY)
    timestamp = auto_field(
        required=True,
        metadata={"description": "When it was published.", "example": "2026-11-22T10:00:00.000Z"},
    )
    edited_at = auto_field(
        required=True,
        metadata={
            "description": "When its text was last changed; null if never.",
            "example": None,
        },
    )
    author = fields.Nested(AuthorSchema(), required=True, metadata={"description": "Who wrote it."})
    is_reply = auto_field(
        required=True, metadata={"description": "Whether it answers a post.", "example": True}
    )
    in_reply_to_id = auto_field(
        required=True,
        metadata={
            "description": "Id of the post that it answers; null if it answers none, or if that is gone.",
            "example": 41,
        },
    )
    entities = fields.List(
        fields.Nested(EntitySchema()),
        required=True,
        metadata={"description": "The hashtags and mentions in the text, in their order."},
    )
    etag = ETag()
    counts = Expandable(
        PostCountsSchema(), metadata={"description": "Only with `expand=counts`; otherwise null."}
    )
    viewer = Expandable(
        PostViewerSchema(),
        metadata={"description": "Only with `expand=viewer`, for who is signed in; otherwise null."},
    )


class ThreadSchema(BaseSchema):
    """A post in its conversation."""

    class Meta:
        unknown = EXCLUDE

    ancestors = fields.List(
        fields.Nested(PostSchema()),
        required=True,
        metadata={"description": "What it answers, what that answers and so on; the oldest first."},
    )
    post = fields.Nested(PostSchema(), required=True, metadata={"description": "The post."})
    replies = fields.Nested(
        page_of(PostSchema),
        required=True,
        metadata={"description": "The first page of `GET /posts/{post_id}/replies`."},
    )

    def dump(self, obj: Mapping[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Read the page of replies; the posts have been read as they are shown."""
        return {
            "ancestors": [orjson.Fragment(post.json) for post in obj["ancestors"]],
            "post": orjson.Fragment(obj["post"].json),
            "replies": page_of(PostSchema).dump(obj["replies"]),
        }


class PostCreateSchema(BaseSchema):
    """What it takes to publish a post."""

    class Meta:
        model = Post

    body = auto_field(required=True, metadata=BODY)
    in_reply_to_id = auto_field(
        required=False,
        allow_none=False,
        validate=validate.Range(1, LARGEST_ID),
        metadata={"description": "Id of the post that this one answers, if any.", "example": 41},
    )


class PostUpdateSchema(BaseSchema):
    """What to change of a post: only the members that are sent (RFC 7396)."""

    class Meta:
        model = Post

    body = auto_field(required=False, metadata=BODY)


class PostQuery(PageQuery):
    """Which posts to list."""

    author = Text(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only posts of the user with this name, whatever its case; nobody's if "
            "there is no such user.",
            "example": "ann",
        },
    )
    q = Text(
        validate=validate.Length(max=140),
        metadata={
            "description": "Only posts with all these words, whatever their case and accents; "
            '`"words in quotes"` must follow each other, `snow*` finds what begins so.',
            "example": 'snow* "are out"',
        },
    )
    tag = Text(
        validate=validate.Length(max=140),
        metadata={
            "description": "Only posts with this hashtag, whatever its case and accents; the `#` may be "
            "left out.",
            "example": "garden",
        },
    )
    mentions = Text(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only posts that mention the user with this name, whatever its case.",
            "example": "ann",
        },
    )
