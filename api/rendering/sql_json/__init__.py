"""The SQL-JSON renderer: the database returns each row as JSON, read with the driver alone.

A query and a schema are compiled once, to a SELECT whose columns are JSON; rows never become Python objects.
`make bench` measures the gain over the reference renderer. To do without it, delete this package and its line
in `RENDERERS` (`api/config.py`).
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from marshmallow import Schema
from sqlalchemy import BigInteger, String, bindparam, event
from sqlalchemy.types import TypeEngine

from api.db import UTCDateTime, db, dialect_name
from api.db.driver import DriverStatement
from api.rendering.descriptions import Query
from api.rendering.pagination import Key, Window, seek
from api.rendering.renderer import Item, expandable_parts
from api.rendering.sql_json.compiler import CompiledSchema
from api.schemas.context import Context
from api.schemas.fields import digest

# Arguments of these types become bind parameters of a compiled query; all others are part of its SQL.
BIND_TYPES: dict[type, TypeEngine[Any]] = {int: BigInteger(), str: String(), datetime: UTCDateTime()}


class SQLJSONRenderer:
    """Reads rows as JSON that the database writes."""

    def __init__(self) -> None:
        if dialect_name() == "sqlite":
            event.listen(db.engine, "connect", _register_digest)
        self._compiled = lru_cache(1_000)(CompiledQuery)

    def read(
        self, query: Query[Any], schema: Schema, context: Context, window: Window | None = None
    ) -> list[Item]:
        """Read the rows of a query, or those in a window, serialized by a schema."""
        values: dict[str, Any] = context.parameters
        arguments = []
        for name, value in query.arguments.items():
            if type(value) in BIND_TYPES:
                values[name] = value
                arguments.append((name, type(value)))
            else:
                arguments.append((name, value))
        order = None
        if window:
            values["window_anchor"], values["window_rows"] = window.anchor, window.rows
            order = window.key, window.upwards, window.anchor is None
        compiled = self._compiled(query.function, tuple(arguments), schema, context.shape, order)
        return compiled.read(values)

    def check(self, schema: Schema, model: type[Any]) -> None:
        """Raise TypeError, naming the field, if a schema cannot be compiled, with all its parts expanded."""
        CompiledSchema(schema, model, Context(frozenset(expandable_parts(schema)), viewer_id=1))


class CompiledQuery:
    """A query and a schema, compiled to one SELECT in the SQL of the database.

    `arguments` has the type in place of each value that becomes a bind parameter. `order` is the key of a
    window, whether its values increase in the direction of reading, and whether the page is the first one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[str, Any]],
        schema: Schema,
        context: Context,
        order: tuple[Key, bool, bool] | None,
    ) -> None:
        statement = function(
            **{
                name: bindparam(name, type_=BIND_TYPES[value]) if value in BIND_TYPES else value
                for name, value in arguments
            }
        )
        [model] = [described["entity"] for described in statement.column_descriptions]
        compiled = CompiledSchema(schema, model, context)
        columns: list[Any] = [compiled.covered, compiled.others]
        if order:
            key, upwards, is_first = order
            anchor = None if is_first else bindparam("window_anchor", type_=key.type)
            rows = bindparam("window_rows", type_=BigInteger())
            statement = seek(statement, key, upwards=upwards, anchor=anchor, rows=rows)
            columns.append(key)
        for relationship in compiled.joins:
            statement = statement.join(relationship)
        statement = statement.with_only_columns(*columns, maintain_column_froms=True)
        self._statement = DriverStatement(statement)
        self._has_etag = compiled.has_etag
        self._separator = b"," if compiled.has_others else b""

    def read(self, values: dict[str, Any]) -> list[Item]:
        """Execute the SELECT; return its rows as JSON."""
        return [self._item(*row) for row in self._statement.rows(values)]

    def _item(self, covered: str | bytes, others: str | bytes, key: int | str | None = None) -> Item:
        json = _octets(covered)
        if not self._has_etag:
            return Item(json, None, key)
        etag = digest(json)
        # Joins both objects: the covered members, the entity tag, and the expandable members.
        json = b'%b,"etag":"%b"%b%b' % (json[:-1], etag.encode(), self._separator, _octets(others)[1:])
        return Item(json, etag, key)


def _octets(json: str | bytes) -> bytes:
    """Return JSON as bytes, which only the driver of SQLite returns (see `CompiledSchema`)."""
    return json if isinstance(json, bytes) else json.encode()


def _register_digest(connection: Any, _record: object) -> None:
    """Let SQLite compute the entity tags of nested objects; PostgreSQL has a function for it."""
    connection.create_function("digest", 1, lambda text: digest(text.encode()), deterministic=True)
