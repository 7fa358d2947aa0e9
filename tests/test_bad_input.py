"""Bad input: each fault is refused with a problem that names it.

Faults that are found in the same way for all operations are tested in full for one of them, and once for
each operation that has such a body, member or parameter. Nearly all are found before a statement is sent, or
cannot depend on the database; those tests run on SQLite only.
"""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer
from werkzeug.test import TestResponse

from api.auth.signing import signed
from tests.operations import OPERATIONS, Operation, cases
from tests.support.contract import ContractClient
from tests.support.databases import no_sql, on_sqlite
from tests.support.factories import Factory
from tests.support.problems import assert_problem
from tests.support.world import World, make_world

LARGEST_BODY = 64 * 1024

# Needs no token, so that its requests are refused before a statement is sent.
CREATE_USER = OPERATIONS["createUser"]
CREATE_POST, UPDATE_POST = OPERATIONS["createPost"], OPERATIONS["updatePost"]
LIST_POSTS, LIST_USERS = OPERATIONS["listPosts"], OPERATIONS["listUsers"]
GET_POST, GET_USER = OPERATIONS["getPost"], OPERATIONS["getUser"]

Send = Callable[..., TestResponse]


@pytest.fixture
def world(make: Factory) -> World:
    """The rows that the operations need."""
    return make_world(make)


@pytest.fixture
def send(client: ContractClient, world: World) -> Send:
    """A function that sends the request of an operation that succeeds, with a fault."""

    def send_request(operation: Operation, query: str = "", **request: Any) -> TestResponse:
        return operation.send(client, world, query, **request)

    return send_request


@pytest.fixture(scope="module")
def fixed_app(shared_app: Callable[..., Flask], new_migrated_database_url: Any) -> Flask:
    """The application on an SQLite database of its own, for requests that change no row."""
    return shared_app(new_migrated_database_url("sqlite"))


@pytest.fixture(scope="module")
def fixed_world(fixed_app: Flask) -> World:
    """The rows that the operations need, inserted once."""
    return make_world(Factory(fixed_app))


@pytest.fixture
def submit(fixed_app: Flask, fixed_world: World) -> Send:
    """A function like `send`, for requests that change no row: they are refused, or only read."""

    def send_request(operation: Operation, query: str = "", **request: Any) -> TestResponse:
        response = operation.send(ContractClient(fixed_app), fixed_world, query, **request)
        assert operation.is_safe or response.status_code >= 400
        return response

    return send_request


@pytest.fixture
def create_user(client: ContractClient) -> Send:
    """A function that sends a request of `createUser`, given the arguments of the test client."""

    def send_request(**request: Any) -> TestResponse:
        return client.post("/users", **request)

    return send_request


def member_cases(*types: Any) -> list[Any]:
    """Return the members of bodies that have one of some JSON types, as parameters of tests."""
    return [
        pytest.param(operation, name, id=f"{operation.name}-{name}")
        for operation in OPERATIONS.values()
        if operation.has_body
        for name, schema in operation.schema["properties"].items()
        if schema["type"] in types
    ]


def required_cases() -> list[Any]:
    """Return the members that bodies must have, as parameters of tests."""
    return [
        case
        for case in member_cases("string", "integer")
        if case.values[1] in case.values[0].schema.get("required", [])
    ]


def parameter_cases() -> list[Any]:
    """Return the text parameters of lists and their longest values, as parameters of tests."""
    return [
        pytest.param(operation, name, found["schema"]["maxLength"], id=f"{operation.name}-{name}")
        for operation in OPERATIONS.values()
        if operation.is_list
        for found in operation.contract["parameters"]
        if found["in"] == "query" and found["schema"]["type"] == "string"
        for name in [found["name"]]
    ]


def path_cases(kind: str) -> list[Any]:
    """Return the path parameters of a JSON type, as parameters of tests."""
    return [
        pytest.param(operation, found["name"], id=operation.name)
        for operation in OPERATIONS.values()
        for found in operation.contract["parameters"]
        if found["in"] == "path" and found["schema"]["type"] == kind
    ]


def padded(value: Any, size: int) -> bytes:
    """Return a value as JSON, followed by as much white space as makes it so many bytes long."""
    return json.dumps(value).encode().ljust(size)


def chunked(body: bytes) -> dict[str, Any]:
    """Return the arguments of a request whose body has no stated length, as a server passes it on."""
    return {
        "input_stream": BytesIO(body),
        "content_type": "application/json",
        "headers": {"Transfer-Encoding": "chunked"},
        "environ_overrides": {"wsgi.input_terminated": True},
    }


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

UNKNOWN_MEMBERS = [
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
]


class TestBody:
    """All faults of bodies, which `createUser` refuses like every operation."""

    @no_sql
    @pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
    def test_must_be_well_formed(self, create_user: Send, body: bytes) -> None:
        response = create_user(data=body, content_type="application/json")

        assert_problem(response, 400, "malformed_json")

    @no_sql
    def test_has_a_maximum_depth_that_depends_on_the_parser(self, create_user: Send) -> None:
        body = b'{"body": ' + b"[" * 1_000 + b"]" * 1_000 + b"}"

        response = create_user(data=body, content_type="application/json")

        # Python's parser accepts as many levels since 3.12.
        assert response.status_code in {400, 422}

    @no_sql
    @pytest.mark.parametrize("body", [b"[]", b'"Hello."', b"1", b"1.5", b"true", b"null", b"[{}]"])
    def test_must_be_an_object(self, create_user: Send, body: bytes) -> None:
        response = create_user(data=body, content_type="application/json")

        assert_problem(response, 422, "invalid_input", {"pointer": "", "code": "not_an_object"})

    @no_sql
    @pytest.mark.parametrize(("name", "pointer"), UNKNOWN_MEMBERS)
    def test_has_no_unknown_members(self, create_user: Send, name: str, pointer: str) -> None:
        response = create_user(json={**CREATE_USER.example, name: 1})

        assert_problem(response, 422, "invalid_input", {"pointer": pointer, "code": "unknown_member"})

    @no_sql
    @pytest.mark.parametrize(
        "environ",
        [
            pytest.param({}, id="a server that does not detect it"),
            pytest.param({"wsgi.input_terminated": True}, id="a server that ends the body there"),
        ],
    )
    def test_must_have_the_stated_length(self, create_user: Send, environ: dict[str, bool]) -> None:
        body = json.dumps(CREATE_USER.example).encode()

        response = create_user(
            input_stream=BytesIO(body),
            content_type="application/json",
            environ_overrides={"CONTENT_LENGTH": str(len(body) + 1), **environ},
        )

        assert_problem(response, 400, "incomplete_body")

    @no_sql
    @pytest.mark.parametrize(
        "request_of_body",
        [
            pytest.param({"data": padded({}, LARGEST_BODY + 1)}, id="with a length"),
            pytest.param(
                {"json": {}, "environ_overrides": {"CONTENT_LENGTH": str(LARGEST_BODY + 1)}},
                id="by its stated length",
            ),
        ],
    )
    def test_has_at_most_64_kib(self, create_user: Send, request_of_body: dict[str, Any]) -> None:
        response = create_user(**{"content_type": "application/json", **request_of_body})

        assert_problem(response, 413, "body_too_large")

    @no_sql
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(padded({}, LARGEST_BODY + 1), id="white space"),
            pytest.param(b"[" * 100_000, id="brackets"),
        ],
    )
    def test_has_at_most_64_kib_if_it_is_chunked(self, create_user: Send, body: bytes) -> None:
        response = create_user(**chunked(body))

        assert_problem(response, 413, "body_too_large")

    @no_sql
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
            "application/merge-patch+json",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8-sig",
        ],
    )
    def test_must_be_declared_as_json(self, create_user: Send, content_type: str | None) -> None:
        body = json.dumps(CREATE_USER.example).encode()

        response = create_user(data=body, content_type=content_type)

        assert_problem(response, 415, "unsupported_media_type")

    @no_sql
    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
    def test_must_not_be_compressed(self, create_user: Send, encoding: str) -> None:
        response = create_user(json=CREATE_USER.example, headers={"Content-Encoding": encoding})

        assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("operation", cases(lambda operation: operation.has_body))
class TestBodyOfEachOperation:
    def test_must_be_well_formed(self, submit: Send, operation: Operation) -> None:
        response = submit(operation, data=b'{"body": "Hel', content_type="application/json")

        assert_problem(response, 400, "malformed_json")

    def test_has_no_unknown_members(self, submit: Send, operation: Operation) -> None:
        response = submit(operation, json={**operation.example, "id": 1})

        assert_problem(response, 422, "invalid_input", {"pointer": "/id", "code": "unknown_member"})

    def test_has_at_most_64_kib(self, submit: Send, operation: Operation) -> None:
        body = padded(operation.example, LARGEST_BODY + 1)

        response = submit(operation, data=body, content_type="application/json")

        assert_problem(response, 413, "body_too_large")

    @on_sqlite
    def test_may_be_a_merge_patch_only_of_a_patch(self, send: Send, operation: Operation) -> None:
        response = send(operation, data=b"{}", content_type="application/merge-patch+json")

        if operation.method == "PATCH":
            assert response.status_code == 200
        else:
            assert_problem(response, 415, "unsupported_media_type")


def test_members_of_bodies_are_texts_or_integers() -> None:
    """The tests of members cover no other types."""
    every_type = {
        str(schema["type"])
        for operation in OPERATIONS.values()
        if operation.has_body
        for schema in operation.schema["properties"].values()
    }

    assert every_type <= {"string", "integer", "['string', 'null']"}


@pytest.mark.parametrize(("operation", "name"), member_cases("integer"))
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
    def test_must_be_an_integer_in_its_range(
        self, submit: Send, operation: Operation, name: str, value: Any, code: str
    ) -> None:
        response = submit(operation, json={**operation.example, name: value})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": code})


class TestText:
    """All faults of texts, which `createUser` refuses in its member `about` like every operation."""

    @no_sql
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
            pytest.param("a\fb", "control_character", id="form feed"),
            pytest.param("a\x85b", "control_character", id="C1 control character"),
            pytest.param("é" * 10_000, "too_long", id="long"),
        ],
    )
    def test_must_be_printable(self, create_user: Send, value: Any, code: str) -> None:
        response = create_user(json={**CREATE_USER.example, "about": value})

        assert_problem(response, 422, "invalid_input", {"pointer": "/about", "code": code})


@pytest.mark.parametrize(("operation", "name"), member_cases("string", ["string", "null"]))
class TestTextMember:
    @pytest.mark.parametrize(("value", "code"), [(1, "wrong_type"), ("a\0b", "control_character")])
    def test_must_be_printable(
        self, submit: Send, operation: Operation, name: str, value: Any, code: str
    ) -> None:
        response = submit(operation, json={**operation.example, name: value})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": code})

    def test_has_a_maximum_length(self, submit: Send, operation: Operation, name: str) -> None:
        value = "é" * (operation.schema["properties"][name]["maxLength"] + 1)

        response = submit(operation, json={**operation.example, name: value})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "too_long"})


@pytest.mark.parametrize(("operation", "name"), member_cases("string"))
def test_a_text_is_not_null(submit: Send, operation: Operation, name: str) -> None:
    response = submit(operation, json={**operation.example, name: None})

    assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "null_not_allowed"})


@pytest.mark.parametrize(("operation", "name"), required_cases())
class TestRequiredMember:
    def test_must_be_present(self, submit: Send, operation: Operation, name: str) -> None:
        body = {member: value for member, value in operation.example.items() if member != name}

        response = submit(operation, json=body)

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "required"})

    @pytest.mark.parametrize(
        "blank",
        [
            "",
            "\n\t\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE} ",
            "\N{HANGUL FILLER}",
            "\N{BRAILLE PATTERN BLANK}\N{VARIATION SELECTOR-16} \N{COMBINING GRAPHEME JOINER}",
        ],
    )
    def test_must_not_be_blank(self, submit: Send, operation: Operation, name: str, blank: str) -> None:
        response = submit(operation, json={**operation.example, name: blank})

        assert_problem(response, 422, "invalid_input", {"pointer": f"/{name}", "code": "blank"})


@on_sqlite
class TestCreatePost:
    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_accepts_a_body_of_exactly_64_kib(self, send: Send, is_chunked: bool, world: World) -> None:
        body = padded({"body": "Hello."}, LARGEST_BODY)
        request: dict[str, Any] = {"data": body, "content_type": "application/json"}
        if is_chunked:
            request = chunked(body)
        headers = {**world.ann.signed_in, **request.pop("headers", {})}

        response = send(CREATE_POST, headers=headers, **request)

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
    def test_accepts_json_in_utf_8(self, send: Send, content_type: str) -> None:
        body = json.dumps({"body": "Grüße 🌱"}, ensure_ascii=False).encode()

        response = send(CREATE_POST, data=body, content_type=content_type)

        assert response.json["body"] == "Grüße 🌱"

    def test_accepts_the_encoding_identity(self, send: Send, world: World) -> None:
        headers = {**world.ann.signed_in, "Content-Encoding": "identity"}

        response = send(CREATE_POST, json={"body": "Hello."}, headers=headers)

        assert response.status_code == 201

    def test_accepts_a_pair_of_surrogates(self, send: Send) -> None:
        body = rb'{"body": "\ud83c\udf31"}'

        response = send(CREATE_POST, data=body, content_type="application/json")

        assert response.json["body"] == "🌱"


class TestQuery:
    @pytest.mark.parametrize("operation", cases())
    def test_has_no_unknown_parameters(self, submit: Send, operation: Operation) -> None:
        response = submit(operation, "?offset=1")

        assert_problem(response, 422, "invalid_input", {"parameter": "offset", "code": "unknown_parameter"})

    @no_sql
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
    def test_is_refused_with_the_name_of_the_unknown_parameter(
        self, client: ContractClient, query: str, name: str
    ) -> None:
        response = client.get(f"/posts?{query}")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": "unknown_parameter"})


class TestLimit:
    @no_sql
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
    def test_is_an_integer_from_1_to_100(self, client: ContractClient, limit: str, code: str) -> None:
        response = client.get(f"/posts?limit={limit}")

        assert_problem(response, 422, "invalid_input", {"parameter": "limit", "code": code})


@pytest.mark.parametrize("operation", cases(lambda operation: operation.is_list))
class TestLimitOfEachList:
    @pytest.mark.parametrize("limit", [0, 101])
    def test_is_from_1_to_100(self, submit: Send, operation: Operation, limit: int) -> None:
        response = submit(operation, f"?limit={limit}")

        assert_problem(response, 422, "invalid_input", {"parameter": "limit", "code": "out_of_range"})

    def test_may_be_1_or_100(self, submit: Send, operation: Operation) -> None:
        one, all_items = (submit(operation, f"?limit={limit}").json["items"] for limit in (1, 100))

        assert one == all_items[:1]
        assert one

    def test_is_given_once(self, submit: Send, operation: Operation) -> None:
        response = submit(operation, "?limit=1&limit=1")

        assert_problem(response, 422, "invalid_input", {"parameter": "limit", "code": "repeated"})


@no_sql
@pytest.mark.parametrize("name", ["q", "author"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "blank"),
        ("%20", "blank"),
        ("%00", "control_character"),
        ("a%00b", "control_character"),
        ("a%0Db", "control_character"),
        ("a%C2%85b", "control_character"),
        ("a" * 5_000, "too_long"),
    ],
)
def test_a_text_parameter_is_printable(client: ContractClient, name: str, value: str, code: str) -> None:
    response = client.get(f"/posts?{name}={value}")

    assert_problem(response, 422, "invalid_input", {"parameter": name, "code": code})


@pytest.mark.parametrize(("operation", "name", "maximum"), parameter_cases())
class TestTextParameterOfEachList:
    @pytest.mark.parametrize(("value", "code"), [("%20", "blank"), ("a%00b", "control_character")])
    def test_is_printable(
        self, submit: Send, operation: Operation, name: str, maximum: int, value: str, code: str
    ) -> None:
        response = submit(operation, f"?{name}={value}")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": code})

    def test_has_a_maximum_length(self, submit: Send, operation: Operation, name: str, maximum: int) -> None:
        response = submit(operation, f"?{name}={'a' * (maximum + 1)}")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": "too_long"})

    def test_is_given_once(self, submit: Send, operation: Operation, name: str, maximum: int) -> None:
        response = submit(operation, f"?{name}=a&{name}=b")

        assert_problem(response, 422, "invalid_input", {"parameter": name, "code": "repeated"})


class TestCursor:
    @no_sql
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
    def test_must_be_signed(self, client: ContractClient, cursor: str) -> None:
        response = client.get(f"/posts?cursor={cursor}")

        assert_problem(response, 400, "invalid_cursor")

    @no_sql
    def test_must_be_signed_with_the_key_of_the_service(self, client: ContractClient) -> None:
        cursor = URLSafeSerializer("not our secret, not our secret, not our secret").dumps([1, 0, 41])

        response = client.get(f"/posts?cursor={cursor!s}")

        assert_problem(response, 400, "invalid_cursor")

    @no_sql
    @pytest.mark.parametrize("values", [[], [1, 0], [1, 0, 1, 2], [0, 0, 1]], ids=str)
    def test_must_have_the_values_of_a_cursor(
        self, app: Flask, client: ContractClient, values: list[int]
    ) -> None:
        with app.app_context():
            cursor = signed("cursor of posts.list_posts by Post.id", values)

        response = client.get(f"/posts?cursor={cursor!s}")

        assert_problem(response, 400, "invalid_cursor")

    @pytest.mark.parametrize("place", [0, 1, -2, "."], ids=["first", "second", "last but one", "signature"])
    def test_must_not_be_changed(self, submit: Send, place: int | str) -> None:
        cursor = submit(LIST_POSTS).json["prev_cursor"]
        characters = list(cursor)
        index = characters.index(place) + 1 if isinstance(place, str) else place
        characters[index] = "A" if characters[index] != "A" else "B"

        response = submit(LIST_POSTS, f"?cursor={''.join(characters)}")

        assert_problem(response, 400, "invalid_cursor")

    @pytest.mark.parametrize(("origin", "target"), [("?q=a", ""), ("", "&q=a")])
    def test_must_be_of_the_same_order_of_the_list(self, submit: Send, origin: str, target: str) -> None:
        cursor = submit(LIST_USERS, origin).json["prev_cursor"]

        response = submit(LIST_USERS, f"?cursor={cursor}{target}")

        assert_problem(response, 400, "invalid_cursor")


@pytest.mark.parametrize("operation", cases(lambda operation: operation.is_list))
class TestCursorOfEachList:
    def test_must_be_signed(self, submit: Send, operation: Operation) -> None:
        response = submit(operation, "?cursor=WzEsMCw0MV0.lLAGmSJWNHiGKZ8gAyvJKN1tzSM")

        assert_problem(response, 400, "invalid_cursor")

    def test_must_be_of_the_same_list(self, submit: Send, operation: Operation) -> None:
        others = [other for other in OPERATIONS.values() if other.is_list and other != operation]
        cursors = [submit(other).json["prev_cursor"] for other in others]

        responses = [submit(operation, f"?cursor={cursor}") for cursor in cursors]

        assert all(cursors)
        assert responses
        for response in responses:
            assert_problem(response, 400, "invalid_cursor")

    def test_must_not_be_a_token(self, submit: Send, fixed_world: World, operation: Operation) -> None:
        response = submit(operation, f"?cursor={fixed_world.refresh_token}")

        assert_problem(response, 400, "invalid_cursor")


class TestPath:
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
            str(2**64 + 1),
            str(2**70),
            "9" * 5_000,
        ],
    )
    def test_has_ids_in_canonical_form(self, submit: Send, row_id: str) -> None:
        response = submit(GET_POST, parameters={"post_id": row_id})

        assert_problem(response, 404, "not_found")

    @pytest.mark.parametrize(("operation", "name"), path_cases("integer"))
    @pytest.mark.parametrize("row_id", [0, 2**63])
    def test_of_each_operation_with_an_id_out_of_range_is_not_found(
        self, submit: Send, operation: Operation, name: str, row_id: int
    ) -> None:
        response = submit(operation, parameters={name: row_id})

        assert_problem(response, 404, "not_found")

    @pytest.mark.parametrize(("operation", "name"), path_cases("integer"))
    @pytest.mark.parametrize("row_id", [2**31, 2**63 - 1])
    def test_of_each_operation_with_an_id_of_no_row_is_not_found(
        self, send: Send, operation: Operation, name: str, row_id: int
    ) -> None:
        response = send(operation, parameters={name: row_id})

        assert_problem(response, 404, "not_found")

    @pytest.mark.parametrize(
        "username",
        [
            "zoe",
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
    def test_has_usernames_that_are_matched_exactly(self, send: Send, username: str) -> None:
        response = send(GET_USER, parameters={"username": username})

        assert_problem(response, 404, "not_found")

    @pytest.mark.parametrize(("operation", "name"), path_cases("string"))
    @pytest.mark.parametrize("username", ["zoe", "ann%00"])
    def test_of_each_operation_with_an_unknown_username_is_not_found(
        self, send: Send, operation: Operation, name: str, username: str
    ) -> None:
        response = send(operation, parameters={name: username})

        assert_problem(response, 404, "not_found")

    @no_sql
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_that_is_unknown_has_the_same_limit_of_bodies(self, client: ContractClient, method: str) -> None:
        response = client.open("/nothing", method=method, data=b" " * (LARGEST_BODY + 1))

        assert_problem(response, 413, "body_too_large")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda values: st.lists(values, max_size=5) | st.dictionaries(st.text(), values, max_size=5),
    max_leaves=10,
)


def bodies(operation: Operation) -> st.SearchStrategy[bytes]:
    """Return a strategy for bodies: bytes, JSON values, and objects with the members of the operation."""
    members = {name: JSON_VALUES | st.just(value) for name, value in operation.example.items()}
    objects = st.fixed_dictionaries({}, optional=members)
    return st.binary() | (JSON_VALUES | objects).map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize(
    "operation", cases(lambda operation: operation.has_body and operation.method == "POST")
)
class TestCreation:
    @given(data=st.data())
    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_never_fails_with_a_server_error(
        self, send: Send, operation: Operation, data: st.DataObject
    ) -> None:
        body = data.draw(bodies(operation))

        response = send(operation, data=body, content_type="application/json")

        assert response.status_code < 500
