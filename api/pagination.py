"""Lists in pages, by cursor."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

from flask import request
from marshmallow import EXCLUDE, Schema, fields, validate
from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute

from api.database import db
from api.errors import Problem
from api.rows import AnySelect, select_shown
from api.schema import BaseSchema, Integer, QuerySchema, Text
from api.signing import signed_values, signer

CURSOR_VERSION = 1


class PageQuery(QuerySchema):
    """The parameters that every list takes."""

    limit = Integer(
        load_default=20,
        validate=validate.Range(1, 100),
        metadata={"format": "int32", "description": "How many items a page has at most."},
    )
    cursor = Text(
        validate=validate.Length(max=500),
        metadata={
            "description": "`next_cursor` or `prev_cursor` of another page of this list; "
            "without it, the first page."
        },
    )


@dataclass(frozen=True)
class Page:
    """One page of a list that is still to be read.

    `key` is the column, unique and never null, by which the list is sorted.
    """

    statement: AnySelect
    key: ColumnElement[Any] | InstrumentedAttribute[Any]
    ascending: bool
    limit: int
    cursor: str | None

    def read(self, schema: Schema) -> dict[str, Any]:
        """Read the page, as the schema shows its items, with the cursors of its neighbours.

        Keyset pagination: the index on the key is walked from the cursor on, so that a page deep in the
        list costs what the first one does. One row more than is shown tells whether more follow.
        """
        backwards, anchor = self._decode(self.cursor) if self.cursor else (False, None)
        upwards = self.ascending is not backwards
        statement = select_shown(self.statement, schema, self.key)
        if anchor is not None:
            statement = statement.where(self.key > anchor if upwards else self.key < anchor)
        order = self.key.asc() if upwards else self.key.desc()
        found = db.session.execute(statement.order_by(order).limit(self.limit + 1)).all()
        rows = found[: self.limit]
        if backwards:
            rows = rows[::-1]
        if not rows:
            # Nothing newer yet: the same cursor asks again.
            return {
                "items": [],
                "next_cursor": None,
                "prev_cursor": self.cursor if backwards else None,
            }
        has_next = backwards or len(found) > self.limit
        return {
            "items": [item for item, _ in rows],
            "next_cursor": self._encode(False, rows[-1][1]) if has_next else None,
            "prev_cursor": self._encode(True, rows[0][1]),
        }

    @property
    def _purpose(self) -> str:
        # A cursor belongs to the list that it came from, in the order that it had there.
        return f"cursor of {request.endpoint} by {self.key}"

    def _encode(self, backwards: bool, anchor: int | str) -> str:
        return str(signer(self._purpose).dumps([CURSOR_VERSION, int(backwards), anchor]))

    def _decode(self, cursor: str) -> tuple[bool, int | str]:
        values = signed_values(self._purpose, cursor, 3)
        if values is None or values[0] != CURSOR_VERSION:
            raise Problem("invalid_cursor")
        _, backwards, anchor = values
        return bool(backwards), anchor


class PageSchema(BaseSchema):
    """One page of a list."""

    items = fields.List(fields.Raw(), required=True)  # See page_of().
    next_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Pass it as `cursor` for the page after this one; null on the last page.",
            "example": "WzEsMCw0MV0.lLAGmSJWNHiGKZ8gAyvJKN1tzSM",
        },
    )
    prev_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Pass it as `cursor` for the page before this one. Keep it to ask later "
            "for what is new. Null where there is nothing to stand before.",
            "example": "WzEsMSw0Ml0.0W1KMVKjFzqQyVO9rvcqdAd_JvM",
        },
    )

    class Meta:
        unknown = EXCLUDE

    HEADERS = {"Link": "The neighbouring pages, as `next` and `prev` (RFC 8288)."}

    def dump(self, obj: Page, **_kwargs: Any) -> dict[str, Any]:
        """Read the page."""
        items: Any = self.fields["items"]
        return obj.read(items.inner.schema)

    def headers(self, dumped: Mapping[str, Any]) -> Mapping[str, str]:
        """Return a `Link` header with the cursors that the page has."""
        links = []
        for relation in ("next", "prev"):
            cursor = dumped[f"{relation}_cursor"]
            if cursor:
                query = urlencode({**request.args.to_dict(), "cursor": cursor})
                links.append(f'<{request.path}?{query}>; rel="{relation}"')
        return {"Link": ", ".join(links)} if links else {}


@cache
def page_of(schema_class: type[BaseSchema]) -> PageSchema:
    """Return the schema of a page of what another schema shows; `PostSchema` gives `PostPage`."""
    name = schema_class.__name__.removesuffix("Schema")
    items = fields.List(
        fields.Nested(schema_class()),
        required=True,
        metadata={"description": "The items of this page, in the order of the list."},
    )
    about = f"One page of a list of `{name}`."
    page_class = type(f"{name}PageSchema", (PageSchema,), {"__doc__": about, "items": items})
    page: PageSchema = page_class()
    return page


def paginate(
    statement: AnySelect,
    query: Mapping[str, Any],
    *,
    key: ColumnElement[Any] | InstrumentedAttribute[Any] | None = None,
    ascending: bool = False,
) -> Page:
    """Return a page of a statement that selects a model, by default sorted by its id, newest first.

    `query` holds what `PageQuery` loads.
    """
    if key is None:
        key = statement.column_descriptions[0]["entity"].id
    return Page(statement, key, ascending, query["limit"], query.get("cursor"))
