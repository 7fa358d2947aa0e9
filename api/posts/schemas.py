"""Representations of posts, and the input for writing them."""

from marshmallow import fields, validate
from marshmallow_sqlalchemy import auto_field
from marshmallow_sqlalchemy.schema import SQLAlchemyAutoField
from sqlalchemy import exists

from api.db.types import LARGEST_ID
from api.models import Entity, Like, Post
from api.rendering.pagination import PageQuery, page_of
from api.schemas.base import BaseSchema, RepresentationSchema
from api.schemas.context import VIEWER_ID
from api.schemas.fields import ETag, Expandable, MultilineText, Text, TrimmedText, ViewerFlag
from api.users.schemas import AuthorSchema

BODY = {
    "description": "The text: 1 to 140 code points after NFC normalization, at least one of them visible. "
    "Line ends are LF; CRLF, CR, U+2028 and U+2029 become LF before the text is counted.",
    "minLength": 1,
    "example": "The first snowdrops are out. #garden",
}


class PostCountsSchema(RepresentationSchema):
    """Counts of likes and replies."""

    class Meta:
        model = Post

    like_count = auto_field(required=True, metadata={"description": "Number of likes.", "example": 3})
    reply_count = auto_field(required=True, metadata={"description": "Number of replies.", "example": 1})


class PostViewerSchema(RepresentationSchema):
    """The relation between a post and the caller."""

    liked = ViewerFlag(
        exists().where(Like.user_id == VIEWER_ID, Like.post_id == Post.id).correlate(Post),
        metadata={"description": "Whether you like it.", "example": True},
    )


def position_field(description: str, example: int) -> SQLAlchemyAutoField:
    """Declare a field for a position in a post's text."""
    return auto_field(
        required=True, metadata={"format": "int32", "description": description, "example": example}
    )


class EntitySchema(RepresentationSchema):
    """A hashtag, or the mention of a user, in a post's text."""

    class Meta:
        model = Entity

    start = position_field("Number of code points before it.", 29)
    end = position_field("Number of code points up to its end.", 36)
    tag = auto_field(
        required=True,
        metadata={
            "description": "The value for `GET /posts?tag=`; null for a mention.",
            "example": "garden",
        },
    )
    username = fields.String(
        attribute="user.username",
        dump_default=None,
        required=True,
        allow_none=True,
        metadata={"description": "The user's current username; null for a hashtag.", "example": None},
    )


class URLEntitySchema(RepresentationSchema):
    """A URL in a post's text."""

    class Meta:
        model = Entity

    start = position_field("Number of code points before it.", 0)
    end = position_field("Number of code points up to its end.", 11)
    url = auto_field(
        required=True,
        allow_none=False,
        metadata={
            "description": "The URI to link to, with the scheme `http` or `https`: the URL as written, with "
            "`https://` added if it has no scheme, an internationalized domain in its ASCII form, and other "
            "characters percent-encoded.",
            "format": "uri",
            "example": "https://example.com",
        },
    )


class PostSchema(RepresentationSchema):
    """A post."""

    class Meta:
        model = Post

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
    author = fields.Nested(AuthorSchema(), required=True, metadata={"description": "The author."})
    is_reply = auto_field(required=True, metadata={"description": "Whether it is a reply.", "example": True})
    in_reply_to_id = auto_field(
        required=True,
        metadata={
            "description": "Id of the post that it replies to; null if it is not a reply, or if that post "
            "was deleted.",
            "example": 41,
        },
    )
    entities = fields.List(
        fields.Nested(EntitySchema()),
        required=True,
        metadata={
            "description": "The hashtags and mentions in the text, in their order. Nothing within a URL or "
            "an email address is one."
        },
    )
    urls = fields.List(
        fields.Nested(URLEntitySchema()),
        required=True,
        metadata={
            "description": "The URLs in the text, in their order. They overlap neither each other nor "
            "`entities`."
        },
    )
    # Covers all members except the expandable ones. Other fields must be declared before it.
    etag = ETag()
    counts = Expandable(PostCountsSchema(), metadata={"description": "Null without `expand=counts`."})
    viewer = Expandable(
        PostViewerSchema(),
        metadata={"description": "Null without `expand=viewer`, or if you are not signed in."},
    )


class PostThreadSchema(RepresentationSchema):
    """A post in its conversation."""

    ancestors = fields.List(
        fields.Nested(PostSchema()),
        required=True,
        metadata={
            "description": "The post that it replies to, the post that this one replies to, and so on; "
            "oldest first."
        },
    )
    post = fields.Nested(PostSchema(), required=True, metadata={"description": "The post."})
    replies = fields.Nested(
        page_of(PostSchema),
        required=True,
        metadata={"description": "The first page of `GET /posts/{post_id}/replies`."},
    )


class PostCreateSchema(BaseSchema):
    """The input for publishing a post."""

    class Meta:
        model = Post

    body = auto_field(field_class=MultilineText, required=True, metadata=BODY)
    in_reply_to_id = auto_field(
        required=False,
        allow_none=False,
        validate=validate.Range(1, LARGEST_ID),
        metadata={"description": "Id of the post that this one replies to, if any.", "example": 41},
    )


class PostUpdateSchema(BaseSchema):
    """Changes to a post. Members that are not sent stay unchanged (RFC 7396)."""

    class Meta:
        model = Post

    body = auto_field(field_class=MultilineText, required=False, metadata=BODY)


class PostQuery(PageQuery):
    """The query parameters of the list of posts."""

    author = TrimmedText(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only posts by the user with this username, regardless of case and of white space "
            "around it.",
            "example": "ann",
        },
    )
    q = Text(
        validate=validate.Length(max=140),
        metadata={
            "description": "Only posts with all these words, regardless of case, accents and vowel points; "
            "`\u0142` is found as `l`, `\u00e6` as `ae`. "
            '`"words in quotes"` match as a phrase; `snow*` matches words that begin with it. '
            "In scripts without spaces, such as Thai and Japanese, a word is found anywhere in a sentence.",
            "example": 'snow* "are out"',
        },
    )
    tag = Text(
        validate=validate.Length(max=140),
        metadata={
            "description": "Only posts with this hashtag, compared like the words of `q`; `#` is optional.",
            "example": "garden",
        },
    )
    mentions = TrimmedText(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only posts that mention the user with this username, regardless of case and of "
            "white space around it.",
            "example": "ann",
        },
    )
