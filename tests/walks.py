"""Lists, walked from page to page by their cursors."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from tests.contract import ContractClient

Page = dict[str, Any]


def read(client: ContractClient, path: str, headers: Mapping[str, str], **query: Any) -> Page:
    """Return a page of a list; the page is there."""
    response = client.get(f"{path}?{urlencode(query)}", headers=dict(headers))
    assert response.status_code == 200
    page: Page = response.json or {}
    return page


def walk_both_ways(
    client: ContractClient, path: str, limit: int, headers: Mapping[str, str], **query: Any
) -> tuple[list[Page], list[Page]]:
    """Return the pages of a list from the first to the last, then from the last to the first."""
    query["limit"] = limit
    first = read(client, path, headers, **query)
    forth = list(_walk(client, path, query, headers, first, "next_cursor"))
    back = list(_walk(client, path, query, headers, forth[-1], "prev_cursor"))
    return forth, back


def items(pages: list[Page], member: str) -> list[Any]:
    """Return a member of every item of some pages."""
    return [item[member] for page in pages for item in page["items"]]


def _walk(
    client: ContractClient,
    path: str,
    query: Mapping[str, Any],
    headers: Mapping[str, str],
    page: Page,
    onward: str,
) -> Iterator[Page]:
    yield page
    while page[onward]:
        page = read(client, path, headers, **query, cursor=page[onward])
        if not page["items"]:
            return
        yield page
