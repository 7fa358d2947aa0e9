"""Lists: a schema becomes the select that reads just what it shows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeAlias

import orjson
from flask import g
from marshmallow import Schema, fields, validate
from marshmallow.utils import get_value
from sqlalchemy import BigInteger, ColumnElement, Select, String, bindparam, cast, func, literal, select

from api.conditional import digest
from api.database import db
from api.schema import Text, refusal

AnySelect: TypeAlias = Select[*tuple[Any, ...]]

# Kinds of field whose value in Python is their value in JSON.
PLAIN = (fields.String, fields.Integer, fields.Boolean)

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
        model = type(obj)
        return read_shown(select(model).where(model.id == obj.id), self.schema)[0]


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
        return digest({name: members[name] for name in self._beside()})

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_kwargs: Any) -> str:  # noqa: ARG002
        """Return the tag of a single object."""
        beside = self._beside()
        return digest({name: shown.serialize(name, obj, get_value) for name, shown in beside.items()})

    def _beside(self) -> dict[str, fields.Field[Any]]:
        schema: Any = self.parent
        left_out = (ETag, Expandable)
        return {name: field for name, field in schema.dump_fields.items() if not isinstance(field, left_out)}


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
    """The columns that a schema shows, and how a row of them becomes the dictionary that the schema dumps.

    A field is a column of the model, a relationship to another row (a nested schema) or to several (a list of
    them), what the statement computes under the field's name, or a part that the request may ask for.
    """

    def __init__(self, schema: Schema, model: type[Any], computed: Mapping[str, Any]) -> None:
        self.columns: list[Any] = []
        self.relationships: list[Any] = []
        # For each field, what takes its value from a row's values that have not been taken yet.
        self.takers: list[tuple[str, Callable[[Iterator[Any]], Any]]] = []
        self.etag: ETag | None = None
        for name, shown in schema.dump_fields.items():
            take: Callable[[Iterator[Any]], Any] = next
            match shown:
                case ETag():
                    self.etag = shown
                    take = _nothing
                case Expandable() if not shown.is_shown:
                    take = _nothing
                case Expandable():
                    take = self._take_nested(Shown(shown.schema, model, {}))
                case Flag():
                    self.columns.append(shown.condition.label(name))
                case fields.List(inner=fields.Nested() as inner):
                    members = _json_of(getattr(model, name), inner.schema)
                    self.columns.append(members.label(name))
                    take = _take_json
                case fields.Nested():
                    relationship = getattr(model, name)
                    self.relationships.append(relationship)
                    take = self._take_nested(Shown(shown.schema, relationship.property.mapper.class_, {}))
                case _:
                    column = computed.get(name)
                    self.columns.append(getattr(model, shown.attribute or name) if column is None else column)
                    if not isinstance(shown, PLAIN):
                        take = partial(_take_serialized, shown)
            self.takers.append((name, take))

    def _take_nested(self, nested: "Shown") -> Callable[[Iterator[Any]], Any]:
        self.columns += nested.columns
        self.relationships += nested.relationships
        return nested.dictionary

    def dictionary(self, values: Iterator[Any]) -> dict[str, Any]:
        """Return what the schema shows of a row, given its values in the order of the columns."""
        members = {name: take(values) for name, take in self.takers}
        if self.etag:
            members["etag"] = self.etag.of(members)
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
    if computed:
        shown = Shown(schema, model["entity"], {column["name"]: column["expr"] for column in computed})
    else:
        shown = _shown(schema, model["entity"], g.get("expand"), caller_id() is None, _database())
    for relationship in shown.relationships:
        statement = statement.join(relationship)
    return statement.with_only_columns(*shown.columns, *keys, maintain_column_froms=True), shown


@cache
def _shown(schema: Schema, model: type[Any], *_of_the_request: object) -> Shown:
    """Return what a schema shows; made once for each kind of request that may have it differ."""
    return Shown(schema, model, {})


def read_shown(statement: AnySelect, schema: Schema) -> list[dict[str, Any]]:
    """Read what a statement selects, as a schema shows it."""
    statement, shown = select_shown(statement, schema)
    return [shown.dictionary(iter(row)) for row in db.session.execute(statement)]


def _database() -> str:
    return db.engine.dialect.name


def _json_of(relationship: Any, schema: Schema) -> ColumnElement[Any]:
    """Return a subquery that makes one JSON array of related rows, whose values must be plain ones."""
    database = _database()
    model = relationship.property.mapper.class_
    members = [part for name in schema.dump_fields for part in (literal(name), getattr(model, name))]
    rows = select(getattr(func, JSON_OBJECT[database])(*members).label("row"))
    rows = rows.where(relationship.property.primaryjoin).order_by(*relationship.property.order_by)
    found = rows.correlate(relationship.parent).subquery()
    # Sorting makes SQLite forget that a text is JSON.
    row = func.json(found.c.row) if database == "sqlite" else found.c.row
    return select(cast(getattr(func, JSON_ARRAY[database])(row), String)).scalar_subquery()


def _nothing(_values: Iterator[Any]) -> None:
    """Take no value."""


def _take_json(values: Iterator[Any]) -> Any:
    return orjson.loads(next(values) or "[]")


def _take_serialized(shown: fields.Field[Any], values: Iterator[Any]) -> Any:
    return shown._serialize(next(values), "", None)
