"""The reference renderer: ORM objects, eager loading, `Schema.dump`. Other renderers must return the same."""

from collections.abc import Iterator
from typing import Any

import orjson
from marshmallow import Schema, fields
from sqlalchemy.orm import Load

from api.db import db
from api.rendering.descriptions import Query
from api.rendering.pagination import Window, seek
from api.rendering.renderer import Item
from api.schemas.context import Context, DumpContext
from api.schemas.fields import Expandable


class ReferenceRenderer:
    """Reads rows as ORM objects and dumps them with their schema."""

    def read(
        self, query: Query[Any], schema: Schema, context: Context, window: Window | None = None
    ) -> list[Item]:
        """Read the rows of a query, or those in a window, serialized by a schema."""
        statement = query.select()
        [model] = [described["entity"] for described in statement.column_descriptions]
        if window:
            statement = seek(
                statement, window.key, upwards=window.upwards, anchor=window.anchor, rows=window.rows
            ).add_columns(window.key)
        statement = statement.options(*eager_loads(schema, model, Load(model)))
        with DumpContext(context):
            return [self._item(schema, *row) for row in db.session.execute(statement)]

    def _item(self, schema: Schema, instance: object, key: int | str | None = None) -> Item:
        dumped: dict[str, Any] = schema.dump(instance)
        return Item(orjson.dumps(dumped), dumped.get("etag"), key)

    def check(self, schema: Schema, model: type[Any]) -> None:
        """Accept every schema."""


def eager_loads(schema: Schema, model: type[Any], parent: Load) -> Iterator[Load]:
    """Yield the options that load a schema's nested objects together with the rows of its model.

    `parent` is the option that loads these rows.
    """
    for name, field in schema.dump_fields.items():
        path = (field.attribute or name).split(".")
        nested: Any = field.inner if isinstance(field, fields.List) else field
        if isinstance(field, Expandable) or not (isinstance(nested, fields.Nested) or len(path) > 1):
            continue
        relationship = getattr(model, path[0])
        eagerly = parent.selectinload if isinstance(field, fields.List) else parent.joinedload
        load = eagerly(relationship)
        yield load
        if isinstance(nested, fields.Nested):
            yield from eager_loads(nested.schema, relationship.property.mapper.class_, load)
