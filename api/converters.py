"""What may stand in a path. Anything else is an unknown address: 404, before the database is asked."""

from typing import Any

from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

LARGEST_ID = 2**63 - 1


class IdConverter(BaseConverter):
    """The id of a row: a whole number from 1 to 2^63-1, written in one way."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """Return the number."""
        number = int(value)
        if number > LARGEST_ID:
            raise NotFound  # A ValidationError lets Werkzeug answer 405 to PATCH and DELETE.
        return number

    def describe(self, name: str) -> dict[str, Any]:
        """Return what OpenAPI says of the parameter."""
        return {
            "description": f"Id of the {name.removesuffix('_id')}.",
            "schema": {"type": "integer", "format": "int64", "minimum": 1},
            "example": 42,
        }


class UsernameConverter(BaseConverter):
    """A username, in any case; views are given it in lower case."""

    regex = "[A-Za-z][A-Za-z0-9_.-]{2,63}"

    def to_python(self, value: str) -> str:
        """Return the name as names are compared."""
        return value.lower()

    def describe(self, _name: str) -> dict[str, Any]:
        """Return what OpenAPI says of the parameter."""
        return {
            "description": "Name of the user, in any case.",
            "schema": {"type": "string", "pattern": f"^{self.regex}$"},
            "example": "ann",
        }
