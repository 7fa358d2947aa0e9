"""A corpus of bad input: each is refused, and the refusal says what is wrong and nothing else."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer
from werkzeug.test import TestResponse

from api.signing import signed
from tests.contract import ContractClient, operations, resolve
from tests.factories import PASSWORD, Factory, Member
from tests.problems import assert_problem

LARGEST_BODY = 64 * 1024


@dataclass(frozen=True)
class Operation:
    """An operation of the contract."""

    method: str
    path: str
    contract: dict[str, Any]

    @property
    def name(self) -> str:
        """Its operationId."""
        return str(self.contract["operationId"])

    @property
    def example(self) -> dict[str, Any]:
        """The contract's example of its body."""
        example: dict[str, Any] = self._body["example"]
        return example

    @property
    def schema(self) -> dict[str, Any]:
        """The schema of its body."""
        return resolve(self._body["schema"])

    def kind(self, name: str) -> str | list[str]:
        """Return the type, or types, of a member of its body."""
        kind: str | list[str] = self.schema["properties"][name]["type"]
        return kind

    def maximum(self, name: str) -> int:
        """Return the longest text that one of its parameters takes."""
        found = (parameter for parameter in self.contract["parameters"] if parameter["name"] == name)
        maximum: int = next(found)["schema"]["maxLength"]
        return maximum

    @property
    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = self.contract["requestBody"]["content"]["application/json"]
        return body

    def parameters(self, place: str, kind: str) -> list[dict[str, Any]]:
        """Return its parameters in a place (`query` or `path`) that are of a type."""
        return [
            parameter
            for parameter in self.contract["parameters"]
            if parameter["in"] == place and parameter["schema"]["type"] == kind
        ]


def cases(found: Iterable[Operation]) -> list[Any]:
    """Return cases for `parametrize`, each named like its operation."""
    return [pytest.param(operation, id=operation.name) for operation in found]


def cases_with(found: Iterable[tuple[Operation, str]]) -> list[Any]:
    """Return cases for `parametrize` of an operation and one of its members or parameters."""
    return [pytest.param(operation, name, id=f"{operation.name}-{name}") for operation, name in found]


ALL = [Operation(*found) for found in operations()]
WITH_BODY = [operation for operation in ALL if "requestBody" in operation.contract]
WITH_ID = [operation for operation in ALL if operation.parameters("path", "integer")]
WITH_NAME = [operation for operation in ALL if operation.parameters("path", "string")]
LISTS = [operation for operation in ALL if operation.parameters("query", "integer")]
MEMBERS = [(operation, name) for operation in WITH_BODY for name in operation.schema["properties"]]
TEXTS = [(operation, name) for operation, name in MEMBERS if operation.kind(name) == "string"]
NULLABLE = [(operation, name) for operation, name in MEMBERS if operation.kind(name) == ["string", "null"]]
INTEGERS = [(operation, name) for operation, name in MEMBERS if operation.kind(name) == "integer"]
REQUIRED = [(operation, name) for operation, name in MEMBERS if name in operation.schema.get("required", [])]
PATCHES = [operation for operation in WITH_BODY if operation.method == "PATCH"]
OTHERS = [operation for operation in WITH_BODY if operation.method != "PATCH"]
POSTS = [operation for operation in WITH_BODY if operation.method == "POST"]
NAMED = {operation.name: operation for operation in ALL}
CREATE_POST = NAMED["createPost"]
TEXT_PARAMETERS = [
    (operation, parameter["name"])
    for operation in LISTS
    for parameter in operation.parameters("query", "string")
]


class Sender:
    """Sends requests to the contract's operations, for somebody who may, about what is there."""

    def __init__(self, client: ContractClient, caller: Member, post_id: int) -> None:
        self._client = client
        self._caller = caller
        self._existing = {
            "username": caller.username,
            "post_id": str(post_id),
            "token_id": str(caller.session_id),
        }

    def __call__(
        self, operation: Operation, query: str = "", *, instead: str | None = None, **request: Any
    ) -> TestResponse:
        """Send a request to an operation, about what is there or what is written `instead`."""
        path = re.sub(r"{(\w+)}", lambda found: instead or self._existing[found[1]], operation.path)
        headers = {**self._caller.signed_in, **request.pop("headers", {})}
        return self._client.open(path + query, method=operation.method, headers=headers, **request)

    def json(self, operation: Operation, body: bytes) -> TestResponse:
        """Send a body that says it is JSON."""
        return self(operation, data=body, content_type="application/json")

    def chunked(self, operation: Operation, body: bytes) -> TestResponse:
        """Send a body of unsaid length, as a server hands it on."""
        return self(
            operation,
            input_stream=BytesIO(body),
            content_type="application/json",
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )


@pytest.fixture
def send(client: ContractClient, make: Factory) -> Sender:
    """What sends requests for ann, who likes her own post, which zoe answered; they follow each other."""
    ann, zoe = make.user("ann"), make.user("zoe")
    post_id = make.post(ann)
    make.post(zoe, in_reply_to_id=post_id, is_reply=True)
    make.like(ann, post_id)
    make.follow(ann, zoe)
    make.follow(zoe, ann)
    return Sender(client, ann, post_id)


# How many items the lists have then; the others have one.
LENGTHS = {"listPosts": 2, "listUsers": 2, "listFeed": 2}


def padded(value: Any, size: int) -> bytes:
    """Return a value as JSON with as much white space as makes it so many bytes long."""
    return json.dumps(value).encode().ljust(size)


MALFORMED = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "no JSON": b"Hello.",
    "a form": b"body=Hello.",
    "cut off": b'{"body": "Hel',
    "two values": b"{}{}",
    "more after the value": b"{} and so on",
    "a comma too many": b'{"body": "Hello.",}',
    "single quotes": b"{'body': 'Hello.'}",
    "a comment": b'{"body": "Hello."} // Hello.',
    "a member twice": b'{"body": "Hello.", "body": "Hello."}',
    "a member twice, spelt differently": rb'{"body": "Hello.", "\u0062ody": "Hello."}',
    "a nested member twice": b'{"body": {"a": 1, "a": 1}}',
    "a member twice in a list": b'{"body": [{"a": 1, "a": 1}]}',
    "NaN": b'{"body": NaN}',
    "Infinity": b'{"body": Infinity}',
    "-Infinity": b'{"body": -Infinity}',
    "a lone high surrogate": rb'{"body": "\ud83d"}',
    "a lone low surrogate": rb'{"body": "\ude00"}',
    "surrogates in the wrong order": rb'{"body": "\ude00\ud83d"}',
    "a lone surrogate in a name": rb'{"\ud83d": "Hello."}',
    "a surrogate in UTF-8": b'{"body": "\xed\xa0\xbd"}',
    "overlong UTF-8": b'{"body": "\xc0\xaf"}',
    "a raw NUL": b'{"body": "\x00"}',
    "a NUL after the value": b"{}\x00",
    "a raw line break in a text": b'{"body": "Hello.\nHello."}',
    "Latin-1": '{"body": "é"}'.encode("latin-1"),
    "a byte order mark": b'\xef\xbb\xbf{"body": "Hello."}',
    "UTF-16": '{"body": "Hello."}'.encode("utf-16"),
    "UTF-16 without a mark": '{"body": "Hello."}'.encode("utf-16-le"),
    "UTF-32": '{"body": "Hello."}'.encode("utf-32"),
    "deep lists": b'{"body": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep objects": b'{"body": ' * 6_000 + b"1" + b"}" * 6_000,
    "deep lists without an end": b"[" * 60_000,
    "a number of 5,000 digits": b'{"body": ' + b"9" * 5_000 + b"}",
    "a negative number of 5,000 digits": b'{"body": -' + b"9" * 5_000 + b"}",
    "33 members": json.dumps({str(number): 1 for number in range(33)}).encode(),
    "33 nested members": json.dumps({"body": {str(number): 1 for number in range(33)}}).encode(),
}


@pytest.mark.parametrize("operation", cases(WITH_BODY))
class TestBody:
    @pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
    def test_must_be_well_formed(self, send: Sender, operation: Operation, body: bytes) -> None:
        response = send.json(operation, body)

        assert_problem(response, 400, "malformed_json")

    def test_may_be_as_deep_as_one_of_the_parsers_goes(self, send: Sender, operation: Operation) -> None:
        response = send.json(operation, b'{"body": ' + b"[" * 1_000 + b"]" * 1_000 + b"}")

        # The standard library goes as deep since Python 3.12.
        assert response.status_code in {400, 422}

    @pytest.mark.parametrize("body", [b"[]", b'"Hello."', b"1", b"1.5", b"true", b"null", b"[{}]"])
    def test_must_be_an_object(self, send: Sender, operation: Operation, body: bytes) -> None:
        response = send.json(operation, body)

        assert_problem(response, 422, "invalid_input", {"pointer": "", "code": "not_an_object"})

    @pytest.mark.parametrize(
        ("name", "pointer"),
        [
            ("likes", "/likes"),
            ("id", "/id"),
            ("password_hash", "/password_hash"),
            ("", "/"),
            ("a/b", "/a~1b"),
            ("m~n", "/m~0n"),
            ("~1", "/~01"),
            ("a.b", "/a.b"),
            ("naïve 🌱", "/naïve 🌱"),
            ("\0", "/\0"),
            ("_schema", "/_schema"),
        ],
    )
    def test_has_no_unknown_members(
        self, send: Sender, operation: Operation, name: str, pointer: str
    ) -> None:
        response = send(operation, json={**operation.example, name: 1})

        assert_problem(response, 422, "invalid_input", {"pointer": pointer, "code": "unknown_member"})

    @pytest.mark.parametrize(
        "server",
        [
            pytest.param({}, id="a server that does not see it"),
            pytest.param({"wsgi.input_terminated": True}, id="a server that ends the body there"),
        ],
    )
    def test_must_be_as_long_as_it_says(
        self, send: Sender, operation: Operation, server: dict[str, bool]
    ) -> None:
        body = json.dumps(operation.example).encode()

        response = send(
            operation,
            input_stream=BytesIO(body),
            content_type="application/json",
            environ_overrides={"CONTENT_LENGTH": str(len(body) + 1), **server},
        )

        assert_problem(response, 400, "incomplete_body")

    def test_has_at_most_64_kib(self, send: Sender, operation: Operation) -> None:
        response = send.json(operation, padded(operation.example, LARGEST_BODY + 1))

        assert_problem(response, 413, "body_too_large")

    def test_has_at_most_64_kib_where_it_does_not_say_how_long_it_is(
        self, send: Sender, operation: Operation
    ) -> None:
        response = send.chunked(operation, padded(operation.example, LARGEST_BODY + 1))

        assert_problem(response, 413, "body_too_large")

    def test_must_not_even_say_that_it_is_longer(self, send: Sender, operation: Operation) -> None:
        response = send(
            operation,
            json=operation.example,
            environ_overrides={"CONTENT_LENGTH": str(LARGEST_BODY + 1)},
        )

        assert_problem(response, 413, "body_too_large")

    def test_of_100_000_brackets_is_too_large(self, send: Sender, operation: Operation) -> None:
        response = send.chunked(operation, b"[" * 100_000)

        assert_problem(response, 413, "body_too_large")

    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "",
            "json",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/problem+json",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8-sig",
        ],
    )
    def test_must_say_that_it_is_json(
        self, send: Sender, operation: Operation, content_type: str | None
    ) -> None:
        body = json.dumps(operation.example).encode()

        response = send(operation, data=body, content_type=content_type)

        assert_problem(response, 415, "unsupported_media_type")

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
    def test_must_not_be_compressed(self, send: Sender, operation: Operation, encoding: str) -> None:
        response = send(operation, json=operation.example, headers={"Content-Encoding": encoding})

        assert_problem(response, 415, "unsupported_media_type")


def test_every_member_is_text_or_a_whole_number() -> None:
    assert len(TEXTS) + len(NULLABLE) + len(INTEGERS) == len(MEMBERS)


@pytest.mark.parametrize(("operation", "name"), cases_with(INTEGERS))
class TestIntegerMember:
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            pytest.param(None, "null_not_allowed", id="null"),
            pytest.param(0, "out_of_range", id="zero"),
            pytest.param(-1, "out_of_range", id="negative"),
            pytest.param(2**63, "out_of_range", id="2^63"),
            pytest.param(2**70, "out_of_range", id="2^70"),
            pytest.param(1.5, "wrong_type", id="fraction"),
            pytest.param(1.0, "wrong_type", id="decimal"),
            pytest.param(1e300, "wrong_type", id="large number"),
            pytest.param(True, "wrong_type", id="boolean"),
            pytest.param([], "wrong_type", id="list"),
            pytest.param([1], "wrong_type", id="list of a number"),
            pytest.param({}, "wrong_type", id="object"),
            pytest.param("", "wrong_type", id="empty text"),
            pytest.param("one", "wrong_type", id="text"),
            pytest.param("41", "wrong_type", id="digits as text"),
            pytest.param("a\0b", "wrong_type", id="NUL"),
        ],
    )
    def test_must_be_a_whole_number_in_its_range(
        self, send: Sender, operation: Operation, name: str, value: Any, code: str
    ) -> None:
        response = send(operation, json={**operation.example, name: value})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": code})


@pytest.mark.parametrize(("operation", "name"), cases_with(TEXTS))
class TestTextMember:
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            pytest.param(None, "null_not_allowed", id="null"),
            pytest.param(1, "wrong_type", id="integer"),
            pytest.param(2**70, "wrong_type", id="large integer"),
            pytest.param(1.5, "wrong_type", id="number"),
            pytest.param(True, "wrong_type", id="boolean"),
            pytest.param([], "wrong_type", id="list"),
            pytest.param(["Hello."], "wrong_type", id="list of text"),
            pytest.param({}, "wrong_type", id="object"),
            pytest.param("a\0b", "control_character", id="NUL"),
            pytest.param("a\x1b[2Jb", "control_character", id="escape"),
            pytest.param("a\rb", "control_character", id="carriage return"),
            pytest.param("a\x85b", "control_character", id="C1 control character"),
        ],
    )
    def test_must_be_text(
        self,
        send: Sender,
        operation: Operation,
        name: str,
        value: Any,
        code: str,
    ) -> None:
        response = send(operation, json={**operation.example, name: value})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": code})

    @pytest.mark.parametrize("excess", [1, 10_000])
    def test_has_a_maximum_length(self, send: Sender, operation: Operation, name: str, excess: int) -> None:
        value = "é" * (operation.schema["properties"][name]["maxLength"] + excess)

        response = send(operation, json={**operation.example, name: value})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "too_long"})


@pytest.mark.parametrize(("operation", "name"), cases_with(REQUIRED))
class TestRequiredMember:
    def test_must_be_there(self, send: Sender, operation: Operation, name: str) -> None:
        body = {member: value for member, value in operation.example.items() if member != name}

        response = send(operation, json=body)

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "required"})

    @pytest.mark.parametrize("blank", ["", " ", "\n\t", "\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"])
    def test_must_not_be_blank(self, send: Sender, operation: Operation, name: str, blank: str) -> None:
        response = send(operation, json={**operation.example, name: blank})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "blank"})


class TestCreatePost:
    def test_takes_a_body_of_exactly_64_kib(self, send: Sender) -> None:
        response = send.json(CREATE_POST, padded({"body": "Hello."}, LARGEST_BODY))

        assert response.status_code == 201

    def test_takes_a_chunked_body_of_exactly_64_kib(self, send: Sender) -> None:
        response = send.chunked(CREATE_POST, padded({"body": "Hello."}, LARGEST_BODY))

        assert response.status_code == 201

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            'application/json;charset="UTF-8"',
        ],
    )
    def test_takes_json_in_utf_8(self, send: Sender, content_type: str) -> None:
        body = json.dumps({"body": "Grüße 🌱"}, ensure_ascii=False).encode()

        response = send(CREATE_POST, data=body, content_type=content_type)

        assert response.json["body"] == "Grüße 🌱"

    def test_takes_the_encoding_that_is_none(self, send: Sender) -> None:
        response = send(CREATE_POST, json={"body": "Hello."}, headers={"Content-Encoding": "identity"})

        assert response.status_code == 201

    def test_takes_a_pair_of_surrogates(self, send: Sender) -> None:
        response = send.json(CREATE_POST, rb'{"body": "\ud83c\udf31"}')

        assert response.json["body"] == "🌱"


class TestMergePatch:
    @pytest.mark.parametrize("operation", cases(PATCHES))
    def test_is_taken_by_patch(self, send: Sender, operation: Operation) -> None:
        response = send(operation, data=b"{}", content_type="application/merge-patch+json")

        assert response.status_code == 200

    @pytest.mark.parametrize("operation", cases(OTHERS))
    def test_is_not_taken_by_others(self, send: Sender, operation: Operation) -> None:
        body = json.dumps(operation.example).encode()

        response = send(operation, data=body, content_type="application/merge-patch+json")

        assert_problem(response, 415, "unsupported_media_type")


class TestQuery:
    @pytest.mark.parametrize("operation", cases(ALL))
    def test_has_no_unknown_parameters(self, send: Sender, operation: Operation) -> None:
        credentials = ("ann", PASSWORD) if operation.name == "createToken" else None
        body = operation.example if operation in WITH_BODY else None

        response = send(operation, "?offset=1", auth=credentials, json=body)

        assert_problem(response, 422, "invalid_input", {"parameter": "offset", "code": "unknown_parameter"})

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("=1", ""),
            ("a/b=1", "a/b"),
            ("m~n=1", "m~n"),
            ("_schema=1", "_schema"),
            ("LIMIT=1", "LIMIT"),
            ("limit[]=1", "limit[]"),
            ("%00=1", "\0"),
            ("%ff=1", "%FF"),
        ],
    )
    def test_names_an_unknown_parameter_as_it_is(self, send: Sender, query: str, name: str) -> None:
        response = send(NAMED["listPosts"], f"?{query}")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": "unknown_parameter"})


@pytest.mark.parametrize("operation", cases(LISTS))
class TestLimit:
    @pytest.mark.parametrize(
        ("limit", "code"),
        [
            ("0", "out_of_range"),
            ("-1", "out_of_range"),
            ("101", "out_of_range"),
            (str(2**63), "out_of_range"),
            (str(2**70), "out_of_range"),
            (str(-(2**70)), "out_of_range"),
            ("9" * 5_000, "wrong_type"),
            ("", "wrong_type"),
            ("%201", "wrong_type"),
            ("1%20", "wrong_type"),
            ("1%0A", "wrong_type"),
            ("1%00", "wrong_type"),
            ("%2B1", "wrong_type"),
            ("1_0", "wrong_type"),
            ("1.0", "wrong_type"),
            ("1e1", "wrong_type"),
            ("0x1", "wrong_type"),
            ("ten", "wrong_type"),
            ("true", "wrong_type"),
            ("null", "wrong_type"),
            ("\N{ARABIC-INDIC DIGIT ONE}", "wrong_type"),
            ("\N{FULLWIDTH DIGIT ONE}", "wrong_type"),
        ],
    )
    def test_is_a_number_from_1_to_100(
        self, send: Sender, operation: Operation, limit: str, code: str
    ) -> None:
        response = send(operation, f"?limit={limit}")

        assert_problem(response, 422, "invalid_input", {"parameter": "limit", "code": code})

    @pytest.mark.parametrize("limit", [1, 100])
    def test_takes_its_bounds(self, send: Sender, operation: Operation, limit: int) -> None:
        response = send(operation, f"?limit={limit}")

        assert len(response.json["items"]) == min(limit, LENGTHS.get(operation.name, 1))

    def test_is_given_once(self, send: Sender, operation: Operation) -> None:
        response = send(operation, "?limit=1&limit=1")

        assert_problem(response, 422, "invalid_input", {"parameter": "limit", "code": "repeated"})


@pytest.mark.parametrize(("operation", "name"), cases_with(TEXT_PARAMETERS))
class TestTextParameter:
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            ("", "blank"),
            ("%20", "blank"),
            ("%00", "control_character"),
            ("a%00b", "control_character"),
            ("a%0Db", "control_character"),
            ("a%C2%85b", "control_character"),
        ],
    )
    def test_is_printable(
        self,
        send: Sender,
        operation: Operation,
        name: str,
        value: str,
        code: str,
    ) -> None:
        response = send(operation, f"?{name}={value}")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": code})

    @pytest.mark.parametrize("excess", [1, 5_000])
    def test_has_a_maximum_length(
        self,
        send: Sender,
        operation: Operation,
        name: str,
        excess: int,
    ) -> None:
        response = send(operation, f"?{name}={'a' * (operation.maximum(name) + excess)}")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": "too_long"})

    def test_is_given_once(self, send: Sender, operation: Operation, name: str) -> None:
        response = send(operation, f"?{name}=a&{name}=b")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": "repeated"})


@pytest.mark.parametrize("operation", cases(LISTS))
class TestCursor:
    @pytest.mark.parametrize(
        "cursor",
        [
            "a",
            ".",
            "..",
            "a.b",
            "é.é",
            "%ff.%ff",
            "1",
            "WzEsMCw0MV0",
            "WzEsMCw0MV0.",
            ".lLAGmSJWNHiGKZ8gAyvJKN1tzSM",
            "WzEsMCw0MV0.lLAGmSJWNHiGKZ8gAyvJKN1tzSM",
            "A" * 500,
        ],
    )
    def test_of_no_list_is_refused(self, send: Sender, operation: Operation, cursor: str) -> None:
        response = send(operation, f"?cursor={cursor}")

        assert_problem(response, 400, "invalid_cursor")

    @pytest.mark.parametrize("place", [0, 1, -2, "."], ids=["first", "second", "last but one", "signature"])
    def test_that_was_tampered_with_is_refused(
        self, send: Sender, operation: Operation, place: int | str
    ) -> None:
        cursor = send(operation).json["prev_cursor"]
        marks = list(cursor)
        where = marks.index(place) + 1 if isinstance(place, str) else place
        marks[where] = "A" if marks[where] != "A" else "B"

        response = send(operation, f"?cursor={''.join(marks)}")

        assert_problem(response, 400, "invalid_cursor")

    def test_that_somebody_else_signed_is_refused(self, send: Sender, operation: Operation) -> None:
        cursor = URLSafeSerializer("not our secret, not our secret, not our secret").dumps([1, 0, 41])

        response = send(operation, f"?cursor={cursor}")

        assert_problem(response, 400, "invalid_cursor")

    def test_of_other_lists_is_refused(self, send: Sender, operation: Operation) -> None:
        others = [other for other in LISTS if other != operation]
        cursors = [send(other).json["prev_cursor"] for other in others]

        responses = [send(operation, f"?cursor={cursor}") for cursor in cursors]

        assert all(cursors)
        assert len(responses) == len(LISTS) - 1
        for response in responses:
            assert_problem(response, 400, "invalid_cursor")

    def test_must_be_a_cursor_not_a_token(self, send: Sender, operation: Operation) -> None:
        token = send(NAMED["createToken"], auth=("ann", PASSWORD)).json["refresh_token"]

        response = send(operation, f"?cursor={token}")

        assert_problem(response, 400, "invalid_cursor")


@pytest.mark.parametrize("values", [[], [1, 0], [1, 0, 1, 2], [0, 0, 1]], ids=str)
def test_a_cursor_of_another_make_is_refused(app: Flask, client: ContractClient, values: list[int]) -> None:
    with app.app_context():
        cursor = signed("cursor of posts.list_posts by Post.id", values)

    response = client.get(f"/posts?cursor={cursor!s}")

    assert_problem(response, 400, "invalid_cursor")


class TestListUsers:
    @pytest.mark.parametrize(("origin", "target"), [("?q=a", ""), ("", "&q=a")])
    def test_refuses_a_cursor_of_the_list_in_another_order(
        self, send: Sender, origin: str, target: str
    ) -> None:
        cursor = send(NAMED["listUsers"], origin).json["prev_cursor"]

        response = send(NAMED["listUsers"], f"?cursor={cursor}{target}")

        assert_problem(response, 400, "invalid_cursor")


class TestPath:
    @pytest.mark.parametrize("operation", cases(WITH_ID))
    @pytest.mark.parametrize(
        "row_id",
        [
            "0",
            "-1",
            "+1",
            "007",
            "1.0",
            "1e3",
            "1_0",
            "%201",
            "1%0A",
            "1%00",
            "abc",
            "null",
            "\N{ARABIC-INDIC DIGIT ONE}",
            "\N{FULLWIDTH DIGIT ONE}",
            "%ff",
            str(2**31),
            str(2**63 - 1),
            str(2**63),
            str(2**64 + 1),
            str(2**70),
            "9" * 5_000,
        ],
    )
    def test_with_an_id_of_nothing_is_not_found(
        self, send: Sender, operation: Operation, row_id: str
    ) -> None:
        response = send(operation, instead=row_id, json={"body": "Hello."})

        assert_problem(response, 404, "not_found")

    @pytest.mark.parametrize("operation", cases(WITH_NAME))
    @pytest.mark.parametrize(
        "username",
        [
            "bob",
            "%00",
            "ann%00",
            "ann%0A",
            "ann%20",
            "ann%2F",
            "ann%2Fbob",
            "..%2Fann",
            "..",
            "ann%E2%80%AE",
            "%E2%80%8Bann",
            "%D0%B0nn",
            "a%CC%81nn",
            "ann%ff",
            "ann%ED%A0%80",
            "ann%25",
            "ann%27--",
            "an_",
            "an%25",
            "an",
            "1nn",
            "-nn",
            "ann@example.com",
            "a" * 64,
            "a" * 65,
            "a" * 5_000,
        ],
    )
    def test_with_a_name_of_nobody_is_not_found(
        self, send: Sender, operation: Operation, username: str
    ) -> None:
        response = send(operation, instead=username)

        assert_problem(response, 404, "not_found")

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_that_is_unknown_takes_no_large_body_either(self, client: ContractClient, method: str) -> None:
        response = client.open("/nothing", method=method, data=b" " * (LARGEST_BODY + 1))

        assert_problem(response, 413, "body_too_large")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda values: st.lists(values, max_size=5) | st.dictionaries(st.text(), values, max_size=5),
    max_leaves=10,
)


def bodies(operation: Operation) -> st.SearchStrategy[bytes]:
    """Return a strategy for bodies: bytes, JSON, and objects with the members that are asked for."""
    members = {name: JSON_VALUES | st.just(value) for name, value in operation.example.items()}
    objects = st.fixed_dictionaries({}, optional=members)
    return st.binary() | (JSON_VALUES | objects).map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("operation", cases(POSTS))
class TestCreation:
    @given(data=st.data())
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_survives_any_body(self, send: Sender, operation: Operation, data: st.DataObject) -> None:
        body = data.draw(bodies(operation))

        response = send.json(operation, body)

        assert response.status_code < 500
