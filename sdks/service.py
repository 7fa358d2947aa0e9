"""The service as a later version may be: every JSON object in its responses has one more member."""

from typing import Any

import orjson
from flask import Response

from api.app import create_app
from api.server import Front

ADDED = {"added_later": {"values": [1, None, "two"]}}


def front() -> Front:
    """Create the application for a worker of granian."""
    app = create_app()
    app.after_request(_add_members)
    return Front(app)


def _add_members(response: Response) -> Response:
    if response.is_json and (body := response.get_data()):
        response.set_data(orjson.dumps(_grown(orjson.loads(body))))
    return response


def _grown(value: Any) -> Any:
    match value:
        case dict():
            return {name: _grown(member) for name, member in value.items()} | ADDED
        case list():
            return [_grown(item) for item in value]
        case _:
            return value
