"""Lists, read page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Literal, TypedDict, TypeVar

Item = TypeVar("Item")


class Page(TypedDict, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None
    prev_cursor: str | None


class Pager(Generic[Item]):
    """A list, whose pages are requested as they are needed.

    Iteration begins at the first page, or at `cursor`, and follows `next_cursor` to the end of the list.
    `reversed` goes the other way: with the `prev_cursor` of a page as `cursor`, it yields what is newer.
    """

    def __init__(self, call: Callable[..., Any], path: str, query: Mapping[str, str | int | None]) -> None:
        self._call, self._path, self._query = call, path, query

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from page["items"]

    def __reversed__(self) -> Iterator[Item]:
        for page in self.pages("prev"):
            yield from reversed(page["items"])

    def pages(self, direction: Literal["next", "prev"] = "next") -> Iterator[Page[Item]]:
        """Yield the pages in one direction.

        In the direction "prev", the last page is empty. Its `prev_cursor` is where to look later for newer
        items; it is None if the whole list is empty.
        """
        query = dict(self._query)
        while True:
            page: Page[Item] = self._call("GET", self._path, query=query)
            yield page
            query["cursor"] = page["next_cursor"] if direction == "next" else page["prev_cursor"]
            if query["cursor"] is None or (direction == "prev" and not page["items"]):
                return
