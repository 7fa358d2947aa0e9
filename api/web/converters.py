"""Converters for parts of paths. Other values are unknown URLs: 404, without a query."""

from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from api.db.folding import folded
from api.db.types import LARGEST_ID


class IdConverter(BaseConverter):
    """The id of a row: an integer from 1 to 2^63-1, without leading zeros."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """Return the id."""
        number = int(value)
        if number > LARGEST_ID:
            raise NotFound  # After a ValidationError Werkzeug would return 405 for PATCH and DELETE.
        return number

    def describe(self, name: str) -> dict[str, object]:
        """Return the parameter object of OpenAPI."""
        return {
            "description": f"Id of the {name.removesuffix('_id')}.",
            "schema": {"type": "integer", "format": "int64", "minimum": 1},
            "example": 42,
        }


class UsernameConverter(BaseConverter):
    """A username, in any case; views receive it in lower case."""

    regex = r"[A-Za-z][A-Za-z0-9_.\-]{2,63}"

    def to_python(self, value: str) -> str:
        """Return the username in lower case."""
        return folded(value)

    def describe(self, _name: str) -> dict[str, object]:
        """Return the parameter object of OpenAPI."""
        return {
            "description": "Username, case-insensitive.",
            "schema": {"type": "string", "pattern": f"^{self.regex}$"},
            "example": "ann",
        }
