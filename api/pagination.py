"""Lists in pages, by cursor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Self, TypeAlias
from urllib.parse import urlencode

import orjson
from marshmallow import EXCLUDE, Schema, fields, validate
from sqlalchemy import BigInteger, ColumnElement, UnaryExpression, bindparam, select
from sqlalchemy.orm import InstrumentedAttribute

from api.errors import Problem
from api.messages import current_request
from api.prepared import AnySelect, Prepared, made_once
from api.rows import LINE_END, Writer, joined_lines, key_of, select_shown, shape_of_request
from api.schema import BaseSchema, Integer, QuerySchema, Shown, Text
from api.signing import signed, signed_values

CURSOR_VERSION = 1

Key: TypeAlias = ColumnElement[Any] | InstrumentedAttribute[Any]


class PageQuery(QuerySchema):
    """The parameters that every list takes."""

    limit = Integer(
        written=True,
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
class Window:
    """Where a page stands in its list, and how it is reached.

    `key` is the column, unique and never null, by which the list is sorted. From `anchor`, the key of a
    neighbouring page's last row (or the end of the list, if None), rows are read forwards or `backwards`.
    """

    key: Key
    ascending: bool
    limit: int
    endpoint: str
    backwards: bool = False
    anchor: int | str | None = None

    @classmethod
    def of(
        cls, query: Mapping[str, Any], key: Key, *, ascending: bool = False, endpoint: str | None = None
    ) -> Self:
        """Return the window that a query asks for; `query` holds what `PageQuery` loads.

        Its cursors are for the list at `endpoint`, by default the one that is asked for.
        """
        window = cls(key, ascending, query["limit"], endpoint or current_request().endpoint or "")
        if "cursor" not in query:
            return window
        values = signed_values(window._purpose, query["cursor"], 3)
        if values is None or values[0] != CURSOR_VERSION:
            raise Problem("invalid_cursor")
        _, backwards, anchor = values
        return replace(window, backwards=bool(backwards), anchor=anchor)

    @property
    def upwards(self) -> bool:
        """Whether keys grow in the direction of reading."""
        return self.ascending is not self.backwards

    def cursor(self, anchor: int | str, *, backwards: bool) -> str:
        """Return the cursor of the page that begins beyond a key."""
        return signed(self._purpose, [CURSOR_VERSION, int(backwards), anchor])

    @property
    def _purpose(self) -> str:
        # A cursor belongs to the list that it came from, in the order that it had there.
        return f"cursor of {self.endpoint} by {self.key}"


@dataclass(frozen=True)
class Page:
    """One page of a list that is still to be read: of all that `listed` selects, what is in the window."""

    listed: Prepared
    window: Window
    # Finds whose list it is. Asked only if the page is empty: else they are there.
    of: Prepared | None = None

    def read(self, schema: Schema) -> "ShownPage":
        """Read what a schema shows of the page's items.

        Keyset pagination: the index on the key is walked from the anchor on, so that a page deep in the
        list costs what the first one does. One row more than is shown tells whether more follow.
        """
        window = self.window
        is_first = window.anchor is None
        statement, writer = _made_page(
            self.listed.statement, schema, window.key, window.upwards, is_first, shape_of_request()
        )
        values = {**self.listed.values, "anchor": window.anchor, "rows": window.limit + 1}
        [[text]] = Prepared(statement, values).read()
        if not text and self.of:
            self.of.first_or_404()
        return ShownPage(window, writer, text or "")


def ordered(column: Key, *, upwards: bool) -> UnaryExpression[Any]:
    """Return the order by a column in which its values grow, or else shrink."""
    return column.asc() if upwards else column.desc()


@made_once  # The shape is what `Expandable.is_shown` looks at.
def _made_page(
    statement: AnySelect, schema: Schema, key: Key, upwards: bool, is_first: bool, _shape: object
) -> tuple[AnySelect, Writer]:
    statement, writer = select_shown(statement, schema, key)
    anchor: Any = bindparam("anchor", type_=key.type)
    if not is_first:
        statement = statement.where(key > anchor if upwards else key < anchor)
    statement = statement.order_by(ordered(key, upwards=upwards))
    page = statement.limit(bindparam("rows", type_=BigInteger())).subquery()
    return select(joined_lines(page.c.line, LINE_END)), writer


class ShownPage(Shown):
    """One page of a list: the lines of its rows, which become JSON when that is wanted."""

    def __init__(self, window: Window, writer: Writer, text: str) -> None:
        super().__init__(text.encode())
        self._window = window
        self._writer = writer
        self._text = text

    @cached_property
    def members(self) -> dict[str, Any]:
        """The items with the cursors of the page's neighbours."""
        window = self._window
        lines = self._text.split(LINE_END) if self._text else []
        has_more = len(lines) > window.limit
        lines = lines[: window.limit][:: -1 if window.backwards else 1]
        if not lines:
            # Nothing newer yet: the same cursor asks again.
            anchor = window.anchor if window.backwards else None
            again = window.cursor(anchor, backwards=True) if anchor is not None else None
            return {"items": [], "next_cursor": None, "prev_cursor": again}
        has_next = window.backwards or has_more
        return {
            "items": [orjson.Fragment(self._writer.shown(line).json) for line in lines],
            "next_cursor": window.cursor(key_of(lines[-1]), backwards=False) if has_next else None,
            "prev_cursor": window.cursor(key_of(lines[0]), backwards=True),
        }

    @property
    def json(self) -> bytes:
        """The page."""
        return orjson.dumps(self.members)

    @property
    def headers(self) -> Mapping[str, str]:
        """A `Link` header with the cursors that the page has."""
        request = current_request()
        links = []
        for relation in ("next", "prev"):
            cursor = self.members[f"{relation}_cursor"]
            if cursor:
                query = urlencode({**request.args.to_dict(), "cursor": cursor})
                links.append(f'<{request.path}?{query}>; rel="{relation}"')
        return {"Link": ", ".join(links)} if links else {}


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
        """Read the page and show it."""
        return self.read(obj).members

    def read(self, body: Page) -> ShownPage:
        """Read the page."""
        items: Any = self.fields["items"]
        return body.read(items.inner.schema)


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
    members = {"__doc__": about, "items": items, "IS_CONFIDENTIAL": schema_class.IS_CONFIDENTIAL}
    page_class = type(f"{name}PageSchema", (PageSchema,), members)
    page: PageSchema = page_class()
    return page


def paginate(
    listed: Prepared,
    query: Mapping[str, Any],
    key: Key,
    *,
    ascending: bool = False,
    endpoint: str | None = None,
    of: Prepared | None = None,
) -> Page:
    """Return the page that a query asks for.

    Answers 404 if the list is `of` what is not there. For the rest see `Window.of`.
    """
    return Page(listed, Window.of(query, key, ascending=ascending, endpoint=endpoint), of)
