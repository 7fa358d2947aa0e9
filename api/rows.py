"""Reading: a schema becomes the select whose rows are the JSON that it shows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import orjson
from flask import abort, has_request_context
from marshmallow import Schema, fields, validate
from marshmallow.utils import get_value
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    String,
    bindparam,
    case,
    func,
    literal_column,
    select,
)

from api.conditional import digest
from api.database import database_name
from api.messages import current_request
from api.prepared import AnySelect, Prepared, made_once, row_with
from api.schema import MomentField, Shown, Text, refusal

# What stands between lines, and between the parts of one: JSON has neither, but for what it escapes.
LINE_END, TAB = "\n", "\t"


def caller_id() -> int | None:
    """Return the id of whoever calls, if they are signed in."""
    return current_request().user_id if has_request_context() else None


def parts_asked_for() -> frozenset[str]:
    """Return the names of the parts that the request asks for."""
    return current_request().expand if has_request_context() else frozenset()


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
        return self.name in parts_asked_for() and not (self.has_flags and caller_id() is None)

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_kwargs: Any) -> Any:  # noqa: ARG002
        """Return the part of a single object; flags are asked of the database."""
        if not self.is_shown:
            return None
        if not self.has_flags:
            return self.schema.dump(obj)
        shown, *_ = read_shown(row_with(obj.id, model=type(obj)), self.schema) or abort(404)
        return orjson.Fragment(shown.json)


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
                "example": "66dd19934b89ded40e3a1c1b",
            },
        )

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_kwargs: Any) -> str:  # noqa: ARG002
        """Return the tag of a single object."""
        schema: Any = self.parent
        members = {name: shown.serialize(name, obj, get_value) for name, shown in _beside_tag(schema).items()}
        return digest(orjson.dumps(members)[1:-1])


def _beside_tag(schema: Schema) -> dict[str, fields.Field[Any]]:
    """Return the fields that a schema's tag is made of, or would be."""
    left_out = (ETag, Expandable)
    return {name: shown for name, shown in schema.dump_fields.items() if not isinstance(shown, left_out)}


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


class Template(NamedTuple):
    """JSON with `%s` where values belong, and what selects the JSON of these."""

    text: str
    values: Sequence[ColumnElement[Any]] = ()

    @classmethod
    def joined(cls, between: str, templates: Iterable["Template"]) -> "Template":
        """Return one template of several."""
        parts = list(templates)
        values = chain.from_iterable(part.values for part in parts)
        return cls(between.join(part.text for part in parts), list(values))

    def filled(self) -> ColumnElement[str]:
        """Return what selects the JSON with its values."""
        fill = func.printf if database_name() == "sqlite" else func.format
        return fill(_constant(self.text), *self.values, type_=String)


class Writer:
    """Has the database write what a schema shows of a model: a line for each row.

    A field is a column of the model, a relationship to another row (a nested schema) or to several (a list of
    them), what the statement computes under the field's name, or a part that the request may ask for.

    A line has the members that the tag is made of (all, if there is none), those that may be expanded, and
    keys.
    """

    def __init__(self, schema: Schema, model: type[Any], computed: Mapping[str, Any], *keys: Any) -> None:
        self.relationships: list[Any] = []
        self._computed = computed
        self._has_tag = any(isinstance(shown, ETag) for shown in schema.dump_fields.values())
        may_expand = {
            name: shown for name, shown in schema.dump_fields.items() if isinstance(shown, Expandable)
        }
        parts = [self._members(_beside_tag(schema), model), self._members(may_expand, model)]
        parts += [Template("%s", [_json(key)]) for key in keys]
        self.line = Template.joined(TAB, parts).filled()

    def shown(self, line: str) -> Shown:
        """Return what the schema shows of a row, given its line."""
        beside, expanded, *_ = line.split(TAB)
        etag = digest(beside.encode()) if self._has_tag else None
        tag = f'"etag":"{etag}"' if etag else ""
        return Shown(f"{{{','.join(filter(None, (beside, tag, expanded)))}}}".encode(), etag)

    def _object(self, schema: Schema, model: type[Any]) -> Template:
        members = self._members(schema.dump_fields, model)
        return Template(f"{{{members.text}}}", members.values)

    def _members(self, shown: Mapping[str, fields.Field[Any]], model: type[Any]) -> Template:
        return Template.joined(",", (self._member(name, each, model) for name, each in shown.items()))

    def _member(self, name: str, shown: fields.Field[Any], model: type[Any]) -> Template:
        value = self._value(name, shown, model)
        return Template(f'"{name}":{value.text}', value.values)

    def _value(self, name: str, shown: fields.Field[Any], model: type[Any]) -> Template:
        match shown:
            case Expandable():
                return self._object(shown.schema, model) if shown.is_shown else Template("null")
            case fields.Nested():
                relationship = getattr(model, name)
                self.relationships.append(relationship)
                return self._object(shown.schema, relationship.property.mapper.class_)
            case fields.List(inner=fields.Nested() as inner):
                return Template("[%s]", [self._rows(getattr(model, name), inner.schema)])
            case Flag():
                column: Any = shown.condition
            case _ if name in self._computed:
                column = self._computed[name]
            case _:
                column = getattr(model, shown.attribute or name)
        return Template("%s", [_json(_text_of(column) if isinstance(shown, MomentField) else column)])

    def _rows(self, relationship: Any, schema: Schema) -> ColumnElement[str]:
        """Return a subquery that writes related rows in their order, with commas between them."""
        row = self._object(schema, relationship.property.mapper.class_).filled()
        rows = select(row.label("row")).where(relationship.property.primaryjoin)
        found = rows.order_by(*relationship.property.order_by).correlate(relationship.parent).subquery()
        return select(joined_lines(found.c.row, ",")).scalar_subquery()


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


def select_shown(statement: AnySelect, schema: Schema, *keys: Any) -> tuple[AnySelect, Writer]:
    """Return a statement that selects a model, changed to select lines of what a schema shows, with keys."""
    model, *computed = statement.column_descriptions
    writer = Writer(schema, model["entity"], {column["name"]: column["expr"] for column in computed}, *keys)
    for relationship in writer.relationships:
        statement = statement.join(relationship)
    return statement.with_only_columns(writer.line.label("line"), maintain_column_froms=True), writer


def shape_of_request() -> tuple[object, ...]:
    """Return all of a request that decides what a schema shows to it: a key to keep what is made for it."""
    return parts_asked_for(), caller_id() is None


def read_shown(selected: Prepared, schema: Schema) -> list[Shown]:
    """Read what a statement selects, as a schema shows it."""
    statement, writer = _made_shown(selected.statement, schema, shape_of_request())
    return [writer.shown(line) for [line] in Prepared(statement, selected.values).read()]


@made_once  # The shape is what `Expandable.is_shown` looks at.
def _made_shown(statement: AnySelect, schema: Schema, _shape: object) -> tuple[AnySelect, Writer]:
    return select_shown(statement, schema)


def joined_lines(text: ColumnElement[str], between: str) -> ColumnElement[str]:
    """Return what selects one text of all rows', which keep their order; null if there are none."""
    separator: Any = _constant(between)
    return func.aggregate_strings(text, separator)


def key_of(line: str) -> Any:
    """Return the key at the end of a line."""
    return orjson.loads(line.rpartition(TAB)[2])


def _json(value: ColumnElement[Any]) -> ColumnElement[str]:
    """Return what selects a value as JSON."""
    if database_name() == "postgresql":
        return func.coalesce(func.to_json(value).cast(String), _constant("null"))
    if isinstance(value.type, Boolean):
        return case((value, _constant("true")), else_=_constant("false"))
    if isinstance(value.type, Integer):  # Which is quicker, where `json_quote` has nothing to quote.
        return func.coalesce(value, _constant("null"), type_=String)
    return func.json_quote(value, type_=String)


def _text_of(moment: ColumnElement[datetime]) -> ColumnElement[str]:
    """Return how a `MomentField` writes a moment, made by the database: Python takes longer."""
    if database_name() == "postgresql":
        utc = func.timezone(_constant("UTC"), moment)
        return func.to_char(utc, _constant('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), type_=String)
    date = func.substr(moment, literal_column("1"), literal_column("10"), type_=String)
    time = func.substr(moment, literal_column("12"), literal_column("12"), type_=String)
    return date + _constant("T") + time + _constant("Z")


def _constant(text: str) -> ColumnElement[str]:
    """Return what selects a text that has no single quotes in it."""
    return literal_column(f"'{text}'", String)
