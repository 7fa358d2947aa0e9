"""Rows to JSON. A route returns a description; a renderer executes it with the schema of `@returns`."""

from api.rendering.descriptions import (
    Composite,
    Row,
    Rows,
    first_or_404,
    get_or_404,
    query,
    row_by_id,
)
from api.rendering.pagination import Page, PageQuery, Window, page_of, paginate
from api.rendering.renderer import Representation, expandable_parts, init_app, represent

__all__ = [
    "Composite",
    "Page",
    "PageQuery",
    "Representation",
    "Row",
    "Rows",
    "Window",
    "expandable_parts",
    "first_or_404",
    "get_or_404",
    "init_app",
    "page_of",
    "paginate",
    "query",
    "represent",
    "row_by_id",
]
