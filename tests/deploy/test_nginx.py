"""The service behind nginx, with the site in `deploy/nginx` and with a careless configuration."""

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing
from email.message import Message
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import orjson
import pytest
import trustme

from api.config import ROOT
from api.web.problem_types import PROBLEM_TYPES
from benchmarks.restarts import requests_by, site
from tests.support.contract import PREFIX
from tests.support.load import loading
from tests.support.nginx import needs_nginx, running_nginx, running_site
from tests.support.server import UNLIMITED, Server, free_port, running_server
from tests.support.wait import TIMEOUT_SECONDS, wait_until

pytestmark = [pytest.mark.slow, needs_nginx]

PASSWORD = "7 blue bicycles"
CARELESS = """
server {
    listen 127.0.0.1:PORT;
    gzip on;
    gzip_types application/json;
    gzip_proxied any;
    location / { proxy_pass SERVICE; }
    location /kept/ { proxy_pass SERVICE; proxy_set_header X-Forwarded-Prefix /kept; }
    location /ports/ { proxy_pass SERVICE/; proxy_set_header X-Forwarded-For $remote_addr:$remote_port; }
}
"""


class Sites(NamedTuple):
    """The URLs of nginx in front of one service."""

    # With the files in `deploy/nginx`, and a path as in docs/operating.md.
    deployed: str
    careless: str
    # That of `deploy/nginx` without TLS, and its folder for challenges of ACME.
    plain: str
    challenges: str
    # Like `deployed`, in front of a service that does not run.
    broken: str


def documented_path() -> str:  # pragma: no cover -- needs nginx
    """Return the lines of docs/operating.md that serve the API below a path."""
    [block] = re.findall("```nginx\n(.*?)```", (ROOT / "docs" / "operating.md").read_text("utf-8"), re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustme.CA]:  # pragma: no cover
    """A certificate authority that clients trust."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        yield authority


@pytest.fixture(scope="module")
def urls(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[Sites]:  # pragma: no cover
    """A service behind nginx."""
    folder = tmp_path_factory.mktemp("service")
    port = free_port()
    with ExitStack() as stack:
        service = stack.enter_context(running_server(folder, TRUSTED_PROXIES="1", STOP_SECONDS="1"))
        deployed, plain = stack.enter_context(
            running_site(folder / "deployed", authority, service.port, documented_path())
        )
        broken, _ = stack.enter_context(running_site(folder / "broken", authority, free_port()))
        challenges = folder / "deployed" / "acme" / ".well-known" / "acme-challenge"
        challenges.mkdir(parents=True)
        (folder / "careless").mkdir()
        careless = CARELESS.replace("SERVICE", service.url).replace("PORT", str(port))
        stack.enter_context(running_nginx(folder / "careless", port, careless))
        yield Sites(deployed, f"http://127.0.0.1:{port}", plain, str(challenges), broken)


def send(
    url: str, method: str = "GET", json: Any = None, **headers: str
) -> tuple[int, Message, bytes]:  # pragma: no cover
    """Send a request on a connection of its own; return the status, the headers and the body."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if json:
        fields["Content-Type"] = "application/json"
    request = Request(url, json and orjson.dumps(json), fields, method=method)  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return response.status, response.headers, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def basic(name: str, password: str = PASSWORD) -> str:  # pragma: no cover
    """Return the `Authorization` header with a name and a password."""
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def register(url: str, name: str) -> tuple[Message, str]:  # pragma: no cover
    """Register a user below a URL; return the headers of the response, and an `Authorization` header."""
    user = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    status, headers, _ = send(f"{url}{PREFIX}/users", "POST", user)
    assert status == 201
    _, _, pair = send(f"{url}{PREFIX}/tokens", "POST", Authorization=basic(name))
    return headers, f"Bearer {orjson.loads(pair)['access_token']}"


class TestUrls:  # pragma: no cover -- needs nginx
    @pytest.mark.parametrize(
        ("number", "prefix", "name"),
        [(0, "/blog", "ann"), (1, "/kept", "bob")],
        ids=["removed", "not removed"],
    )
    def test_can_be_followed_below_a_path(self, urls: Sites, number: int, prefix: str, name: str) -> None:
        url = urls[number]
        headers, token = register(f"{url}{prefix}", name)
        for body in ("one", "two"):
            _, posted, _ = send(f"{url}{prefix}{PREFIX}/posts", "POST", {"body": body}, Authorization=token)
        _, listed, _ = send(f"{url}{prefix}{PREFIX}/posts?limit=1")

        found = [headers["Location"], posted["Location"], *re.findall("<([^>]*)>", listed["Link"])]

        assert len(found) == 4
        for location in found:
            assert location.startswith(f"{prefix}{PREFIX}/")
            assert send(urljoin(url, location))[0] == 200

    @pytest.mark.parametrize(
        ("number", "prefix"), [(0, "/blog"), (1, "/kept")], ids=["removed", "not removed"]
    )
    def test_of_the_documentation_are_below_the_path(self, urls: Sites, number: int, prefix: str) -> None:
        page = f"{urls[number]}{prefix}/docs"
        _, _, html = send(page)
        links = re.findall(r'(?:src|href)="([^"]*)"', html.decode())

        _, _, document = send(urljoin(page, "openapi.json"))

        assert orjson.loads(document)["servers"][0]["url"] == f"{prefix}{PREFIX}"
        assert links
        assert {send(urljoin(page, link))[0] for link in links} == {200}

    def test_have_no_prefix_that_a_client_chose(self, urls: Sites) -> None:
        _, headers, _ = send(f"{urls[0]}/openapi.json", X_Forwarded_Prefix="/evil")
        _, _, document = send(f"{urls[0]}/openapi.json", X_Forwarded_Prefix="/evil")

        assert orjson.loads(document)["servers"][0]["url"] == PREFIX
        assert "X-Forwarded-Prefix" not in headers.get("Vary", "")


class TestTags:  # pragma: no cover -- needs nginx
    def test_that_compression_made_weak_still_work(self, urls: Sites) -> None:
        _, token = register(urls[1], "cyd")
        _, posted, _ = send(f"{urls[1]}{PREFIX}/posts", "POST", {"body": "Hello."}, Authorization=token)
        post = f"{urls[1]}{posted['Location']}"
        _, headers, _ = send(post, Accept_Encoding="gzip")
        tag = headers["ETag"]

        fresh = send(post, Accept_Encoding="gzip", If_None_Match=tag)[0]
        edited = send(post, "PATCH", {"body": "Bye."}, Authorization=token, If_Match=tag)[0]
        late = send(post, "DELETE", Authorization=token, If_Match=tag)[0]

        assert tag.startswith('W/"')
        assert (fresh, edited, late) == (304, 200, 412)


class TestCookie:  # pragma: no cover -- needs nginx
    @pytest.mark.parametrize(
        ("number", "fetch_site", "status"),
        [
            pytest.param(0, None, 200, id="as deployed"),
            pytest.param(1, "same-origin", 200, id="with the default host"),
            pytest.param(1, "same-site", 403, id="with the default host, from another page of the site"),
        ],
    )
    def test_can_be_set_by_own_pages(
        self, urls: Sites, number: int, fetch_site: str | None, status: int
    ) -> None:
        name = f"dan{number}{status}"
        register(urls[number], name)
        headers = {"Sec_Fetch_Site": fetch_site} if fetch_site else {}

        sent = {"Authorization": basic(name), "Origin": urls[number], **headers}
        found, fields, _ = send(f"{urls[number]}{PREFIX}/tokens?cookie=true", "POST", **sent)

        assert found == status
        assert ("Set-Cookie" in fields) == (status == 200)


class TestLimits:  # pragma: no cover -- needs nginx
    @pytest.mark.parametrize(
        ("number", "path", "header"),
        [
            pytest.param(0, "", {"X_Forwarded_For": "192.0.2.{}"}, id="as deployed"),
            pytest.param(0, "", {"Forwarded": "for=192.0.2.{}"}, id="as deployed, with Forwarded"),
            pytest.param(1, "/ports", {}, id="with ports"),
            pytest.param(1, "/ports", {"Forwarded": "for=192.0.2.{}"}, id="with ports and Forwarded"),
        ],
    )
    def test_cannot_be_evaded(
        self, urls: Sites, number: int, path: str, header: dict[str, str], request: Any
    ) -> None:
        name = f"u{abs(hash(request.node.name)):x}"[:20]
        url = f"{urls[number]}{path}{PREFIX}/tokens"

        statuses = []
        for guess in range(12):
            sent = {key: value.format(guess) for key, value in header.items()}
            statuses.append(send(url, "POST", Authorization=basic(name, "a guess"), **sent)[0])

        assert statuses == [401] * 10 + [429] * 2


def connect(url: str, *protocols: str) -> ssl.SSLSocket:  # pragma: no cover -- needs nginx
    """Open a connection with TLS that offers protocols."""
    address = urlsplit(url)
    context = ssl.create_default_context()
    context.set_alpn_protocols(protocols)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), TIMEOUT_SECONDS)
    return context.wrap_socket(connection, server_hostname=address.hostname)


def ensure_problem(code: str, headers: Message, body: bytes) -> None:  # pragma: no cover -- needs nginx
    """A response of nginx is the problem document that the service would write."""
    problem = orjson.loads(body)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert problem == PROBLEM_TYPES[code].document(problem["request_id"])
    assert re.fullmatch("[0-9a-f]{32}", problem["request_id"])


class TestTLS:  # pragma: no cover -- needs nginx
    def test_offers_http_2(self, urls: Sites) -> None:
        with connect(urls.deployed, "h2", "http/1.1") as connection:
            assert connection.version() == "TLSv1.3"
            assert connection.selected_alpn_protocol() == "h2"

    def test_is_demanded_of_later_requests(self, urls: Sites) -> None:
        _, headers, _ = send(f"{urls.deployed}{PREFIX}/posts")

        assert headers["Strict-Transport-Security"] == "max-age=31536000"

    def test_is_the_only_way_to_the_service(self, urls: Sites) -> None:
        status, headers, body = send(f"{urls.plain}{PREFIX}/posts")

        assert (status, headers["Location"]) == (400, None)
        assert orjson.loads(body)["detail"] == "Use HTTPS."

    def test_certificates_can_be_renewed_without_it(self, urls: Sites) -> None:
        Path(urls.challenges, "a").write_bytes(b"b")

        assert send(f"{urls.plain}/.well-known/acme-challenge/a")[2] == b"b"


class TestCompression:  # pragma: no cover -- needs nginx
    @pytest.mark.parametrize("path", ["/openapi.json", "/docs/rapidoc-min.js"])
    def test_is_used_for_long_responses(self, urls: Sites, path: str) -> None:
        _, headers, _ = send(f"{urls.deployed}{path}", Accept_Encoding="gzip")

        assert headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in ", ".join(headers.get_all("Vary", []))


class TestErrorsOfNginx:  # pragma: no cover -- needs nginx
    @pytest.mark.parametrize(
        ("code", "request_line", "fields"),
        [
            pytest.param("bad_request", "GET / HTTP/1.1", {}, id="no host"),
            pytest.param("bad_request", "GET / HTTP/1.1", {"Host": "a", "X": 10_000 * "x"}, id="long header"),
            pytest.param("bad_request", f"GET /{10_000 * 'x'} HTTP/1.1", {"Host": "a"}, id="long path"),
            pytest.param("bad_request", "TRACE / HTTP/1.1", {"Host": "a"}, id="method"),
            pytest.param("bad_request", "GET / HTTP/3.0", {"Host": "a"}, id="version"),
            pytest.param(
                "bad_request",
                "POST / HTTP/1.1",
                {"Host": "a", "Transfer-Encoding": "x"},
                id="transfer coding",
            ),
            pytest.param("not_found", "GET /.problem HTTP/1.1", {"Host": "a"}, id="internal path"),
            pytest.param(
                "body_too_large", "POST / HTTP/1.1", {"Host": "a", "Content-Length": 200_000}, id="long body"
            ),
        ],
    )
    def test_are_problem_documents(
        self, urls: Sites, code: str, request_line: str, fields: dict[str, Any]
    ) -> None:
        lines = [request_line, *(f"{name}: {value}" for name, value in fields.items()), "Connection: close"]
        address = urlsplit(urls.deployed)
        with closing(HTTPSConnection(str(address.hostname), address.port, timeout=TIMEOUT_SECONDS)) as client:
            client.connect()
            client.send("\r\n".join([*lines, "", ""]).encode())
            response = client.response_class(client.sock)
            response.begin()

            assert response.status == PROBLEM_TYPES[code].status
            ensure_problem(code, response.headers, response.read())

    def test_say_that_the_service_is_not_available(self, urls: Sites) -> None:
        status, headers, body = send(f"{urls.broken}{PREFIX}/posts")

        assert status == 503
        assert headers["Retry-After"] == "2"
        ensure_problem("unavailable", headers, body)

    def test_refuse_the_connection_after_a_hundred_requests_at_once(self, urls: Sites) -> None:
        request = f"POST {PREFIX}/users HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n".encode()

        def attempt(*, is_refused: bool) -> tuple[int, Message, bytes]:
            response = send(f"{urls.deployed}{PREFIX}/posts")
            assert (response[0] == 429) == is_refused
            return response

        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(connect(urls.deployed, "http/1.1")).sendall(request)
            _, headers, body = wait_until(lambda: attempt(is_refused=True))
        wait_until(lambda: attempt(is_refused=False))

        assert headers["Retry-After"] == "1"
        ensure_problem("too_many_requests", headers, body)

    def test_tell_clients_without_tls_that_it_is_needed(self, urls: Sites) -> None:
        status, headers, body = send(urls.deployed.replace("https", "http"))

        assert status == 400
        ensure_problem("bad_request", headers, body)


def test_instances_that_are_restarted_in_turn_fail_no_request(tmp_path: Path) -> None:  # pragma: no cover
    ports, port = [free_port(), free_port()], free_port()
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/microblog.db", "TRUSTED_PROXIES": "1", **UNLIMITED}

    def start(stack: ExitStack, port: int) -> Server:
        folder = tmp_path / str(port)
        folder.mkdir(exist_ok=True)
        return stack.enter_context(running_server(folder, PORT=str(port), **settings))

    with ExitStack() as stack:
        instances = [stack.enter_context(ExitStack()) for _ in ports]
        first, _ = [start(each, own_port) for each, own_port in zip(instances, ports, strict=True)]
        stack.enter_context(running_nginx(tmp_path, port, site(port, ports)))
        with loading(port, requests_by(first.sign_up("ann"))) as running:
            for instance, own_port in zip(instances, ports, strict=True):
                instance.close()
                start(instance, own_port)

    outcome = running.result()
    assert not outcome.failures
    assert len(outcome.latencies) > 50
