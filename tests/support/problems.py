"""Assertions about error responses."""

import re
from typing import Any

from werkzeug.test import TestResponse

from api.web.problem_types import PROBLEM_TYPES

# Text of internal errors, which no response may contain.
LEAK = re.compile(
    r"Traceback|\.py\b|sqlite|postgres|psycopg|sqlalchemy|werkzeug|SELECT |INSERT |UPDATE |DELETE FROM"
    r"|BEGIN|constraint|\b(uq|ck|fk|ix|pk)_|<[a-z!]",
    re.IGNORECASE,
)


def assert_problem(response: TestResponse, status: int, code: str, *errors: dict[str, str]) -> None:
    """Assert that a response is a problem with a status, a code and errors, and has no internal details.

    `errors` are those of the document without `detail`.
    """
    document: Any = response.json
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert document["code"] == code
    assert document["type"] == (f"/problems/{code}" if code in PROBLEM_TYPES else "about:blank")
    assert document["status"] == status
    assert document["request_id"] == response.headers["X-Request-Id"]
    found = document.get("errors", [])
    assert all(error.pop("detail") for error in found)
    assert found == list(errors)
    assert not LEAK.search(response.text), response.text
