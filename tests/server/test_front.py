"""The front: what of HTTP it refuses, and what it tells the application."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask

from api.server import CHUNKS_MAXIMUM, Front, hashing_paths
from api.web.json_body import SIZE_MAXIMUM
from tests.support.contract import PREFIX
from tests.support.server import CHEAP_PASSWORDS, Server, running_server

ZOE = orjson.dumps({"username": "zoe", "email": "zoe@example.com", "password": "9 green horses"})
COMMON = "Host: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
POST = f"POST {PREFIX}/users HTTP/1.1\r\n{COMMON}".encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\nConnection: close\r\n"
GRANIAN = "granian --host 127.0.0.1 --port {port} --http 1 --no-ws --interface"
FACTORY = f"{GRANIAN} rsgi --factory tests.server.echo:front"


def chunk(body: bytes) -> bytes:
    """Return a chunk (RFC 9112, section 7.1); an empty one is the last."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def status_of(response: bytes) -> int:
    """Return the status of a response as it was received."""
    return int(response.split(b" ", 2)[1])


def json_of(response: bytes) -> Any:
    """Return the JSON of a response as it was received."""
    return orjson.loads(response.partition(b"\r\n\r\n")[2])


def assert_received(response: bytes, status: int, code: str) -> None:
    """Assert that a response is a problem document."""
    document = json_of(response)
    assert (status_of(response), document["status"], document["code"]) == (status, status, code)
    assert b"content-type: application/problem+json" in response


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The application that returns its environ, behind the front."""
    with running_server(tmp_path_factory.mktemp("front"), FACTORY.split()) as server:
        yield server


@pytest.fixture(scope="module")
def wsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same application under granian's WSGI."""
    command = f"{GRANIAN} wsgi tests.server.echo:app".split()
    with running_server(tmp_path_factory.mktemp("wsgi"), command) as server:
        yield server


class TestBody:
    def test_may_be_chunked(self, server: Server) -> None:
        response = server.exchange(CHUNKED + chunk(b"[") + chunk(b"]") + chunk(b""))

        assert_received(response, 422, "invalid_input")

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(chunk(ZOE) + b"no size\r\n\r\n", id="wrong size"),
            pytest.param(chunk(ZOE)[:-2] + b"xx" + chunk(b""), id="wrong end of a chunk"),
            pytest.param(chunk(ZOE) + b"0\r\nTrailer: a\r\n\r\n", id="trailer"),
            pytest.param(b"".join(chunk(b" ") for _ in range(CHUNKS_MAXIMUM + 1)), id="many chunks"),
        ],
    )
    def test_in_broken_chunks_is_incomplete(self, server: Server, broken: bytes) -> None:
        response = server.exchange(CHUNKED + broken)

        assert_received(response, 400, "incomplete_body")
        assert server.get(f"{PREFIX}/users/zoe")[0] == 404

    @pytest.mark.parametrize(
        "cut",
        [
            pytest.param(b"Content-Length: 999\r\n\r\n" + ZOE, id="before its length"),
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + ZOE, id="in a chunk"),
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\n" + chunk(ZOE), id="after a chunk"),
        ],
    )
    def test_that_is_cut_is_incomplete(self, server: Server, cut: bytes) -> None:
        response = server.exchange(POST + cut, ends=True)

        assert_received(response, 400, "incomplete_body")
        assert server.get(f"{PREFIX}/users/zoe")[0] == 404

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"Content-Length: %d\r\n\r\n" % (SIZE_MAXIMUM + 1), id="length"),
            pytest.param(
                b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b" " * (SIZE_MAXIMUM + 1)), id="chunk"
            ),
        ],
    )
    def test_beyond_64_kib_is_too_large(self, server: Server, sent: bytes) -> None:
        with server.connect() as client:
            client.sendall(POST + sent)

            assert client.recv(12) == b"HTTP/1.1 413"

    def test_of_exactly_64_kib_is_read(self, server: Server) -> None:
        response = server.exchange(POST + b"Content-Length: %d\r\n\r\n" % SIZE_MAXIMUM + b" " * SIZE_MAXIMUM)

        assert_received(response, 400, "malformed_json")

    def test_that_does_not_arrive_in_time_is_refused(self, tmp_path: Path) -> None:
        with running_server(tmp_path, REQUEST_SECONDS="1") as server:
            response = server.exchange(POST + b"Content-Length: 999\r\n\r\n{")

        assert_received(response, 408, "request_timeout")

    @pytest.mark.parametrize(
        "fields",
        [b"Content-Length: 2\r\nContent-Length: 3\r\n", b"Content-Length: -2\r\n", b"Content-Length: a\r\n"],
    )
    def test_of_an_unclear_length_is_refused(self, server: Server, fields: bytes) -> None:
        assert status_of(server.exchange(POST + fields + b"\r\n{}")) == 400

    def test_with_a_length_and_chunks_ends_the_connection(self, server: Server) -> None:
        sent = CHUNKED.replace(b"Connection: close\r\n", b"Content-Length: 2\r\n") + chunk(b"[]") + chunk(b"")

        response = server.exchange(sent + GET + b"Host: a\r\n\r\n")

        assert response.count(b"HTTP/1.1") == 1

    def test_is_not_awaited_for_a_get(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")

            assert client.recv(12) == b"HTTP/1.1 200"


class TestRequest:
    @pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n", b"Host:\r\n"])
    def test_without_exactly_one_host_is_refused(self, server: Server, hosts: bytes) -> None:
        assert_received(server.exchange(GET + hosts + b"\r\n"), 400, "bad_request")

    def test_of_http_1_0_needs_no_host(self, server: Server) -> None:
        assert status_of(server.exchange(b"GET /livez HTTP/1.0\r\n\r\n")) == 200

    @pytest.mark.parametrize("method", [b"get", b"Get", b"post"])
    def test_has_a_method_in_capitals(self, server: Server, method: bytes) -> None:
        response = server.exchange(method + GET[3:] + b"Host: a\r\n\r\n")

        assert_received(response, 501, "http_501")

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param(b"A: " + b"a" * 17_000 + b"\r\n", id="bytes"),
            pytest.param(b"".join(b"A-%d: a\r\n" % number for number in range(101)), id="number"),
        ],
    )
    def test_has_few_headers(self, server: Server, fields: bytes) -> None:
        assert status_of(server.exchange(GET + b"Host: a\r\n" + fields + b"\r\n")) == 431

    @pytest.mark.parametrize("path", [b"/%ff", b"/%c3%a9", "/é".encode()])
    def test_for_an_unknown_path_is_not_found(self, server: Server, path: bytes) -> None:
        response = server.exchange(GET.replace(b"/livez", path) + b"Host: a\r\n\r\n")

        assert_received(response, 404, "not_found")

    def test_is_not_of_http_2(self, server: Server) -> None:
        # RFC 9113, section 3.4.
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        with server.connect() as client:
            client.sendall(preface)

            received = client.recv(64)

        assert not received or received.startswith(b"HTTP/1.1 400")


class TestResponse:
    def test_to_head_has_no_body(self, server: Server) -> None:
        head, _, body = server.exchange(b"HEAD" + GET[3:] + b"Host: a\r\n\r\n").partition(b"\r\n\r\n")

        assert status_of(head) == 200
        assert b"content-length: 16" in head
        assert body == b""

    def test_304_has_no_body(self, server: Server) -> None:
        path = f"GET {PREFIX}/posts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".encode()
        etag = server.send("GET", f"{PREFIX}/posts")[1]["ETag"].encode()

        head, _, body = server.exchange(path + b"If-None-Match: " + etag + b"\r\n\r\n").partition(b"\r\n\r\n")

        assert status_of(head) == 304
        assert body == b""

    def test_that_the_client_does_not_read_harms_nothing(self, server: Server) -> None:
        for _ in range(50):
            with server.connect() as client:
                client.sendall(b"GET /openapi.yaml HTTP/1.1\r\nHost: a\r\n\r\n")

        assert server.get("/livez")[0] == 200


class TestEnviron:
    """Compares the environ that the front makes with the one of granian's WSGI."""

    @pytest.mark.parametrize(
        "request_line",
        [
            b"GET / HTTP/1.1",
            b"GET /a%20b%2Fc?d=%2F&e HTTP/1.1",
            b"GET /%C3%A9%E2%82%AC?%C3%A9 HTTP/1.1",
            "GET /é?é HTTP/1.1".encode(),
            b"GET //a//b/ HTTP/1.1",
            b"GET http://b/c HTTP/1.1",
            b"POST / HTTP/1.1",
            b"OPTIONS /a HTTP/1.1",
        ],
    )
    def test_is_that_of_a_wsgi_server(self, echo: Server, wsgi: Server, request_line: bytes) -> None:
        sent = request_line + (
            b"\r\nHost: a:1\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nX-A: b, c\r\nX-Empty:\r\n"
            b"Connection: close\r\n\r\nbody"
        )

        ours, theirs = (json_of(server.exchange(sent)) for server in (echo, wsgi))

        for environ in (ours, theirs):
            environ["SERVER_PORT"] = environ["SERVER_PORT"] in {str(echo.port), str(wsgi.port)}
        assert ours == {key: theirs[key] for key in ours}
        names = theirs.keys() - ours.keys() - {*os.environ, *CHEAP_PASSWORDS}
        assert names <= {"GATEWAY_INTERFACE", "SERVER_SOFTWARE", "DATABASE_URL", "PORT", "REMOTE_PORT"}

    def test_has_u_fffd_for_bytes_of_the_path_that_are_not_utf_8(self, echo: Server) -> None:
        path = json_of(echo.exchange(b"GET /%ff HTTP/1.0\r\n\r\n"))["PATH_INFO"]

        assert path.encode("latin-1").decode() == "/\ufffd"

    def test_joins_headers_that_are_repeated(self, echo: Server) -> None:
        environ = json_of(
            echo.exchange(b"GET / HTTP/1.0\r\nX-Forwarded-For: a\r\nX-Forwarded-For: b\r\n\r\n")
        )

        assert environ["HTTP_X_FORWARDED_FOR"] == "a,b"

    def test_has_no_headers_with_an_underscore(self, echo: Server) -> None:
        environ = json_of(echo.exchange(b"GET / HTTP/1.0\r\nX_Forwarded_For: a\r\nX_A: b\r\nX-A: c\r\n\r\n"))

        assert "HTTP_X_FORWARDED_FOR" not in environ
        assert environ["HTTP_X_A"] == "c"

    def test_has_an_empty_value_for_a_header_that_is_not_ascii(self, echo: Server) -> None:
        environ = json_of(echo.exchange(b"GET / HTTP/1.0\r\nIf-Match: \xff\r\nX-Empty:\r\n\r\n"))

        assert environ["HTTP_IF_MATCH"] == ""
        assert environ["HTTP_X_EMPTY"] == ""

    def test_has_the_addresses_of_client_and_server(self, echo: Server) -> None:
        environ = json_of(echo.exchange(b"GET / HTTP/1.0\r\n\r\n"))

        assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("127.0.0.1", "127.0.0.1")

    def test_may_give_a_response_in_pieces(self, echo: Server) -> None:
        assert json_of(echo.exchange(b"GET /generated HTTP/1.0\r\n\r\n")) == {"a": 1}

    def test_outlives_an_application_that_fails(self, echo: Server) -> None:
        assert status_of(echo.exchange(b"GET /exit HTTP/1.0\r\n\r\n")) == 500
        assert status_of(echo.exchange(b"GET / HTTP/1.0\r\n\r\n")) == 200


def test_an_ipv6_address_has_no_brackets(tmp_path: Path) -> None:
    command = FACTORY.replace("127.0.0.1", "::1").split()
    with running_server(tmp_path, command, host="::1") as server:
        environ = json_of(server.exchange(b"GET / HTTP/1.0\r\n\r\n"))

    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("::1", "::1")


def test_operations_that_take_a_password_are_known(migrated_app: Flask) -> None:
    assert hashing_paths(migrated_app) == {
        ("POST", f"{PREFIX}/users"),
        ("PATCH", f"{PREFIX}/me"),
        ("DELETE", f"{PREFIX}/me"),
        ("PUT", f"{PREFIX}/me/password"),
        ("POST", f"{PREFIX}/tokens"),
        ("POST", f"{PREFIX}/password-resets/redeem"),
    }


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("POST", f"{PREFIX}/tokens", True),
        ("POST", f"/blog{PREFIX}/tokens", True),
        ("GET", f"{PREFIX}/tokens", False),
        ("POST", f"{PREFIX}/tokens/refresh", False),
    ],
)
def test_a_password_is_expected_behind_the_prefix_of_a_proxy(
    migrated_app: Flask, method: str, path: str, *, takes: bool
) -> None:
    front = Front(migrated_app)

    assert (front._lane_of(method, path) is front._hashing) == takes


@pytest.mark.parametrize("prefix", ["", "/blog", PREFIX])
def test_reads_in_threads_have_a_lane_for_each_operation_and_one_for_all_other_paths(
    new_app: Any, prefix: str
) -> None:
    front = Front(new_app("postgresql://localhost/none"))
    posts, users, nothing, nowhere = (
        front._lane_of("GET", f"{prefix}{PREFIX}/{path}") for path in ("posts", "users", "nothing", "nowhere")
    )

    assert posts is front._lane_of("GET", f"{PREFIX}/posts")
    assert nothing is nowhere
    assert len({posts, users, nothing}) == 3


@pytest.mark.parametrize(
    ("settings", "methods"),
    [
        ({}, {"GET", "HEAD", "OPTIONS"}),
        ({"RATELIMIT_STORAGE_URL": "redis://localhost"}, set()),
        ({"DATABASE_URL": "postgresql://localhost/a"}, set()),
    ],
)
def test_only_requests_that_cannot_wait_run_in_the_event_loop(
    new_app: Any, new_database_url: Any, settings: dict[str, str], methods: set[str]
) -> None:
    settings = {"DATABASE_URL": new_database_url("sqlite"), **settings}
    app = new_app(settings.pop("DATABASE_URL"), **settings)

    assert Front(app)._methods_in_loop == methods
