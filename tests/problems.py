"""What every error must be, whatever went wrong."""

import re
from typing import Any

from werkzeug.test import TestResponse

from api.errors import KINDS, TYPE_BASE

# What only the inside of the service may say.
LEAK = re.compile(
    r"Traceback|\.py\b|sqlite|postgres|psycopg|sqlalchemy|werkzeug|SELECT |INSERT |UPDATE |DELETE FROM"
    r"|BEGIN|constraint|\b(uq|ck|fk|ix|pk)_|<[a-z!]",
    re.IGNORECASE,
)


def assert_problem(response: TestResponse, status: int, code: str, *errors: dict[str, str]) -> None:
    """Assert that an answer is a problem document with a status, a code and errors, and lets nothing out.

    `errors` are those of the document without their details.
    """
    document: Any = response.json
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert document["code"] == code
    assert document["type"] == (TYPE_BASE + code if code in KINDS else "about:blank")
    assert document["status"] == status
    assert document["request_id"] == response.headers["X-Request-Id"]
    found = document.get("errors", [])
    assert all(error.pop("detail") for error in found)
    assert found == list(errors)
    assert not LEAK.search(response.text), response.text
