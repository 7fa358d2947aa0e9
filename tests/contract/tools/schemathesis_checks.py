"""A check for Schemathesis, which does not compare statuses if an operation has a `default` response."""

from typing import Any

import schemathesis

# The `default` response is for these; an operation lists all others.
DEFAULT = {405, 500, 503}


@schemathesis.check
def status_is_listed(_context: Any, response: Any, case: Any) -> None:
    """Fail if an operation responds with a status that it does not list."""
    is_operation = case.method.lower() == case.operation.method.lower()
    listed = case.operation.definition.raw["responses"]
    assert not is_operation or str(response.status_code) in listed or response.status_code in DEFAULT, (
        f"The operation does not list {response.status_code}."
    )
