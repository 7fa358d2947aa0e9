"""Deprecated parts of the API: responses have the headers, and the contract has the flag."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from marshmallow import fields, validate

from api.config import API_PREFIX
from api.contract.deprecation import Deprecation, deprecated
from api.contract.endpoint import accepts, returns
from api.contract.openapi import document
from api.schemas.base import BaseSchema, QuerySchema, RepresentationSchema
from api.schemas.fields import Text

FIRST = Deprecation(sunset=date(2027, 9, 1), since=date(2027, 3, 1))
SECOND = Deprecation(sunset=date(2027, 12, 1), since=date(2027, 3, 1))
FIRST_HEADERS = ("@1803859200", "Wed, 01 Sep 2027 00:00:00 GMT")
SECOND_HEADERS = ("@1803859200", "Wed, 01 Dec 2027 00:00:00 GMT")
METADATA = {"description": "A text.", "example": "a"}


class NoteQuery(QuerySchema):
    """Parameters, one of them deprecated."""

    new = Text(validate=validate.Length(max=9), metadata=METADATA)
    old = Text(validate=validate.Length(max=9), metadata={**METADATA, "deprecated": SECOND})


class NoteCreateSchema(BaseSchema):
    """Input, with a deprecated member."""

    new = Text(validate=validate.Length(max=9), metadata=METADATA)
    old = Text(validate=validate.Length(max=9), metadata={**METADATA, "deprecated": FIRST})


class NoteSchema(RepresentationSchema):
    """A representation."""

    text = fields.String(required=True, metadata=METADATA)


class OldPartSchema(RepresentationSchema):
    """A part with a deprecated member."""

    old = fields.String(required=True, metadata={**METADATA, "deprecated": SECOND})


class OldNoteSchema(RepresentationSchema):
    """A representation whose parts have a deprecated member."""

    parts = fields.List(fields.Nested(OldPartSchema()), required=True, metadata=METADATA)


@pytest.fixture
def app(new_migrated_app: Callable[..., Flask]) -> Flask:
    """An application with operations that have deprecated parts."""
    notes = Blueprint("notes", __name__)

    @notes.get("/notes")
    @accepts(NoteQuery(), location="query")
    @returns(NoteSchema())
    def list_notes(_query: Any) -> Any:
        """List notes."""
        return {"text": "a"}

    @notes.post("/notes")
    @accepts(NoteCreateSchema())
    @returns(NoteSchema())
    def create_note(_fields: Any) -> Any:
        """Create a note."""
        return {"text": "a"}

    @notes.get("/notes/old")
    @returns(OldNoteSchema())
    def get_old_note() -> Any:
        """Get a note with a deprecated member."""
        return {"parts": [{"old": "a"}]}

    @notes.delete("/notes")
    @deprecated(since=FIRST.since, sunset=FIRST.sunset)
    @returns()
    def delete_notes() -> None:
        """Delete all notes."""

    app = new_migrated_app("sqlite")
    app.register_blueprint(notes, url_prefix=API_PREFIX)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that does not check responses: the operations are not in openapi.yaml."""
    return app.test_client()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        pytest.param("GET", "/notes?new=a", None, (None, None), id="nothing"),
        pytest.param("GET", "/notes?old=a", None, SECOND_HEADERS, id="a parameter"),
        pytest.param("POST", "/notes", {"new": "a"}, (None, None), id="no deprecated member"),
        pytest.param("POST", "/notes", {"old": "a"}, FIRST_HEADERS, id="a member of the body"),
        pytest.param("GET", "/notes/old", None, SECOND_HEADERS, id="a member of the response"),
        pytest.param("DELETE", "/notes", None, FIRST_HEADERS, id="an operation"),
    ],
)
def test_responses_announce_what_will_be_removed(
    client: FlaskClient, method: str, path: str, body: Any, headers: tuple[str | None, str | None]
) -> None:
    response = client.open(API_PREFIX + path, method=method, json=body)

    assert response.status_code in {200, 204}
    assert (response.headers.get("Deprecation"), response.headers.get("Sunset")) == headers


def test_the_contract_marks_what_will_be_removed(app: Flask) -> None:
    contract = document(app)

    operations, schemas = contract["paths"]["/notes"], contract["components"]["schemas"]
    flags = {
        each["name"]: each.get("deprecated") for each in operations["get"]["parameters"] if "name" in each
    }
    assert flags == {"new": None, "old": True}
    assert operations["delete"]["deprecated"] is True
    assert "deprecated" not in operations["get"]
    assert schemas["NoteCreate"]["properties"]["old"]["deprecated"] is True
    assert schemas["OldPart"]["properties"]["old"]["deprecated"] is True
    assert "deprecated" not in schemas["NoteCreate"]["properties"]["new"]
    for operation in (operations["get"], operations["post"], operations["delete"]):
        success = next(iter(operation["responses"].values()))
        assert {"Deprecation", "Sunset"} <= success["headers"].keys()


def test_the_part_that_is_removed_first_counts() -> None:
    assert min(SECOND, FIRST) is FIRST
