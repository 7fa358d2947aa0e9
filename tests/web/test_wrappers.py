"""Overrides of Flask and Werkzeug: responses are the same without them."""

from typing import Any

import pytest
from flask import Flask, Response

from api.web.wrappers import ApiResponse, Microblog
from tests.support.contract import PREFIX
from tests.support.factories import Factory

REQUESTS = [
    ("GET", "/posts/42"),
    ("HEAD", "/posts/42"),
    ("GET", "/posts"),
    ("GET", "/posts/43"),
    ("PUT", "/posts"),
]
CHANGING = {"X-Request-Id", "RateLimit"}


def responses(app: Flask) -> list[tuple[int, bytes, set[tuple[str, str]]]]:
    """Return status, body and headers of some responses, without what differs between two requests."""
    found = []
    for method, path in REQUESTS:
        response = app.test_client().open(PREFIX + path, method=method)
        body = response.data if response.status_code == 200 else b""
        headers = {(name, value) for name, value in response.headers.items() if name not in CHANGING}
        found.append((response.status_code, body, headers))
    return found


@pytest.mark.parametrize(
    ("override", "framework", "name"),
    [
        (Microblog, Flask, "create_url_adapter"),
        (Microblog, Flask, "ensure_sync"),
        (ApiResponse, Response, "get_wsgi_headers"),
    ],
)
def test_responses_are_the_same_without_an_override(
    app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch, override: Any, framework: Any, name: str
) -> None:
    make.post(id=42)
    expected = responses(app)

    monkeypatch.setattr(override, name, getattr(framework, name))

    assert responses(app) == expected
