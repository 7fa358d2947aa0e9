"""What all schemas share."""

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
from api.endpoint import operation_of
from api.schema import CONTROL_CHARACTER, BaseSchema, Fault, Integer, MomentField, Text
from tests.conftest import config_for


@pytest.fixture(scope="module")
def service(new_database_url: Any) -> Flask:
    """The application; its database stays empty."""
    return create_app(config_for(new_database_url("sqlite")))


def request_schemas(app: Flask) -> Iterator[BaseSchema]:
    """Give every schema that a route loads its body or its query with."""
    for view in app.view_functions.values():
        operation = operation_of(view)
        yield from filter(None, (operation.body, operation.query))


class TestRequestSchemas:
    def test_take_nothing_but_truth_values_text_and_whole_numbers_within_bounds(self, service: Flask) -> None:
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
        assert not others, "What bounds these?"
        assert not unbounded

    def test_refuse_what_they_do_not_know(self, service: Flask) -> None:
        assert {schema.unknown for schema in request_schemas(service)} == {"raise"}


# What composes and decomposes: Latin, Greek, Hangul, Devanagari; and what is refused.
MARKS = "a\u0301\u03b1\u0313\u0300\u0345\u1100\u1161\u11a8\u0958 \n\x7f"

# Control and format characters, and spaces; not what Python does not know yet, such as new emoji.
INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}


class TestText:
    @pytest.mark.parametrize("blank", [False, True])
    @given(
        text=st.text(st.characters() | st.sampled_from(MARKS)),
        maximum=st.integers(1, 8),
    )
    def test_is_composed_printable_and_no_longer_than_its_maximum(
        self, text: str, maximum: int, blank: bool
    ) -> None:
        field = Text(blank=blank, validate=validate.Length(max=maximum))
        composed = unicodedata.normalize("NFC", text)
        fits = (
            len(composed) <= maximum
            and not CONTROL_CHARACTER.search(composed)
            and (blank or any(unicodedata.category(mark) not in INVISIBLE for mark in composed))
        )

        try:
            loaded = field.deserialize(text)
        except ValidationError:
            loaded = None

        assert field.maximum == maximum
        assert loaded == (composed if fits else None)

    @pytest.mark.parametrize("text", ["\U0001fae8", "\U0001f6d8", "\ue000"])
    def test_is_not_blank_for_being_newer_than_the_service(self, text: str) -> None:
        assert Text(validate=validate.Length(max=1)).deserialize(text) == text

    def test_without_a_maximum_is_not_loaded(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            Text().deserialize("Hello.")


class TestFault:
    def test_is_its_text_with_a_code(self) -> None:
        fault = Fault("too_long", "Longer than {max}.")

        assert fault == "Longer than {max}."
        assert fault.code == "too_long"

    def test_keeps_its_code_when_it_is_filled_in(self) -> None:
        filled = Fault("too_long", "Longer than {max}.").format(max=140)

        assert filled == "Longer than 140."
        assert filled.code == "too_long"

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_keeps_its_code_when_it_is_copied(self, copied: Any) -> None:
        fault = copied({"max": [Fault("too_long", "Longer than {max}.")]})["max"][0]

        assert fault == "Longer than {max}."
        assert fault.code == "too_long"


class TestInteger:
    @pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1])
    def test_is_loaded_from_a_number(self, value: int) -> None:
        assert Integer().deserialize(value) == value

    @pytest.mark.parametrize("value", [True, 1.0, 1.5, [1], {}, b"1", "1", ""])
    def test_is_loaded_from_nothing_else(self, value: object) -> None:
        with pytest.raises(ValidationError):
            Integer().deserialize(value)

    @pytest.mark.parametrize("value", ["0", "-1", "20", str(2**63 - 1)])
    def test_is_loaded_from_its_digits_where_it_is_written(self, value: str) -> None:
        assert Integer(written=True).deserialize(value) == int(value)

    @pytest.mark.parametrize("value", ["1.0", "1_0", "+1", " 1", "", "\N{ARABIC-INDIC DIGIT THREE}"])
    def test_is_loaded_from_nothing_but_digits_where_it_is_written(self, value: str) -> None:
        with pytest.raises(ValidationError):
            Integer(written=True).deserialize(value)


class TestMomentField:
    @pytest.mark.parametrize(
        ("moment", "written"),
        [
            (datetime(2026, 11, 22, 9, 30, tzinfo=UTC), "2026-11-22T09:30:00.000Z"),
            (datetime(2026, 11, 22, 9, 30, 5, 120_000, tzinfo=UTC), "2026-11-22T09:30:05.120Z"),
            (datetime(2026, 11, 22, 9, 30, 5, 999_999, tzinfo=UTC), "2026-11-22T09:30:05.999Z"),
            (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
            (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
            (None, None),
        ],
    )
    def test_writes_milliseconds_and_z(self, moment: datetime | None, written: str | None) -> None:
        schema = BaseSchema.from_dict({"moment": MomentField(allow_none=True)})()

        assert schema.dump({"moment": moment}) == {"moment": written}
