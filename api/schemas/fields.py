"""The field types of the schemas, in addition to marshmallow's own."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, cast

import orjson
import regex
from email_validator import EmailNotValidError, validate_email
from marshmallow import Schema, fields, validate
from marshmallow.utils import get_value
from sqlalchemy import ColumnElement, select

from api.db import db
from api.schemas.context import Context, current_context
from api.schemas.messages import invalid

DIGEST_LENGTH = 24
PUBLIC_SUFFIX = ".example.com"
# A character that shows something: no white space, no ignorable, control or format character (except those
# that enclose digits). No property tells the blank and joining characters that are listed: Braille, Tifinagh,
# Brahmi, Egyptian (full and half), Khitan, and the null notehead.
VISIBLE = regex.compile(
    r"[^\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Z}\p{Cc}\p{Cf}"
    r"\u2800\u2d7f\U0001107f\U00013441\U00013442\U00016fe4\U0001d159]"
    r"|\p{Prepended_Concatenation_Mark}"
)
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# U+0085 (next line) is not one: in JSON it is a wrongly decoded ellipsis of Windows-1252.
LINE_END = re.compile("\r\n|[\r\u2028\u2029]")
# From the first to the last character that is neither white space nor invisible.
INNER = regex.compile(
    r"[^\p{White_Space}\p{Default_Ignorable_Code_Point}]"
    r"(?:.*[^\p{White_Space}\p{Default_Ignorable_Code_Point}])?",
    regex.DOTALL,
)


class Text(fields.String):
    """Text in Unicode's composed form (NFC); its length counts code points.

    Control characters other than tab and newline are invalid, and so is text that shows nothing unless
    `blank`.
    """

    METADATA: Mapping[str, Any] = {}
    # For the contract: the control characters that are refused, and a pattern of those removed at the ends.
    REFUSED = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
    REMOVED = ""

    def __init__(self, *, blank: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blank = blank
        self.metadata = {**self.METADATA, **self.metadata}

    @property
    def maximum(self) -> int:
        """The maximum length in code points. Every text field has one."""
        return min(rule.max for rule in self.validators if isinstance(rule, validate.Length) and rule.max)

    @property
    def pattern(self) -> str:
        """The part of the rules that a pattern of all languages can say."""
        allowed = f"[^{self.REFUSED}]*"
        text = allowed if self.blank else rf"{allowed}[^{self.REFUSED}\s]{allowed}"
        return f"^{self.REMOVED}{text}{self.REMOVED}$"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = self._prepare(super()._deserialize(value, *args, **kwargs))
        # NFC shortens text to no less than a quarter, and is slow on long runs of combining characters.
        if len(text) <= 4 * self.maximum:
            text = unicodedata.normalize("NFC", text)
        if len(text) > self.maximum:
            raise invalid("too_long", f"Longer than maximum length {self.maximum}.")
        if CONTROL_CHARACTER.search(text):
            raise invalid("control_character", "Control characters are not allowed.")
        if not self.blank and not VISIBLE.search(text):
            raise invalid("blank", "Must not be blank.")
        return self._value_of(text)

    def _prepare(self, text: str) -> str:
        """Return the text that is checked and stored, without differences in how it was typed."""
        return text

    def _value_of(self, text: str) -> str:
        """Return the value of a text that passed these checks. Raises ValidationError if it fails others."""
        return text


class MultilineText(Text):
    """Text of several lines. All line ends become LF, before the length is checked."""

    REFUSED = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"

    def _prepare(self, text: str) -> str:
        return LINE_END.sub("\n", text)


class TrimmedText(Text):
    """Text that people type or paste, such as a name, without the white space around it.

    Some control characters are white space.
    """

    REMOVED = r"[\t-\r\x85]*"

    def _prepare(self, text: str) -> str:
        return trimmed(text)


def trimmed(text: str) -> str:
    """Return a text without white space and invisible characters at its ends, as Unicode defines them.

    Keyboards add spaces; copying from a page adds no-break spaces, byte order marks and direction marks.
    """
    found = INNER.search(text)
    return found[0] if found else ""


def normalized_email(text: str) -> str | None:
    """Return an email address in ASCII, as it is stored; None if the text is not one.

    The domain need not be public.
    """
    # An encoded word (RFC 2047) is a valid atom, but the header of an email would decode it.
    if "=?" in text:
        return None
    if email := _public_email(text):
        return email
    # The library refuses names that are not public, unless they are subdomains of a public one.
    email = _public_email(text + PUBLIC_SUFFIX)
    return email and email.removesuffix(PUBLIC_SUFFIX)


def has_public_domain(email: str) -> bool:
    """Whether the domain of an email address can exist on the internet."""
    return _public_email(email) is not None


def _public_email(text: str) -> str | None:
    try:
        return validate_email(text, allow_smtputf8=False, check_deliverability=False).ascii_email
    except EmailNotValidError:
        return None


class Integer(fields.Integer):
    """An integer: a JSON number or, if `in_query`, decimal digits."""

    def __init__(self, *, in_query: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.in_query = in_query
        self.metadata = {"format": "int64", **self.metadata}

    def _deserialize(self, value: Any, *_args: object, **_kwargs: object) -> int:
        if self.in_query and re.fullmatch(r"-?[0-9]{1,99}", value):
            return int(value)
        if not self.in_query and type(value) is int:
            return value
        raise self.make_error("invalid")


class UTCDateTimeField(fields.AwareDateTime):
    """A datetime in UTC in the format of RFC 3339, with milliseconds."""

    def _serialize(self, value: datetime | None, *_args: object, **_kwargs: object) -> str | None:
        if value is None:
            return None
        return value.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class ViewerFlag(fields.Boolean):
    """Whether a condition holds between a row and the caller: SQL on the row's model and `VIEWER_ID`."""

    def __init__(self, condition: ColumnElement[bool], **kwargs: Any) -> None:
        super().__init__(required=True, **kwargs)
        self.condition = condition

    def serialize(self, attr: str, obj: Any, accessor: object = None, **_kwargs: object) -> bool:  # noqa: ARG002
        """Evaluate the condition for one row in the database."""
        holds = select(self.condition).where(type(obj).id == obj.id)
        return bool(db.session.scalar(holds, current_context().parameters))


class Expandable(fields.Nested):
    """A part of a representation that is null unless the parameter `expand` names it.

    A part with a `ViewerFlag` is also null if the caller is anonymous.
    """

    def __init__(self, nested: Schema, **kwargs: Any) -> None:
        super().__init__(nested, required=True, allow_none=True, **kwargs)
        self.needs_viewer = any(isinstance(field, ViewerFlag) for field in nested.fields.values())

    def is_expanded(self, context: Context) -> bool:
        """Whether the part is included in a context."""
        return self.name in context.expand and not (self.needs_viewer and context.viewer_id is None)

    def serialize(self, attr: str, obj: object, accessor: object = None, **_kwargs: object) -> object:  # noqa: ARG002
        """Return the part, dumped from the same row, or None."""
        return self.schema.dump(obj) if self.is_expanded(current_context()) else None


class ETag(fields.String):
    """A digest of the other members of its schema, except the expandable ones.

    It changes whenever one of them does, whatever the cause: a strong validator (RFC 9110, section 8.8.1). In
    quotes it is the `ETag` of a response without expanded parts.
    """

    def __init__(self) -> None:
        super().__init__(
            required=True,
            metadata={
                "description": "Changes whenever another member does, except `counts` and `viewer`. In "
                "quotes, it is the value for `If-Match`.",
                "example": "66dd19934b89ded40e3a1c1b",
            },
        )

    def serialize(self, attr: str, obj: object, accessor: object = None, **_kwargs: object) -> str:  # noqa: ARG002
        """Return the digest of one row."""
        schema = cast("Schema", self.parent)
        members = {name: field.serialize(name, obj, get_value) for name, field in etag_fields(schema).items()}
        return digest(orjson.dumps(members))


def etag_fields(schema: Schema) -> dict[str, fields.Field[Any]]:
    """Return the fields of a schema that its `ETag` covers."""
    not_covered = (ETag, Expandable)
    return {name: field for name, field in schema.dump_fields.items() if not isinstance(field, not_covered)}


def digest(content: bytes) -> str:
    """Return the first 96 bits of a text's SHA-256 in hexadecimal; the databases can compute it too."""
    return sha256(content).hexdigest()[:DIGEST_LENGTH]
