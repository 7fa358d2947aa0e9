"""How posts are shown, and what it takes to write one."""

from marshmallow import EXCLUDE, fields, validate
from marshmallow_sqlalchemy import auto_field

from api.models import Post
from api.pagination import PageQuery
from api.schema import BaseSchema, Text
from api.users.schemas import AuthorSchema

BODY = {
    "description": "The text: 1 to 140 code points after NFC normalisation, not blank.",
    "minLength": 1,
    "example": "The first snowdrops are out.",
}


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


class PostCreateSchema(BaseSchema):
    """What it takes to publish a post."""

    class Meta:
        model = Post

    body = auto_field(required=True, metadata=BODY)


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
