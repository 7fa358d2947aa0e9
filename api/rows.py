"""Lists: a schema becomes the select that reads just what it shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from marshmallow import Schema, fields
from sqlalchemy import Select
from sqlalchemy.engine import Row
from sqlalchemy.orm import Bundle

AnySelect: TypeAlias = Select[*tuple[Any, ...]]

# Kinds of field whose value in Python is their value in JSON.
PLAIN = (fields.String, fields.Integer, fields.Boolean)


class Shown(Bundle[Any]):
    """The columns that a schema shows; a row of them comes out as the dictionary that the schema dumps.

    A field is a column of the model, a relationship to one other row (a nested schema), or what the
    statement computes under the field's name.
    """

    def __init__(self, schema: Schema, model: type[Any], computed: Mapping[str, Any]) -> None:
        self.names = list(schema.dump_fields)
        self.converters: list[Callable[[Any], Any] | None] = []
        self.relationships: list[Any] = []
        columns: list[Any] = []
        for field_name, shown in schema.dump_fields.items():
            column = computed[field_name] if field_name in computed else getattr(model, field_name)
            if isinstance(shown, fields.Nested):
                self.relationships.append(column)
                column = Shown(shown.schema, column.property.mapper.class_, {})
                self.relationships += column.relationships
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


def select_shown(statement: AnySelect, schema: Schema, *keys: Any) -> AnySelect:
    """Return the statement, which selects a model, changed to select what a schema shows, then the keys."""
    model, *computed = statement.column_descriptions
    shown = Shown(schema, model["entity"], {column["name"]: column["expr"] for column in computed})
    for relationship in shown.relationships:
        statement = statement.join(relationship)
    return statement.with_only_columns(shown, *keys, maintain_column_froms=True)


def _converter(shown: fields.Field[Any]) -> Callable[[Any], Any] | None:
    if isinstance(shown, (*PLAIN, fields.Nested)):
        return None
    return lambda value: shown._serialize(value, "", None)
