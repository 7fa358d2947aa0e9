"""The base classes, field types and messages of the schemas."""

import copy
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields, validate

from api.app import create_app
from api.schemas.base import BaseSchema
from api.schemas.fields import CONTROL_CHARACTER, VISIBLE, Integer, MultilineText, Text, UTCDateTimeField
from api.schemas.messages import Message, invalid
from api.web.operation import operation_of
from tests.conftest import config_for


@pytest.fixture(scope="module")
def service(new_database_url: Any) -> Flask:
    """An application on an empty database."""
    return create_app(config_for(new_database_url("sqlite")))


def request_schemas(app: Flask) -> Iterator[BaseSchema]:
    """Yield the schemas of all bodies and query strings."""
    for view in app.view_functions.values():
        operation = operation_of(view)
        yield from filter(None, (operation.body, operation.query))


class TestRequestSchemas:
    def test_accept_only_booleans_and_bounded_text_and_integers(self, service: Flask) -> None:
        loaded: dict[str, fields.Field[Any]] = {
            f"{type(schema).__name__}.{name}": loaded
            for schema in request_schemas(service)
            for name, loaded in schema.load_fields.items()
            if not isinstance(loaded, fields.Boolean)
        }

        others = [name for name, field in loaded.items() if not isinstance(field, Text | Integer)]
        unbounded = [
            name
            for name, field in loaded.items()
            if not any(getattr(rule, "max", None) for rule in field.validators)
        ]

        assert len(loaded) > 10
        assert not others, "Fields of these types have no known bounds."
        assert not unbounded

    def test_refuse_unknown_members(self, service: Flask) -> None:
        assert {schema.unknown for schema in request_schemas(service)} == {"raise"}


# Characters that NFC composes or decomposes (Latin, Greek, Hangul, Devanagari), and invalid ones.
CHARACTERS = "a\u0301\u03b1\u0313\u0300\u0345\u1100\u1161\u11a8\u0958 \n\x7f"

# Characters that show nothing, of every kind: white space, fillers, joiners, selectors, tags, controls of
# direction, unassigned code points that will be ignorable, and blank characters that no property tells.
NOTHING = (
    " \t\n\u00a0\u1680\u2003\u2028\u3000\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200d\u200f"
    "\u202e\u2060\u2065\u2069\u2800\u2d7f\u3164\ufe00\ufe0f\ufeff\uffa0\ufff0\ufff9\U0001107f\U00013430"
    "\U00013441\U00013442\U00016fe4\U0001bca0\U0001d159\U0001d173\U000e0001\U000e0041\U000e01ef\U000e0fff"
)


class TestText:
    @pytest.mark.parametrize("blank", [False, True])
    @given(
        text=st.text(st.characters() | st.sampled_from(CHARACTERS)),
        maximum=st.integers(1, 8),
    )
    def test_accepts_printable_text_up_to_its_maximum_and_composes_it(
        self, text: str, maximum: int, blank: bool
    ) -> None:
        field = Text(blank=blank, validate=validate.Length(max=maximum))
        composed = unicodedata.normalize("NFC", text)
        fits = (
            len(composed) <= maximum
            and not CONTROL_CHARACTER.search(composed)
            and (blank or VISIBLE.search(composed))
        )

        try:
            loaded = field.deserialize(text)
        except ValidationError:
            loaded = None

        assert field.maximum == maximum
        assert loaded == (composed if fits else None)

    @given(st.text(st.sampled_from(NOTHING), max_size=8))
    def test_that_shows_nothing_is_blank(self, text: str) -> None:
        with pytest.raises(ValidationError) as raised:
            Text(validate=validate.Length(max=8)).deserialize(text)

        (message,) = raised.value.messages
        assert isinstance(message, Message)
        assert message.code == "blank"

    @pytest.mark.parametrize("character", NOTHING)
    def test_of_one_character_that_shows_nothing_is_blank(self, character: str) -> None:
        assert not VISIBLE.search(character)
        assert VISIBLE.search(f"{character}.{character}")

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(".", id="punctuation"),
            pytest.param("\N{COMBINING ACUTE ACCENT}", id="accent without a letter"),
            pytest.param("\N{BRAILLE PATTERN DOTS-1}", id="Braille"),
            pytest.param("\N{HANGUL LETTER KIYEOK}\N{HANGUL FILLER}", id="letter beside a filler"),
            pytest.param("\N{ARABIC NUMBER SIGN}", id="format character that is visible"),
            pytest.param("\N{SNOWMAN}\N{VARIATION SELECTOR-16}", id="emoji with a selector"),
            pytest.param("\N{BLANK SYMBOL}", id="symbol for a blank"),
        ],
    )
    def test_that_shows_something_is_not_blank(self, text: str) -> None:
        assert Text(validate=validate.Length(max=2)).deserialize(text) == text

    @pytest.mark.parametrize("text", ["\U0001fae8", "\U0001f6d8", "\ue000"])
    def test_accepts_characters_that_python_does_not_know(self, text: str) -> None:
        assert Text(validate=validate.Length(max=1)).deserialize(text) == text

    def test_requires_a_maximum_length(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            Text().deserialize("Hello.")


class TestMultilineText:
    @given(lines=st.lists(st.text("ab"), min_size=1), ends=st.data())
    def test_converts_line_ends_before_it_counts(self, lines: list[str], ends: st.DataObject) -> None:
        expected = "\n".join(lines)
        sent = lines[0]
        for line in lines[1:]:
            # LF after CR would be part of the same line end.
            line_ends = ["\r\n", "\r", "\u2028", "\u2029"] + ["\n"] * (not sent.endswith("\r"))
            sent += ends.draw(st.sampled_from(line_ends)) + line

        field = MultilineText(blank=True, validate=validate.Length(max=max(len(expected), 1)))

        assert field.deserialize(sent) == expected

    @pytest.mark.parametrize("value", [1, ["a"], None])
    def test_refuses_other_types(self, value: object) -> None:
        with pytest.raises(ValidationError):
            MultilineText(validate=validate.Length(max=1)).deserialize(value)


class TestMessage:
    def test_is_a_text_with_a_code(self) -> None:
        message = Message("too_long", "Longer than {max}.")

        assert message == "Longer than {max}."
        assert message.code == "too_long"

    def test_has_the_same_code_after_formatting(self) -> None:
        filled = Message("too_long", "Longer than {max}.").format(max=140)

        assert filled == "Longer than 140."
        assert filled.code == "too_long"

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_has_the_same_code_after_copying(self, copied: Any) -> None:
        message = copied({"max": [Message("too_long", "Longer than {max}.")]})["max"][0]

        assert message == "Longer than {max}."
        assert message.code == "too_long"


class TestInvalid:
    def test_returns_an_error_with_a_code(self) -> None:
        [message] = invalid("blank", "Must not be blank.").messages

        assert isinstance(message, Message)
        assert message == "Must not be blank."
        assert message.code == "blank"

    def test_names_a_field(self) -> None:
        [message] = invalid("blank", "Must not be blank.", "body").messages_dict["body"]

        assert message.code == "blank"


class TestInteger:
    @pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1])
    def test_accepts_json_integers(self, value: int) -> None:
        assert Integer().deserialize(value) == value

    @pytest.mark.parametrize("value", [True, 1.0, 1.5, [1], {}, b"1", "1", ""])
    def test_refuses_other_json_values(self, value: object) -> None:
        with pytest.raises(ValidationError):
            Integer().deserialize(value)

    @pytest.mark.parametrize("value", ["0", "-1", "20", str(2**63 - 1)])
    def test_accepts_decimal_digits_in_a_query_string(self, value: str) -> None:
        assert Integer(in_query=True).deserialize(value) == int(value)

    @pytest.mark.parametrize("value", ["1.0", "1_0", "+1", " 1", "", "\N{ARABIC-INDIC DIGIT THREE}"])
    def test_refuses_other_text_in_a_query_string(self, value: str) -> None:
        with pytest.raises(ValidationError):
            Integer(in_query=True).deserialize(value)


class TestUTCDateTimeField:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (datetime(2026, 11, 22, 9, 30, tzinfo=UTC), "2026-11-22T09:30:00.000Z"),
            (datetime(2026, 11, 22, 9, 30, 5, 120_000, tzinfo=UTC), "2026-11-22T09:30:05.120Z"),
            (datetime(2026, 11, 22, 9, 30, 5, 999_999, tzinfo=UTC), "2026-11-22T09:30:05.999Z"),
            (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
            (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
            (None, None),
        ],
    )
    def test_writes_milliseconds_and_z(self, value: datetime | None, expected: str | None) -> None:
        schema = BaseSchema.from_dict({"timestamp": UTCDateTimeField(allow_none=True)})()

        assert schema.dump({"timestamp": value}) == {"timestamp": expected}
