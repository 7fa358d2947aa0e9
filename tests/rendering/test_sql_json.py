"""The SQL-JSON renderer: the schemas that it compiles, and those that it refuses."""

from typing import Any

import pytest
from flask import Flask
from marshmallow import fields
from marshmallow_sqlalchemy import auto_field
from sqlalchemy import Select, select

from api.models import Entity, Like, Post
from api.posts.schemas import PostSchema
from api.rendering.descriptions import query
from api.rendering.reference import ReferenceRenderer
from api.rendering.sql_json import SQLJSONRenderer
from api.schemas.base import BaseSchema
from api.schemas.context import Context
from api.schemas.fields import ETag
from api.users.schemas import AuthorSchema
from tests.support.databases import on_sqlite
from tests.support.factories import Factory
from tests.support.renderers import needs_sql_json

pytestmark = needs_sql_json


class LikeSchema(BaseSchema):
    """A like, which nests a post and so its tag."""

    class Meta:
        model = Like

    id = auto_field()
    post = fields.Nested(PostSchema())


class Shout(fields.String):
    """A field that serializes in its own way."""

    def _serialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        return value.upper()


class ShoutSchema(BaseSchema):
    """A post in upper case."""

    class Meta:
        model = Post

    body = Shout()


class LateSchema(BaseSchema):
    """A post with a field behind its tag."""

    class Meta:
        model = Post

    etag = ETag()
    body = auto_field()


class MentionSchema(BaseSchema):
    """An entity with its user, whom a hashtag does not have."""

    class Meta:
        model = Entity

    user = fields.Nested(AuthorSchema())


@query
def all_likes() -> Select[Like]:
    """Return all likes."""
    return select(Like)


@pytest.mark.parametrize("expand", [frozenset[str](), frozenset({"counts", "viewer"})])
def test_nests_objects_with_tags(app: Flask, make: Factory, expand: frozenset[str]) -> None:
    user = make.user()
    make.like(user, make.post(body='Hello, "world".'))
    context = Context(expand, user.id)

    with app.app_context():
        compiled, reference = (
            renderer.read(all_likes(), LikeSchema(), context)
            for renderer in (SQLJSONRenderer(), ReferenceRenderer())
        )

    assert compiled == reference
    assert b'"etag":' in compiled[0].json


def test_the_reference_renderer_accepts_fields_that_serialize_in_their_own_way() -> None:
    ReferenceRenderer().check(ShoutSchema(), Post)

    assert ShoutSchema().dump(Post(body="Hello.")) == {"body": "HELLO."}


@on_sqlite
@pytest.mark.parametrize(
    ("schema", "model", "message"),
    [
        (ShoutSchema, Post, r"ShoutSchema\.body: fields of type Shout cannot be compiled to SQL"),
        (LateSchema, Post, r"LateSchema\.body: must come before"),
        (MentionSchema, Entity, r"MentionSchema\.user: the related row may be missing"),
    ],
)
def test_refuses_a_schema_and_names_the_field(
    migrated_app: Flask, schema: type[BaseSchema], model: type[Any], message: str
) -> None:
    with migrated_app.app_context(), pytest.raises(TypeError, match=message):
        SQLJSONRenderer().check(schema(), model)
