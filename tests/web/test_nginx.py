"""The service behind nginx, as docs/operating.md configures it and with a careless configuration."""

import re
from base64 import b64encode
from collections.abc import Iterator
from email.message import Message
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import orjson
import pytest

from api.config import ROOT
from tests.support.contract import PREFIX
from tests.support.nginx import needs_nginx, running_nginx
from tests.support.server import running_server
from tests.support.wait import TIMEOUT_SECONDS

pytestmark = [pytest.mark.slow, needs_nginx]

PASSWORD = "7 blue bicycles"
CARELESS = """
    gzip on;
    gzip_types application/json;
    gzip_proxied any;
    location / { proxy_pass SERVICE; }
    location /kept/ { proxy_pass SERVICE; proxy_set_header X-Forwarded-Prefix /kept; }
    location /ports/ { proxy_pass SERVICE/; proxy_set_header X-Forwarded-For $remote_addr:$remote_port; }
"""


def documented() -> str:  # pragma: no cover -- needs nginx
    """Return the configuration in docs/operating.md."""
    [block] = re.findall("```nginx\n(.*?)```", (ROOT / "docs" / "operating.md").read_text("utf-8"), re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:  # pragma: no cover
    """The URLs of nginx as documented, and with a careless configuration, in front of one service."""
    folder = tmp_path_factory.mktemp("service")
    with running_server(folder, TRUSTED_PROXIES="1", STOP_SECONDS="1") as service:
        settings = documented().replace("http://127.0.0.1:8000", service.url)
        careless = CARELESS.replace("SERVICE", service.url)
        with (
            running_nginx(folder / "documented", settings) as first,
            running_nginx(folder / "careless", careless) as second,
        ):
            yield first, second


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
    def test_can_be_followed_below_a_path(
        self, urls: tuple[str, str], number: int, prefix: str, name: str
    ) -> None:
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
    def test_of_the_documentation_are_below_the_path(
        self, urls: tuple[str, str], number: int, prefix: str
    ) -> None:
        page = f"{urls[number]}{prefix}/docs"
        _, _, html = send(page)
        links = re.findall(r'(?:src|href)="([^"]*)"', html.decode())

        _, _, document = send(urljoin(page, "openapi.json"))

        assert orjson.loads(document)["servers"][0]["url"] == f"{prefix}{PREFIX}"
        assert links
        assert {send(urljoin(page, link))[0] for link in links} == {200}

    def test_have_no_prefix_that_a_client_chose(self, urls: tuple[str, str]) -> None:
        _, headers, _ = send(f"{urls[0]}/openapi.json", X_Forwarded_Prefix="/evil")
        _, _, document = send(f"{urls[0]}/openapi.json", X_Forwarded_Prefix="/evil")

        assert orjson.loads(document)["servers"][0]["url"] == PREFIX
        assert "X-Forwarded-Prefix" not in headers.get("Vary", "")


class TestTags:  # pragma: no cover -- needs nginx
    def test_that_compression_made_weak_still_work(self, urls: tuple[str, str]) -> None:
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
            pytest.param(0, None, 200, id="as documented"),
            pytest.param(1, "same-origin", 200, id="with the default host"),
            pytest.param(1, "same-site", 403, id="with the default host, from another page of the site"),
        ],
    )
    def test_can_be_set_by_own_pages(
        self, urls: tuple[str, str], number: int, fetch_site: str | None, status: int
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
            pytest.param(0, "", {"X_Forwarded_For": "192.0.2.{}"}, id="as documented"),
            pytest.param(0, "", {"Forwarded": "for=192.0.2.{}"}, id="as documented, with Forwarded"),
            pytest.param(1, "/ports", {}, id="with ports"),
            pytest.param(1, "/ports", {"Forwarded": "for=192.0.2.{}"}, id="with ports and Forwarded"),
        ],
    )
    def test_cannot_be_evaded(
        self, urls: tuple[str, str], number: int, path: str, header: dict[str, str], request: Any
    ) -> None:
        name = f"u{abs(hash(request.node.name)):x}"[:20]
        url = f"{urls[number]}{path}{PREFIX}/tokens"

        statuses = []
        for guess in range(12):
            sent = {key: value.format(guess) for key, value in header.items()}
            statuses.append(send(url, "POST", Authorization=basic(name, "a guess"), **sent)[0])

        assert statuses == [401] * 10 + [429] * 2
