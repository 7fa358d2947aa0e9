"""Keyset pagination: a page begins after a key, which the signed cursor contains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self, TypeAlias, TypeVar

from marshmallow import fields, validate
from sqlalchemy import ColumnElement, Select, UnaryExpression, func, select
from sqlalchemy.orm import InstrumentedAttribute

from api.auth.signing import signed, signed_values
from api.rendering.descriptions import Query
from api.schemas.base import BaseSchema, QuerySchema, RepresentationSchema
from api.schemas.fields import Integer, Text
from api.web.problems import Problem
from api.web.wrappers import current_request

CURSOR_VERSION = 1
# Execution option of statements that match either few or many rows: PostgreSQL cannot estimate which.
FEW_OR_MANY = "few_or_many"
# How many keys a page scans before its rows are found by another index than that of the key.
SCANNED = 5_000

Key: TypeAlias = ColumnElement[Any] | InstrumentedAttribute[Any]
# The key beyond which a page begins; None for the first page.
Anchor: TypeAlias = int | str | None
Entry = TypeVar("Entry")


class PageQuery(QuerySchema):
    """The query parameters of every list."""

    limit = Integer(
        in_query=True,
        load_default=20,
        validate=validate.Range(1, 100),
        metadata={"format": "int32", "description": "Maximum number of items on a page."},
    )
    cursor = Text(
        validate=validate.Length(max=500),
        metadata={
            "description": "`next_cursor` or `prev_cursor` of another page of this list; "
            "without it, the first page."
        },
    )


@dataclass(frozen=True, slots=True)
class Window:
    """The position of a page in its list, and the direction in which it is read.

    `key` is the column, unique and never null, by which the list is sorted. Rows are read beyond `anchor`,
    the key of the nearest row of the neighbouring page, forwards or `backwards`. The first page has no
    anchor (None).
    """

    key: Key
    ascending: bool
    limit: int
    endpoint: str
    backwards: bool = False
    anchor: Anchor = None

    @classmethod
    def of(
        cls, parameters: Mapping[str, Any], key: Key, *, ascending: bool = False, endpoint: str | None = None
    ) -> Self:
        """Return the window that a request asks for by `limit` and `cursor`.

        Its cursors are valid for the list at `endpoint`, by default that of the request.
        """
        window = cls(key, ascending, parameters["limit"], endpoint or current_request().endpoint or "")
        if "cursor" not in parameters:
            return window
        values = signed_values(window._purpose, parameters["cursor"], 3)
        if values is None or values[0] != CURSOR_VERSION:
            raise Problem("invalid_cursor")
        _, backwards, anchor = values
        return replace(window, backwards=bool(backwards), anchor=anchor)

    @property
    def upwards(self) -> bool:
        """Whether keys increase in the direction of reading."""
        return self.ascending is not self.backwards

    @property
    def rows(self) -> int:
        """The number of rows to read: one more than the page has, to detect whether others follow."""
        return self.limit + 1

    def page(self, entries: Sequence[Entry]) -> tuple[list[Entry], bool]:
        """Return the entries of the page in the order of the list, and whether the list has a next page."""
        has_more = len(entries) > self.limit
        on_page = list(entries[: self.limit])
        if self.backwards:
            on_page.reverse()
        return on_page, self.backwards or has_more

    def cursors(self, first_key: Anchor, last_key: Anchor, *, has_next: bool) -> dict[str, str | None]:
        """Return the cursors of a page that has items."""
        return {
            "next_cursor": self._cursor(last_key, backwards=False) if has_next else None,
            "prev_cursor": self._cursor(first_key, backwards=True),
        }

    def cursors_of_empty_page(self) -> dict[str, str | None]:
        """Return the cursors of an empty page: to poll for newer items, the cursor of the request."""
        is_polling = self.backwards and self.anchor is not None
        return {
            "next_cursor": None,
            "prev_cursor": self._cursor(self.anchor, backwards=True) if is_polling else None,
        }

    def _cursor(self, anchor: Anchor, *, backwards: bool) -> str:
        return signed(self._purpose, [CURSOR_VERSION, int(backwards), anchor])

    @property
    def _purpose(self) -> str:
        # Binds a cursor to the endpoint and the key of its list, but not to the values of filters.
        return f"cursor of {self.endpoint} by {self.key}"


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a query in a window; 404 if there are none and `parent` has no row either."""

    query: Query[Any]
    window: Window
    parent: Query[Any] | None = None


def paginate(
    query: Query[Any],
    parameters: Mapping[str, Any],
    *,
    key: Key,
    ascending: bool = False,
    parent: Query[Any] | None = None,
    endpoint: str | None = None,
) -> Page:
    """Describe the page of a list that a request asks for by `limit` and `cursor`.

    `key` is a unique column with an index. It defines the order: descending, unless `ascending`. A list under
    a user or post names its `parent`, whose existence (404) is checked only if the page is empty. `endpoint`
    is that of the list itself, if another route embeds its first page.
    """
    return Page(query, Window.of(parameters, key, ascending=ascending, endpoint=endpoint), parent)


def seek(statement: Select[Any], key: Key, *, upwards: bool, anchor: Any, rows: Any) -> Select[Any]:
    """Return a SELECT of a number of rows beyond an anchor, in the order of a key (the seek method).

    The database reads the index on the key from the anchor, so that every page costs as much as the first.
    `anchor` and `rows` are values or bind parameters; `anchor` is None for the first page.
    """
    beyond = [] if anchor is None else [key > anchor if upwards else key < anchor]
    statement = statement.where(*beyond)
    if statement.get_execution_options().get(FEW_OR_MANY):
        statement = _scan_or_search(statement, key, upwards=upwards, beyond=beyond, rows=rows)
    return statement.order_by(ordered(key, upwards=upwards)).limit(rows)


def _scan_or_search(
    statement: Select[Any], key: Key, *, upwards: bool, beyond: Sequence[ColumnElement[bool]], rows: Any
) -> Select[Any]:
    """Return a SELECT that is fast for few rows and for many.

    It scans `SCANNED` keys, which is enough if rows are many, or if there are no other keys. Otherwise all
    rows are found by another index than that of the key, and sorted.
    """
    first, last = (func.min, func.max) if upwards else (func.max, func.min)
    end = select((first(key) + (SCANNED if upwards else -SCANNED)).label("key")).where(*beyond).cte("scan")
    end_key = select(end.c.key).scalar_subquery()
    last_key = select(last(key)).correlate(None).scalar_subquery()
    keys = statement.with_only_columns(key.label("key"), maintain_column_froms=True)
    scanned = keys.where(key <= end_key if upwards else key >= end_key)
    scanned_page = scanned.order_by(ordered(key, upwards=upwards)).limit(rows).cte("scanned")
    is_short = select(func.count()).select_from(scanned_page).scalar_subquery() < rows
    has_more = last_key > end_key if upwards else last_key < end_key
    # `+ 0` keeps PostgreSQL from reading the index of the key.
    found = (
        keys.where(is_short, has_more).order_by(ordered(key + 0, upwards=upwards)).limit(rows).cte("found")
    )
    both = select(scanned_page.c.key).union(select(found.c.key)).subquery()
    return statement.where(key.in_(select(both.c.key)))


def ordered(column: Key, *, upwards: bool) -> UnaryExpression[Any]:
    """Return the order by a column: ascending if `upwards`, else descending."""
    return column.asc() if upwards else column.desc()


class PageSchema(RepresentationSchema):
    """One page of a list."""

    items = fields.List(fields.Raw(), required=True)  # See page_of().
    next_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The `cursor` of the next page; null on the last page.",
            "example": "WzEsMCw0MV0.lLAGmSJWNHiGKZ8gAyvJKN1tzSM",
        },
    )
    prev_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The `cursor` of the previous page. Store that of the first page to poll for "
            "newer items. Null on an empty page, unless the request has a `prev_cursor`.",
            "example": "WzEsMSw0Ml0.0W1KMVKjFzqQyVO9rvcqdAd_JvM",
        },
    )

    HEADERS = {"Link": "The neighbouring pages, as `next` and `prev` (RFC 8288)."}


@cache
def page_of(schema_class: type[BaseSchema]) -> PageSchema:
    """Return the schema of a page of another schema's objects; for `PostSchema`, `PostPage`."""
    name = schema_class.__name__.removesuffix("Schema")
    items = fields.List(
        fields.Nested(schema_class()),
        required=True,
        metadata={"description": "The items of this page, in the order of the list."},
    )
    members = {
        "__doc__": f"One page of a list of `{name}`.",
        "items": items,
        "IS_CONFIDENTIAL": schema_class.IS_CONFIDENTIAL,
    }
    page_class = type(f"{name}PageSchema", (PageSchema,), members)
    page: PageSchema = page_class()
    return page
