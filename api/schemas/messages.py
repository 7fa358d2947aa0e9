"""Validation errors with a stable code in addition to their text."""

from collections.abc import Mapping
from typing import Any, Self

from marshmallow import ValidationError

# Codes for marshmallow's messages whose keys would be unclear in the API.
CODES = {
    "null": "null_not_allowed",
    "unknown": "unknown_member",
    "type": "not_an_object",
    "invalid": "wrong_type",
}


class Message(str):
    """The text of a validation error, with its code."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Self:
        message = super().__new__(cls, text)
        message.code = code
        return message

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.code, str(self))  # marshmallow copies schemas with their messages.

    def format(self, *args: object, **kwargs: object) -> Self:
        """Format the text as `str.format` does; the result has the same code."""
        return type(self)(self.code, super().format(*args, **kwargs))


def with_codes(messages: Mapping[str, Any]) -> dict[str, Any]:
    """Return marshmallow's messages with their codes."""
    return {
        key: text if isinstance(text, Message) else Message(CODES.get(key, key), text)
        for key, text in messages.items()
    }


def invalid(code: str, text: str, field_name: str = "") -> ValidationError:
    """Return the exception for an invalid value; validators of a whole schema name the field."""
    message = [Message(code, text)]
    return ValidationError({field_name: message} if field_name else message)
