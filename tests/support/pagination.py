"""Reading of lists page by page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.support.contract import ContractClient

Page = dict[str, Any]


def read(client: ContractClient, path: str, headers: Mapping[str, str], **query: Any) -> Page:
    """Return a page of a list."""
    response = client.get(f"{path}?{urlencode(query)}", headers=dict(headers))
    assert response.status_code == 200
    page: Page = response.json or {}
    return page


def read_both_ways(
    client: ContractClient, path: str, limit: int, headers: Mapping[str, str], **query: Any
) -> tuple[list[Page], list[Page]]:
    """Return the pages of a list from the first to the last, then from the last to the first."""
    query["limit"] = limit
    first = read(client, path, headers, **query)
    forth = list(_follow(client, path, query, headers, first, "next_cursor"))
    back = list(_follow(client, path, query, headers, forth[-1], "prev_cursor"))
    return forth, back


def items(pages: Sequence[Page], member: str = "id") -> list[Any]:
    """Return a member of every item of some pages."""
    return [item[member] for page in pages for item in page["items"]]


def _follow(
    client: ContractClient,
    path: str,
    query: Mapping[str, Any],
    headers: Mapping[str, str],
    page: Page,
    cursor: str,
) -> Iterator[Page]:
    """Yield a page and those that its cursors lead to, up to the last that is not empty."""
    yield page
    while page[cursor]:
        page = read(client, path, headers, **query, cursor=page[cursor])
        if not page["items"]:
            return
        yield page
