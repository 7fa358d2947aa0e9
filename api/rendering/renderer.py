"""Descriptions to JSON: the interface of a renderer, and the code that both renderers share."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, cast

import orjson
from flask import Flask, abort, current_app
from marshmallow import Schema, fields
from werkzeug.utils import import_string

from api.config import RENDERERS
from api.db import db
from api.rendering.descriptions import Composite, Query, Row, Rows
from api.rendering.pagination import Page, Window
from api.schemas.context import Context, DumpContext
from api.schemas.fields import Expandable
from api.web.operation import operation_of


class Item(NamedTuple):
    """One row as JSON, the value of its member `etag`, and the value of the window's key."""

    json: bytes
    etag: str | None
    key: int | str | None = None


class Representation(NamedTuple):
    """The JSON of a response, the value of its member `etag`, and the cursors of neighbouring pages."""

    json: bytes
    etag: str | None = None
    cursors: Mapping[str, str | None] = {}


class Renderer(Protocol):
    """Reads rows as JSON. All renderers return the same bytes."""

    def read(
        self, query: Query[Any], schema: Schema, context: Context, window: Window | None = None
    ) -> list[Item]:
        """Read the rows of a query, or those in a window, serialized by a schema."""

    def check(self, schema: Schema, model: type[Any]) -> None:
        """Raise TypeError, naming the field, if the renderer cannot serialize a model by a schema."""


def init_app(app: Flask) -> None:
    """Create the renderer that the setting `RENDERER` names, and check it with the schemas of all responses.

    Raises TypeError, naming the field, for a schema that it does not support.
    """
    with app.app_context():
        renderer: Renderer = import_string(RENDERERS[app.config["RENDERER"]])()
        responses = [operation_of(view).response for view in app.view_functions.values()]
        schemas = {type(schema): schema for each in responses if each for schema in schemas_of_rows(each)}
        for schema in schemas.values():
            renderer.check(schema, schema.opts.model)
    app.extensions["renderer"] = renderer


def current_renderer() -> Renderer:
    """Return the application's renderer."""
    return cast("Renderer", current_app.extensions["renderer"])


def represent(result: object, schema: Schema, context: Context) -> Representation:
    """Return the representation of a route's result: a description, or an object to dump.

    Responds with 404 if a described row does not exist.
    """
    match result:
        case Row(query):
            items = current_renderer().read(query, schema, context) or abort(404)
            return Representation(items[0].json, items[0].etag)
        case Rows(query):
            items = current_renderer().read(query, schema, context)
            return Representation(b"[%b]" % b",".join(item.json for item in items))
        case Page():
            return _page(result, schema, context)
        case Composite(members):
            parts = {
                name: represent(member, nested_schema(schema.fields[name]), context).json
                for name, member in members.items()
            }
            return Representation(_object(parts))
        case _:
            with DumpContext(context):
                dumped: dict[str, Any] = schema.dump(result)
            return Representation(orjson.dumps(dumped), dumped.get("etag"))


def nested_schema(field: fields.Field[Any]) -> Any:
    """Return the schema of a nested field, or of a list of nested fields; None for other fields."""
    nested = field.inner if isinstance(field, fields.List) else field
    return nested.schema if isinstance(nested, fields.Nested) else None


def schemas_of_rows(schema: Schema) -> Iterator[Schema]:
    """Yield the schema if it has a model, else the schemas nested in it that have one."""
    if getattr(schema.opts, "model", None):
        yield schema
    else:
        for field in schema.dump_fields.values():
            if nested := nested_schema(field):
                yield from schemas_of_rows(nested)


def expandable_parts(schema: Schema) -> list[str]:
    """Return the names of the expandable parts of a schema and of the schemas nested in it."""
    parts: set[str] = set()
    for name, member in schema.dump_fields.items():
        if isinstance(member, Expandable):
            parts.add(name)
        elif nested := nested_schema(member):
            parts |= set(expandable_parts(nested))
    return sorted(parts)


def _page(page: Page, schema: Schema, context: Context) -> Representation:
    window = page.window
    items = current_renderer().read(page.query, nested_schema(schema.fields["items"]), context, window)
    if items:
        items, has_next = window.page(items)
        cursors = window.cursors(items[0].key, items[-1].key, has_next=has_next)
    else:
        if page.parent:
            db.first_or_404(page.parent.select())
        cursors = window.cursors_of_empty_page()
    parts = {"items": b"[%b]" % b",".join([item.json for item in items])}
    parts |= {name: orjson.dumps(cursor) for name, cursor in cursors.items()}
    return Representation(_object(parts), cursors=cursors)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), json) for name, json in members.items())
