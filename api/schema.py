"""What all schemas share: the kinds of field, and errors that programs can tell apart."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import orjson
from email_validator import EmailNotValidError, validate_email
from marshmallow import Schema, ValidationError, fields, validate
from marshmallow_sqlalchemy import SQLAlchemySchema

INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # General categories: control, format, separators.
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# The codes of what marshmallow finds, where its own key would not be clear to an API's user.
CODES = {
    "null": "null_not_allowed",
    "unknown": "unknown_member",
    "type": "not_an_object",
    "invalid": "wrong_type",
}


class Fault(str):
    """The text of a validation error, with the stable code that goes with it."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> Self:
        fault = super().__new__(cls, text)
        fault.code = code
        return fault

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self))  # Schemas are copied, and their messages with them.

    def format(self, *args: object, **kwargs: object) -> Self:
        """Fill in the text as `str.format` does; the code stays."""
        return type(self)(self.code, super().format(*args, **kwargs))


def refusal(code: str, text: str, field_name: str = "") -> ValidationError:
    """Return the exception that refuses a value; `field_name` is for checks of a whole schema."""
    return ValidationError({field_name: [Fault(code, text)]} if field_name else [Fault(code, text)])


def _coded(messages: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: text if isinstance(text, Fault) else Fault(CODES.get(key, key), text)
        for key, text in messages.items()
    }


class Text(fields.String):
    """Text in Unicode's composed form (NFC); its length counts code points.

    Control characters other than tab and newline are refused, and so is blank text unless `blank`.
    """

    METADATA: Mapping[str, Any] = {}

    def __init__(self, *, blank: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blank = blank
        self.metadata = {**self.METADATA, **self.metadata}

    @property
    def maximum(self) -> int:
        """The most code points that are accepted. Every text has such a bound."""
        return min(rule.max for rule in self.validators if isinstance(rule, validate.Length) and rule.max)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, *args, **kwargs)
        # Composing shortens text to a quarter at most, and is slow on a long run of combining marks.
        if len(text) <= 4 * self.maximum:
            text = unicodedata.normalize("NFC", text)
        if len(text) > self.maximum:
            raise refusal("too_long", f"Longer than maximum length {self.maximum}.")
        if CONTROL_CHARACTER.search(text):
            raise refusal("control_character", "Control characters are not allowed.")
        if not self.blank and all(unicodedata.category(mark) in INVISIBLE for mark in text):
            raise refusal("blank", "Must not be blank.")
        return text


def normal_email(text: str) -> str | None:
    """Return an e-mail address in ASCII, as it is kept; None if it is not one."""
    # An encoded word (RFC 2047) is an atom too, but in the header of a mail it becomes another address.
    if "=?" in text:
        return None
    try:
        address = validate_email(text, allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError:
        return None
    return address.ascii_email


class Integer(fields.Integer):
    """A whole number: of a JSON body, or `written` in digits, as queries have it."""

    def __init__(self, *, written: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.written = written
        self.metadata = {"format": "int64", **self.metadata}

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> int:
        if self.written and re.fullmatch(r"-?[0-9]{1,99}", value):
            return int(value)
        if not self.written and type(value) is int:
            return value
        raise self.make_error("invalid")


class MomentField(fields.AwareDateTime):
    """A moment in UTC as RFC 3339 writes it, to the millisecond."""

    def _serialize(self, value: datetime | None, *_args: Any, **_kwargs: Any) -> str | None:
        if value is None:
            return None
        return value.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Shown:
    """What an answer shows."""

    def __init__(self, source: bytes, etag: str | None = None) -> None:
        self.source = source  # What the answer is made of: changes whenever it does.
        self.etag = etag  # The member of that name, if it has one.

    @property
    def json(self) -> bytes:
        """The answer."""
        return self.source

    @property
    def headers(self) -> Mapping[str, str]:
        """What goes with it."""
        return {}


class BaseSchema(SQLAlchemySchema[Any]):
    """A schema whose columns become the fields above and whose errors have codes."""

    TYPE_MAPPING = {**Schema.TYPE_MAPPING, str: Text, int: Integer, datetime: MomentField}

    # What it shows must not be kept by a cache, not even the caller's own.
    IS_CONFIDENTIAL = False

    # Response headers that repeat what is in the body, for the contract: name to description.
    HEADERS: Mapping[str, str] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.error_messages = _coded(self.error_messages)

    def read(self, body: Any) -> Shown:
        """Return what is shown of what a view gave."""
        dumped: dict[str, Any] = self.dump(body)
        return Shown(orjson.dumps(dumped), dumped.get("etag"))

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Load to a dictionary.

        Not as SQLAlchemySchema does, which keeps the session and instance of a load in the schema that all
        threads share, and asks the file system for marshmallow's version each time.
        """
        return Schema.load(self, data, **kwargs)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give codes to the errors of a field and of its validators."""
        super().on_bind_field(field_name, field_obj)
        field_obj.error_messages = _coded(field_obj.error_messages)
        for rule in field_obj.validators:
            if isinstance(rule, validate.Range):
                rule.error = Fault("out_of_range", "Must be from {min} to {max}.")


class QuerySchema(BaseSchema):
    """The parameters of a query."""

    error_messages = {"unknown": Fault("unknown_parameter", "Unknown parameter.")}
