"""Compiles a schema to SQL expressions that return the same JSON as `Schema.dump` and orjson."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from marshmallow import Schema, fields
from sqlalchemy import Boolean, ColumnElement, Integer, String, case, func, literal_column, select

from api.db import database_name
from api.schemas import Context, ETag, Expandable, UTCDateTimeField, ViewerFlag
from api.schemas.fields import DIGEST_LENGTH, tagged_fields

# The fields that can be compiled. Subclasses may override validation, but not serialization.
SUPPORTED = (fields.String, fields.Integer, fields.Boolean, UTCDateTimeField)


class JSONTemplate(NamedTuple):
    """JSON with `%s` in place of values, and the SQL expressions of these values as JSON."""

    text: str
    values: tuple[ColumnElement[str], ...] = ()

    @classmethod
    def joined(cls, templates: Iterable["JSONTemplate"]) -> "JSONTemplate":
        """Return one template of several, with commas between them."""
        parts = list(templates)
        values = tuple(chain.from_iterable(part.values for part in parts))
        return cls(",".join(part.text for part in parts), values)

    def expression(self) -> ColumnElement[str]:
        """Return the SQL expression of the JSON with its values."""
        if not self.values:
            return _constant(self.text)
        fill = func.printf if database_name() == "sqlite" else func.format
        return fill(_constant(self.text), *self.values, type_=String)


class CompiledSchema:
    """The SQL expressions of one row's members, and the relationships that have to be joined for them.

    In an object with an `ETag`, the members that the tag covers precede it, and expandable members follow it.
    """

    def __init__(self, schema: Schema, model: type[Any], context: Context) -> None:
        self._context = context
        self.joins: list[Any] = []
        self.has_etag = _has_etag(schema)
        self.covered = self._members(tagged_fields(schema), model).expression()
        others = self._members(_expandable_fields(schema), model)
        self.others = JSONTemplate(others.text and f",{others.text}", others.values).expression()

    def _object(self, schema: Schema, model: type[Any]) -> JSONTemplate:
        """Return the template of a nested object."""
        members = self._members(tagged_fields(schema), model)
        if not _has_etag(schema):
            return JSONTemplate(f"{{{members.text}}}", members.values)
        others = self._members(_expandable_fields(schema), model)
        etag = JSONTemplate('"etag":"%s"', (_digest(members.expression()),))
        members = JSONTemplate.joined(filter(_has_text, (members, etag, others)))
        return JSONTemplate(f"{{{members.text}}}", members.values)

    def _members(self, members: Mapping[str, fields.Field[Any]], model: type[Any]) -> JSONTemplate:
        return JSONTemplate.joined(self._member(name, field, model) for name, field in members.items())

    def _member(self, name: str, field: fields.Field[Any], model: type[Any]) -> JSONTemplate:
        try:
            value = self._value(name, field, model)
        except (AttributeError, TypeError) as error:
            raise TypeError(f"{type(field.parent).__name__}.{name}: {error}") from None
        return JSONTemplate(f'"{field.data_key or name}":{value.text}', value.values)

    def _value(self, name: str, field: fields.Field[Any], model: type[Any]) -> JSONTemplate:
        match field:
            case Expandable():
                is_expanded = field.is_expanded(self._context)
                return self._object(field.schema, model) if is_expanded else JSONTemplate("null")
            case fields.Nested():
                relationship = _required(getattr(model, field.attribute or name))
                self.joins.append(relationship)
                return self._object(field.schema, relationship.property.mapper.class_)
            case fields.List(inner=fields.Nested() as inner):
                rows = self._rows(getattr(model, field.attribute or name), inner.schema)
                return JSONTemplate("[%s]", (rows,))
            case ViewerFlag():
                return JSONTemplate("%s", (_json(field.condition),))
        if not any(type(field)._serialize is each._serialize for each in SUPPORTED):
            raise TypeError(f"fields of type {type(field).__name__} cannot be compiled to SQL")
        column = _column(model, field.attribute or name)
        if isinstance(field, UTCDateTimeField):
            column = _text(column)
        return JSONTemplate("%s", (_json(column),))

    def _rows(self, relationship: Any, schema: Schema) -> ColumnElement[str]:
        """Return a subquery of the JSON of related rows in their order, with commas between them."""
        row = self._object(schema, relationship.property.mapper.class_).expression()
        rows = select(row.label("row")).where(relationship.property.primaryjoin)
        found = rows.order_by(*relationship.property.order_by).correlate(relationship.parent).subquery()
        separator: Any = _constant(",")
        return select(func.aggregate_strings(found.c.row, separator)).scalar_subquery()


def _has_etag(schema: Schema) -> bool:
    return any(isinstance(field, ETag) for field in schema.dump_fields.values())


def _has_text(template: JSONTemplate) -> bool:
    return bool(template.text)


def _expandable_fields(schema: Schema) -> dict[str, fields.Field[Any]]:
    """Return a schema's expandable fields. Raises TypeError if a field that the tag covers follows them."""
    names = list(schema.dump_fields)
    for name in tagged_fields(schema):
        if names.index(name) > len(tagged_fields(schema)) - 1:
            raise TypeError(f"{type(schema).__name__}.{name}: must come before `etag` and expandable fields")
    return {name: field for name, field in schema.dump_fields.items() if isinstance(field, Expandable)}


def _required(relationship: Any) -> Any:
    """Return a relationship to a row that always exists, so that it can be joined."""
    if any(column.nullable for column in relationship.property.local_columns):
        raise TypeError("the related row may be missing, which cannot be compiled to SQL")
    return relationship


def _column(model: type[Any], path: str) -> Any:
    """Return a column of a model, or of a related row (`user.username`; null if there is none)."""
    first, _, rest = path.partition(".")
    attribute = getattr(model, first)
    if not rest:
        return attribute
    target = _column(attribute.property.mapper.class_, rest)
    return select(target).where(attribute.property.primaryjoin).correlate(model).scalar_subquery()


def _json(value: Any) -> ColumnElement[str]:
    """Return the expression of a value as JSON."""
    if database_name() == "postgresql":
        json = value if isinstance(value.type, Integer) else func.to_json(value)
        # `format` takes values of all types.
        return func.coalesce(json.cast(String), _constant("null")) if _is_nullable(value) else json
    if isinstance(value.type, Boolean):
        return case((value, _constant("true")), else_=_constant("false"))
    if isinstance(value.type, Integer):  # Cheaper than json_quote.
        return func.coalesce(value, _constant("null"), type_=String)
    return func.json_quote(value, type_=String)


def _is_nullable(value: Any) -> bool:
    """Whether a value can be null; columns know it."""
    return getattr(value, "nullable", True)


def _text(value: ColumnElement[datetime]) -> ColumnElement[str]:
    """Return the expression of a datetime in the format of `UTCDateTimeField`."""
    if database_name() == "postgresql":
        utc = func.timezone(_constant("UTC"), value)
        return func.to_char(utc, _constant('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), type_=String)
    date = func.substr(value, literal_column("1"), literal_column("10"), type_=String)
    time = func.substr(value, literal_column("12"), literal_column("12"), type_=String)
    return date + _constant("T") + time + _constant("Z")


def _digest(value: ColumnElement[str]) -> ColumnElement[str]:
    """Return the expression of `api.schemas.fields.digest` for a text."""
    if database_name() == "sqlite":
        return func.digest(value, type_=String)  # Registered by the renderer.
    sha256 = func.encode(func.sha256(func.convert_to(value, _constant("UTF8"))), _constant("hex"))
    return func.substr(sha256, literal_column("1"), literal_column(str(DIGEST_LENGTH)), type_=String)


def _constant(text: str) -> ColumnElement[str]:
    """Return the expression of a constant text, which must not contain single quotes."""
    return literal_column(f"'{text}'", String)
