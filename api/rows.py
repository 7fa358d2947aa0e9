"""Lists: a schema becomes the select that reads just what it shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from flask import g
from marshmallow import Schema, fields, validate
from sqlalchemy import ColumnElement, Select, String, cast, func, literal, null, select
from sqlalchemy.engine import Row
from sqlalchemy.orm import Bundle

from api.database import db
from api.schema import Text, refusal

AnySelect: TypeAlias = Select[*tuple[Any, ...]]

# Kinds of field whose value in Python is their value in JSON.
PLAIN = (fields.String, fields.Integer, fields.Boolean)

JSON_OBJECT = {"sqlite": "json_object", "postgresql": "json_build_object"}
JSON_ARRAY = {"sqlite": "json_group_array", "postgresql": "json_agg"}


class Flag(fields.Boolean):
    """Whether something holds between a row and the caller, as the database says it.

    `condition` takes the caller's id and returns the condition on the row.
    """

    def __init__(self, condition: Callable[[int], ColumnElement[bool]], **kwargs: Any) -> None:
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
        model = type(obj)
        return db.session.scalar(select(Shown(self.schema, model, {})).where(model.id == obj.id))


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


class Shown(Bundle[Any]):
    """The columns that a schema shows; a row of them comes out as the dictionary that the schema dumps.

    A field is a column of the model, a relationship to another row (a nested schema) or to several (a list of
    them), what the statement computes under the field's name, or a part that the request may ask for.
    """

    def __init__(self, schema: Schema, model: type[Any], computed: Mapping[str, Any]) -> None:
        self.names = list(schema.dump_fields)
        self.converters: list[Callable[[Any], Any] | None] = []
        self.relationships: list[Any] = []
        columns: list[Any] = []
        for field_name, shown in schema.dump_fields.items():
            column: Any
            match shown:
                case Expandable():
                    column = Shown(shown.schema, model, {}) if shown.is_shown else null().label(field_name)
                case Flag():
                    column = shown.condition(caller_id() or 0).label(field_name)
                case fields.List(inner=fields.Nested() as inner):
                    column = _json_of(getattr(model, field_name), inner.schema).label(field_name)
                case fields.Nested():
                    relationship = getattr(model, field_name)
                    column = Shown(shown.schema, relationship.property.mapper.class_, {})
                    self.relationships += [relationship, *column.relationships]
                case _:
                    column = computed.get(field_name)
                    if column is None:
                        column = getattr(model, shown.attribute or field_name)
            columns.append(column)
            self.converters.append(_converter(shown))
        # SQLAlchemy keeps what it compiled by this name and the columns.
        super().__init__(type(schema).__name__, *columns)

    def create_row_processor(
        self,
        _query: Select[Any],
        procs: Sequence[Callable[[Row[Any]], Any]],
        _labels: Sequence[str],
    ) -> Callable[[Row[Any]], dict[str, Any]]:
        """Return the function that makes a dictionary of a row."""
        members = list(zip(self.names, procs, self.converters, strict=True))

        def dictionary(row: Row[Any]) -> dict[str, Any]:
            return {name: convert(read(row)) if convert else read(row) for name, read, convert in members}

        return dictionary


def caller_id() -> int | None:
    """Return the id of whoever calls, if they are signed in."""
    caller: int | None = g.get("user_id")
    return caller


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


def select_shown(statement: AnySelect, schema: Schema, *keys: Any) -> AnySelect:
    """Return the statement, which selects a model, changed to select what a schema shows, then the keys."""
    model, *computed = statement.column_descriptions
    shown = Shown(schema, model["entity"], {column["name"]: column["expr"] for column in computed})
    for relationship in shown.relationships:
        statement = statement.join(relationship)
    return statement.with_only_columns(shown, *keys, maintain_column_froms=True)


def read_shown(statement: AnySelect, schema: Schema) -> list[dict[str, Any]]:
    """Read what a statement selects, as a schema shows it."""
    return list(db.session.scalars(select_shown(statement, schema)))


def _json_of(relationship: Any, schema: Schema) -> ColumnElement[Any]:
    """Return a subquery that makes one JSON array of related rows, whose values must be plain ones."""
    database = db.engine.dialect.name
    model = relationship.property.mapper.class_
    members = [part for name in schema.dump_fields for part in (literal(name), getattr(model, name))]
    rows = select(getattr(func, JSON_OBJECT[database])(*members).label("row"))
    rows = rows.where(relationship.property.primaryjoin).order_by(*relationship.property.order_by)
    found = rows.correlate(relationship.parent).subquery()
    # Sorting makes SQLite forget that a text is JSON.
    row = func.json(found.c.row) if database == "sqlite" else found.c.row
    return select(cast(getattr(func, JSON_ARRAY[database])(row), String)).scalar_subquery()


def _converter(shown: fields.Field[Any]) -> Callable[[Any], Any] | None:
    if isinstance(shown, fields.List):
        return lambda value: orjson.loads(value or "[]")
    if isinstance(shown, (*PLAIN, fields.Nested)):
        return None
    return lambda value: shown._serialize(value, "", None)
