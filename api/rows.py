"""Reading: a schema becomes the select that reads just what it shows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, cast

import orjson
from flask import g
from marshmallow import Schema, fields, validate
from marshmallow.utils import get_value
from sqlalchemy import BigInteger, ColumnElement, String, bindparam, func, literal_column, select

from api.conditional import digest
from api.database import database_name
from api.prepared import AnySelect, Prepared, made_once, row_with
from api.schema import MomentField, Text, refusal

JSON_OBJECT = {"sqlite": "json_object", "postgresql": "json_build_object"}
JSON_ARRAY = {"sqlite": "json_group_array", "postgresql": "json_agg"}


def caller_id() -> int | None:
    """Return the id of whoever calls, if they are signed in."""
    caller: int | None = g.get("user_id")
    return caller


# Stands in statements for the id of whoever calls when they are executed.
CALLER_ID = bindparam("caller_id", type_=BigInteger(), callable_=caller_id)


class Flag(fields.Boolean):
    """Whether something holds between a row and the caller: a condition on the row and `CALLER_ID`."""

    def __init__(self, condition: ColumnElement[bool], **kwargs: Any) -> None:
        super().__init__(required=True, **kwargs)
        self.condition = condition


class Expandable(fields.Nested):
    """A part of a representation that is null unless the parameter `expand` names it.

    What depends on the caller (flags) is null for callers who are not signed in, too.
    """

    def __init__(self, nested: Schema, **kwargs: Any) -> None:
        super().__init__(nested, required=True, allow_none=True, **kwargs)
        self.has_flags = any(isinstance(shown, Flag) for shown in nested.fields.values())

    @property
    def is_shown(self) -> bool:
        """Whether this request gets it."""
        return self.name in g.get("expand", ()) and not (self.has_flags and caller_id() is None)

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_kwargs: Any) -> Any:  # noqa: ARG002
        """Return the part of a single object; flags are asked of the database."""
        if not self.is_shown:
            return None
        if not self.has_flags:
            return self.schema.dump(obj)
        return read_shown(row_with(obj.id, model=type(obj)), self.schema)[0]


class ETag(fields.String):
    """A digest of the members beside it, save those that may be expanded.

    Made of what is shown, it changes whenever that does, for whatever reason: a strong validator (RFC 9110,
    section 8.8.1), in quotes the `ETag` of the representation that has nothing expanded.
    """

    def __init__(self) -> None:
        super().__init__(
            required=True,
            metadata={
                "description": "Changes whenever another member does, save `counts` and `viewer`. In quotes, "
                "it is what `If-Match` takes.",
                "example": "Zt0Zk0uJ3tQ2nJt0",
            },
        )

    def of(self, members: Mapping[str, Any]) -> str:
        """Return the tag of members that have been serialised."""
        return digest([members[name] for name in self._beside])

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_kwargs: Any) -> str:  # noqa: ARG002
        """Return the tag of a single object."""
        schema: Any = self.parent
        return digest([schema.fields[name].serialize(name, obj, get_value) for name in self._beside])

    @cached_property
    def _beside(self) -> list[str]:
        schema: Any = self.parent
        left_out = (ETag, Expandable)
        return [name for name, field in schema.dump_fields.items() if not isinstance(field, left_out)]


class Expand(Text):
    """The parameter that asks for parts of a representation."""

    def __init__(self, names: Sequence[str]) -> None:
        text = ",".join(names)
        description = f"Parts to add, of {' and '.join(f'`{name}`' for name in names)}, separated by commas."
        super().__init__(
            validate=validate.Length(max=len(text)), metadata={"description": description, "example": text}
        )
        self.names = frozenset(names)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = frozenset(super()._deserialize(value, *args, **kwargs).split(","))
        if not wanted <= self.names:
            raise refusal("unknown_part", f"Choose from {', '.join(sorted(self.names))}.")
        return wanted


class Shown:
    """What a schema shows of a model: the columns to select, and how a row of them becomes a dictionary.

    A field is a column of the model, a relationship to another row (a nested schema) or to several (a list of
    them), what the statement computes under the field's name, or a part that the request may ask for.
    """

    def __init__(
        self, schema: Schema, model: type[Any], computed: Mapping[str, Any], columns: list[Any] | None = None
    ) -> None:
        self.columns = [] if columns is None else columns  # Those of nested schemas come after its own.
        self.relationships: list[Any] = []
        self._members: dict[str, Any] = dict.fromkeys(schema.dump_fields)
        self._names: list[str] = []  # Of the members that are columns,
        self._texts: list[str] = []  # and of those among them that are JSON.
        self._nested: list[tuple[str, Shown]] = []
        self._etag: ETag | None = None
        first = len(self.columns)
        for name, shown in schema.dump_fields.items():
            match shown:
                case ETag():
                    self._etag = shown
                case fields.Nested():
                    continue
                case _:
                    self.columns.append(_column(name, shown, model, computed))
                    self._names.append(name)
                    if isinstance(shown, fields.List):
                        self._texts.append(name)
        self._own = slice(first, len(self.columns))
        for name, shown in schema.dump_fields.items():
            match shown:
                case Expandable() if shown.is_shown:
                    self._nest(name, shown.schema, model)
                case fields.Nested() if not isinstance(shown, Expandable):
                    relationship = getattr(model, name)
                    self.relationships.append(relationship)
                    self._nest(name, shown.schema, relationship.property.mapper.class_)

    def _nest(self, name: str, schema: Schema, model: type[Any]) -> None:
        nested = Shown(schema, model, {}, self.columns)
        self.relationships += nested.relationships
        self._nested.append((name, nested))

    def dictionary(self, row: Sequence[Any]) -> dict[str, Any]:
        """Return what the schema shows of a row, which begins with the columns."""
        members = self._members.copy()
        members.update(zip(self._names, row[self._own], strict=True))
        for name in self._texts:
            members[name] = orjson.loads(members[name] or "[]")
        for name, nested in self._nested:
            members[name] = nested.dictionary(row)
        if self._etag:
            members["etag"] = self._etag.of(members)
        return members


def parts_of(schema: Schema) -> list[str]:
    """Return the names of what the parameter `expand` can add to a schema, or to what is within it."""
    parts: set[str] = set()
    for name, shown in schema.fields.items():
        match shown:
            case Expandable():
                parts.add(name)
            case fields.Nested():
                parts |= set(parts_of(shown.schema))
            case fields.List(inner=fields.Nested() as inner):
                parts |= set(parts_of(inner.schema))
    return sorted(parts)


def select_shown(statement: AnySelect, schema: Schema, *keys: Any) -> tuple[AnySelect, Shown]:
    """Return a statement, which selects a model, changed to select what a schema shows, then the keys."""
    model, *computed = statement.column_descriptions
    shown = Shown(schema, model["entity"], {column["name"]: column["expr"] for column in computed})
    for relationship in shown.relationships:
        statement = statement.join(relationship)
    return statement.with_only_columns(*shown.columns, *keys, maintain_column_froms=True), shown


def shape_of_request() -> tuple[object, ...]:
    """Return all of a request that decides what a schema shows to it: a key to keep what is made for it."""
    return g.get("expand"), caller_id() is None, database_name()


def read_shown(selected: Prepared, schema: Schema) -> list[dict[str, Any]]:
    """Read what a statement selects, as a schema shows it."""
    statement, shown = _made_shown(selected.statement, schema, shape_of_request())
    return [shown.dictionary(row) for row in Prepared(statement, selected.values).rows()]


@made_once
def _made_shown(statement: AnySelect, schema: Schema, _shape: object) -> tuple[AnySelect, Shown]:
    return select_shown(statement, schema)


def _column(
    name: str, shown: fields.Field[Any], model: type[Any], computed: Mapping[str, Any]
) -> ColumnElement[Any]:
    """Return what is selected for a field: its value as JSON has it, or the text of it."""
    if isinstance(shown, Flag):
        return shown.condition.label(name)
    if name in computed:
        return cast("ColumnElement[Any]", computed[name])
    column: Any = getattr(model, shown.attribute or name)
    match shown:
        case MomentField():
            return _text_of(column).label(name)
        case fields.List(inner=fields.Nested() as inner):
            return _json_of(column, inner.schema).label(name)
    return cast("ColumnElement[Any]", column)


def _text_of(moment: ColumnElement[datetime]) -> ColumnElement[str]:
    """Return how a `MomentField` writes a moment, made by the database: Python takes longer."""
    if database_name() == "postgresql":
        utc = func.timezone(_constant("UTC"), moment)
        return func.to_char(utc, _constant('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), type_=String)
    date = func.substr(moment, literal_column("1"), literal_column("10"), type_=String)
    time = func.substr(moment, literal_column("12"), literal_column("12"), type_=String)
    return date + _constant("T") + time + _constant("Z")


def _json_of(relationship: Any, schema: Schema) -> ColumnElement[str]:
    """Return a subquery that makes one JSON array of related rows, whose values must be plain ones."""
    database = database_name()
    model = relationship.property.mapper.class_
    members = [part for name in schema.dump_fields for part in (_constant(name), getattr(model, name))]
    rows = select(getattr(func, JSON_OBJECT[database])(*members).label("row"))
    rows = rows.where(relationship.property.primaryjoin).order_by(*relationship.property.order_by)
    found = rows.correlate(relationship.parent).subquery()
    # Sorting makes SQLite forget that a text is JSON.
    row = func.json(found.c.row) if database == "sqlite" else found.c.row
    return select(getattr(func, JSON_ARRAY[database])(row).cast(String)).scalar_subquery()


def _constant(text: str) -> ColumnElement[str]:
    return literal_column(f"'{text}'", String)
