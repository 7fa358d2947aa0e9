"""The headers of trusted proxies: the caller's address, and the scheme, host and prefix of URLs."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import orjson
import pytest
import yaml
from flask import Flask, request
from flask.testing import FlaskClient

from api.web.proxies import address_of, forwarded_elements
from tests.support.contract import CONTRACT, PREFIX
from tests.support.databases import on_sqlite
from tests.support.factories import PASSWORD, Factory

Proxied = Callable[..., Flask]

UNKNOWN = ""
PROXY = "127.0.0.1"  # The address from which the test client sends its requests.


@pytest.fixture(scope="module")
def proxied(migrated_app: Flask, shared_app: Callable[..., Flask]) -> Proxied:
    """A function that returns the application behind some proxies, with a view of what it sees."""

    def make(proxies: int = 1, **settings: Any) -> Flask:
        made = shared_app(migrated_app.config["DATABASE_URL"], TRUSTED_PROXIES=proxies, **settings)
        if "seen" not in made.view_functions:

            @made.get(f"{PREFIX}/seen")
            def seen() -> dict[str, Any]:
                return {
                    "address": request.remote_addr,
                    "url": f"{request.scheme}://{request.host}{request.root_path}",
                    "path": request.path,
                }

        return made

    return make


@pytest.fixture
def limited(migrated_app: Flask, new_app: Callable[..., Flask]) -> FlaskClient:
    """A client of an application behind a proxy that accepts three reads from an address."""
    settings = {"TRUSTED_PROXIES": 1, "RATE_LIMIT_READS": "3/year"}
    return new_app(migrated_app.config["DATABASE_URL"], **settings).test_client()


def seen(app: Flask, headers: Any, path: str = f"{PREFIX}/seen") -> dict[str, Any]:
    """Return what an application sees of a request."""
    response: Any = app.test_client().get(path, headers=headers)
    found: dict[str, Any] = response.json
    return found


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("192.0.2.1:_port", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:4711", "fe80::1"),
        ("", UNKNOWN),
        ("unknown", UNKNOWN),
        ("unknown:4711", UNKNOWN),
        ("_hidden", UNKNOWN),
        ("-", UNKNOWN),
        ("host.example", UNKNOWN),
        ("192.0.2.1 192.0.2.2", UNKNOWN),
        ("192.0.2.256", UNKNOWN),
        ("192.0.2.01", UNKNOWN),
        ("192.0.2.1:80:80", UNKNOWN),
        ("[2001:db8::1]x", UNKNOWN),
        ("unix:", UNKNOWN),
        ("192.0.2.1/24", UNKNOWN),
    ],
)
def test_an_address_is_parsed_in_every_form(written: str, address: str) -> None:
    assert address_of(written) == address


@on_sqlite
class TestAddress:
    @pytest.mark.parametrize(
        ("proxies", "sent", "address"),
        [
            pytest.param(1, ["192.0.2.1"], "192.0.2.1", id="one"),
            pytest.param(1, ["198.51.100.1, 192.0.2.1"], "192.0.2.1", id="the last"),
            pytest.param(1, ["198.51.100.1", "192.0.2.1"], "192.0.2.1", id="several lines"),
            pytest.param(2, ["198.51.100.1, 192.0.2.1, 10.0.0.1"], "192.0.2.1", id="the last but one"),
            pytest.param(2, ["192.0.2.1"], PROXY, id="too few"),
            pytest.param(1, ['"a', "192.0.2.1"], "192.0.2.1", id="an open quote of the client"),
            pytest.param(1, ["192.0.2.1,"], UNKNOWN, id="an empty one"),
            pytest.param(1, [""], UNKNOWN, id="empty"),
            pytest.param(1, [], PROXY, id="not sent"),
        ],
    )
    def test_is_counted_from_the_right(
        self, proxied: Proxied, proxies: int, sent: list[str], address: str
    ) -> None:
        headers = [("X-Forwarded-For", value) for value in sent]

        assert seen(proxied(proxies), headers)["address"] == address

    @pytest.mark.parametrize(
        ("proxies", "sent", "address"),
        [
            pytest.param(1, ["for=192.0.2.1"], "192.0.2.1", id="an address"),
            pytest.param(1, ["For=192.0.2.1"], "192.0.2.1", id="another case"),
            pytest.param(1, ['for="192.0.2.1:4711"'], "192.0.2.1", id="a port"),
            pytest.param(1, ["for=192.0.2.1:4711"], "192.0.2.1", id="a port without quotes"),
            pytest.param(1, ['for="[2001:db8::1]:4711"'], "2001:db8::1", id="IPv6"),
            pytest.param(1, ['proto=https;for="\\192.0.2.1" ; by=_a'], "192.0.2.1", id="parameters"),
            pytest.param(1, ["for=198.51.100.1, for=192.0.2.1"], "192.0.2.1", id="the last"),
            pytest.param(1, ["for=198.51.100.1", "for=192.0.2.1"], "192.0.2.1", id="several lines"),
            pytest.param(1, ['for="a,b;c\\""', "for=192.0.2.1"], "192.0.2.1", id="a quoted comma"),
            pytest.param(
                2, ["for=198.51.100.1,for=192.0.2.1;proto=https,for=10.0.0.1"], "192.0.2.1", id="two proxies"
            ),
            pytest.param(2, ["for=192.0.2.1"], PROXY, id="too few"),
            pytest.param(1, ["for=192.0.2.1;;"], "192.0.2.1", id="empty parameters"),
            pytest.param(1, ["proto=https"], PROXY, id="no address"),
            pytest.param(1, ["for=unknown"], UNKNOWN, id="unknown"),
            pytest.param(1, ["for=_hidden"], UNKNOWN, id="obfuscated"),
            pytest.param(1, ['for="_gazonk:80"'], UNKNOWN, id="obfuscated, with a port"),
            pytest.param(1, ['for="a', "for=192.0.2.1"], UNKNOWN, id="an open quote of the client"),
            pytest.param(1, ['a="', 'for="[2001:db8::1]"'], UNKNOWN, id="an open quote that is closed"),
            pytest.param(1, ["192.0.2.1"], UNKNOWN, id="no parameter"),
            pytest.param(1, [""], UNKNOWN, id="empty"),
        ],
    )
    def test_is_read_from_forwarded(
        self, proxied: Proxied, proxies: int, sent: list[str], address: str
    ) -> None:
        headers = [("Forwarded", value) for value in sent]

        assert seen(proxied(proxies), headers)["address"] == address

    @pytest.mark.parametrize(
        ("proxies", "plain", "forwarded", "address"),
        [
            pytest.param(1, "192.0.2.1:80", "for=192.0.2.1", "192.0.2.1", id="the same"),
            pytest.param(1, "192.0.2.1", "for=192.0.2.2", UNKNOWN, id="different"),
            pytest.param(1, "192.0.2.1", 'for="192', UNKNOWN, id="malformed"),
            pytest.param(1, "unknown", "for=192.0.2.1", UNKNOWN, id="one unknown"),
            pytest.param(1, "192.0.2.1", "proto=https", "192.0.2.1", id="one without address"),
            pytest.param(2, "192.0.2.1, 10.0.0.1", "for=192.0.2.2", "192.0.2.1", id="Forwarded too short"),
            pytest.param(2, "192.0.2.1", "for=192.0.2.1, for=10.0.0.1", UNKNOWN, id="the other too short"),
        ],
    )
    def test_is_unknown_if_the_headers_differ(
        self, proxied: Proxied, proxies: int, plain: str, forwarded: str, address: str
    ) -> None:
        headers = {"X-Forwarded-For": plain, "Forwarded": forwarded}

        assert seen(proxied(proxies), headers)["address"] == address

    def test_is_that_of_the_connection_without_trusted_proxies(self, proxied: Proxied) -> None:
        headers = {
            "X-Forwarded-For": "192.0.2.1",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "app.example",
            "X-Forwarded-Port": "8443",
            "X-Forwarded-Prefix": "/blog",
            "Forwarded": "for=192.0.2.1",
        }

        found = seen(proxied(0), headers)

        assert (found["address"], found["url"]) == (PROXY, "http://localhost")

    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(("X-Forwarded-For", "203.0.113.6:{}"), id="IPv4 with a port"),
            pytest.param(("X-Forwarded-For", "[2001:db8:7::1]:{}"), id="IPv6 with a port"),
            pytest.param(("X-Forwarded-For", "[2001:db8:7::{}]"), id="IPv6 in brackets"),
            pytest.param(("X-Forwarded-For", '"[2001:db8:7::1]:{}"'), id="IPv6 in quotes"),
            pytest.param(("X-Forwarded-For", "_hidden{}"), id="names"),
            pytest.param(("X-Forwarded-For", '"{}, 203.0.113.6'), id="open quotes"),
            pytest.param(("Forwarded", 'for="203.0.113.6:{}"'), id="Forwarded with a port"),
            pytest.param(("Forwarded", "for=_hidden{}"), id="Forwarded with names"),
            pytest.param(("Forwarded", 'for="{}, for=203.0.113.6'), id="Forwarded with open quotes"),
        ],
    )
    def test_in_any_form_has_one_limit(self, limited: FlaskClient, form: tuple[str, str]) -> None:
        name, value = form

        responses = [
            limited.get(f"{PREFIX}/posts", headers={name: value.format(number)}) for number in range(1, 6)
        ]

        assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]

    def test_chosen_by_a_client_in_the_header_that_proxies_do_not_send_has_one_limit(
        self, limited: FlaskClient
    ) -> None:
        for of_proxy, of_client in (
            (("X-Forwarded-For", "203.0.113.6"), ("Forwarded", "for=192.0.2.{}")),
            (("Forwarded", "for=203.0.113.6"), ("X-Forwarded-For", "192.0.2.{}")),
        ):
            headers = [
                {of_proxy[0]: of_proxy[1], of_client[0]: of_client[1].format(number)} for number in range(5)
            ]
            responses = [limited.get(f"{PREFIX}/posts", headers=sent) for sent in headers]
            assert responses[-1].status_code == 429


@on_sqlite
class TestUrl:
    @pytest.mark.parametrize(
        ("sent", "url"),
        [
            pytest.param({}, "http://localhost", id="nothing"),
            pytest.param({"X-Forwarded-Proto": "https"}, "https://localhost", id="scheme"),
            pytest.param({"X-Forwarded-Proto": "http, HTTPS"}, "https://localhost", id="last scheme"),
            pytest.param({"X-Forwarded-Proto": "ftp"}, "http://localhost", id="another scheme"),
            pytest.param({"X-Forwarded-Host": "app.example"}, "http://app.example", id="host"),
            pytest.param(
                {"X-Forwarded-Host": "a.example, b.example:81"}, "http://b.example:81", id="last host"
            ),
            pytest.param({"X-Forwarded-Host": "[2001:db8::1]:81"}, "http://[2001:db8::1]:81", id="IPv6"),
            pytest.param({"X-Forwarded-Host": "a.example/b"}, "http://localhost", id="path in a host"),
            pytest.param({"X-Forwarded-Host": "a@b.example"}, "http://localhost", id="user in a host"),
            pytest.param({"X-Forwarded-Host": "b.example:"}, "http://localhost", id="no port in a host"),
            pytest.param({"X-Forwarded-Host": ""}, "http://localhost", id="empty host"),
            pytest.param({"Host": "b.example", "X-Forwarded-Port": "81"}, "http://b.example:81", id="port"),
            pytest.param({"X-Forwarded-Port": "80"}, "http://localhost", id="default port"),
            pytest.param({"X-Forwarded-Port": "81a"}, "http://localhost", id="malformed port"),
            pytest.param(
                {"Host": "b.example:82", "X-Forwarded-Port": "81"}, "http://b.example:82", id="two ports"
            ),
            pytest.param({"Host": "@", "X-Forwarded-Port": "81"}, "http://", id="malformed host with a port"),
            pytest.param(
                {"Forwarded": 'for=192.0.2.1;host="app.example:8443";proto=https'},
                "https://app.example:8443",
                id="Forwarded",
            ),
            pytest.param(
                {
                    "Forwarded": "host=other.example;proto=http",
                    "X-Forwarded-Host": "app.example",
                    "X-Forwarded-Proto": "https",
                },
                "https://app.example",
                id="both",
            ),
            pytest.param(
                {
                    "X-Forwarded-Proto": "https",
                    "X-Forwarded-Host": "app.example",
                    "X-Forwarded-Port": "443",
                    "X-Forwarded-Prefix": "/blog/",
                },
                "https://app.example/blog",
                id="all",
            ),
        ],
    )
    def test_is_that_of_the_outermost_proxy(self, proxied: Proxied, sent: dict[str, str], url: str) -> None:
        assert seen(proxied(), sent)["url"] == url

    @pytest.mark.parametrize(
        ("sent", "url"),
        [
            pytest.param("https", "https://localhost", id="one that is handed on"),
            pytest.param("https, http", "https://localhost", id="both"),
            pytest.param("http, https, http", "https://localhost", id="one of the client"),
        ],
    )
    def test_is_that_of_the_outermost_of_two(self, proxied: Proxied, sent: str, url: str) -> None:
        assert seen(proxied(2), {"X-Forwarded-Proto": sent})["url"] == url


@on_sqlite
class TestPrefix:
    @pytest.mark.parametrize(
        ("proxies", "sent", "prefix"),
        [
            (1, "/blog", "/blog"),
            (1, "/blog/", "/blog"),
            (1, "/a/b.c/~d-e_f", "/a/b.c/~d-e_f"),
            (1, "/evil, /blog", "/blog"),
            (2, "/evil, /outer, /inner", "/outer/inner"),
            (2, "/blog", "/blog"),
            (1, "/", ""),
            (1, "", ""),
            (1, "blog", ""),
            (1, "//evil.example", ""),
            (1, "/a//b", ""),
            (1, "/..", ""),
            (1, "/a/./b", ""),
            (1, "https://evil.example/", ""),
            (1, "/a;Domain=evil.example", ""),
            (1, '/a"b', ""),
            (1, "/a>b", ""),
            (1, "/a b", ""),
            (1, "/a?b", ""),
            (1, "/a%0d%0aSet-Cookie:x", ""),
            (1, "/\\evil.example", ""),
            (1, "/é", ""),
        ],
    )
    def test_is_a_path(self, proxied: Proxied, proxies: int, sent: str, prefix: str) -> None:
        found = seen(proxied(proxies), {"X-Forwarded-Prefix": sent})

        assert (found["url"], found["path"]) == (f"http://localhost{prefix}", f"{PREFIX}/seen")

    @pytest.mark.parametrize(
        ("prefix", "path"),
        [
            pytest.param("/blog", f"/blog{PREFIX}/seen", id="not removed by the proxy"),
            pytest.param("/blog", f"{PREFIX}/seen", id="removed by the proxy"),
            pytest.param("/api", f"{PREFIX}/seen", id="removed, the same as a folder of the API"),
            pytest.param("/api", f"/api{PREFIX}/seen", id="not removed, the same as a folder of the API"),
            pytest.param(PREFIX, f"{PREFIX}/seen", id="removed, the same as that of the API"),
        ],
    )
    def test_is_removed_from_the_path(self, proxied: Proxied, prefix: str, path: str) -> None:
        found = seen(proxied(), {"X-Forwarded-Prefix": prefix}, path)

        assert (found["url"], found["path"]) == (f"http://localhost{prefix}", f"{PREFIX}/seen")

    def test_of_another_path_is_not_removed(self, proxied: Proxied) -> None:
        client = proxied().test_client()

        responses = [
            client.get(path, headers={"X-Forwarded-Prefix": "/blog"})
            for path in (f"/blogs{PREFIX}/posts", "/blog", "/blog/nothing")
        ]

        assert [response.status_code for response in responses] == [404] * 3

    @pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "not removed"])
    def test_is_in_all_urls(self, proxied: Proxied, make: Factory, *, is_removed: bool) -> None:
        ann = make.user("ann")
        for _ in range(3):
            make.post(ann)
        client = proxied().test_client()
        headers = {"X-Forwarded-Prefix": "/blog"}
        root = "" if is_removed else "/blog"

        def send(method: str, path: str, **sent: Any) -> Any:
            sent["headers"] = {**headers, **sent.get("headers", {})}
            return client.open(f"{root}{PREFIX}{path}", method=method, **sent)

        posted = send("POST", "/posts", json={"body": "Hello."}, headers=ann.signed_in)
        registered = send(
            "POST", "/users", json={"username": "zoe", "email": "zoe@example.com", "password": PASSWORD}
        )
        listed = send("GET", "/posts?limit=1&author=ann")
        cookie = send("POST", "/tokens?cookie=true", auth=("ann", PASSWORD)).headers["Set-Cookie"]

        assert posted.headers["Location"] == f"/blog{PREFIX}/posts/{posted.json['id']}"
        assert registered.headers["Location"] == f"/blog{PREFIX}/users/zoe"
        links = re.findall("<([^>]*)>", listed.headers["Link"])
        assert len(links) == 2
        assert all(link.startswith(f"/blog{PREFIX}/posts?limit=1&author=ann&cursor=") for link in links)
        assert f"Path=/blog{PREFIX}/tokens" in cookie.split("; ")
        assert "X-Forwarded-Prefix" in listed.headers["Vary"]

    def test_is_not_varied_by_if_there_is_none(self, proxied: Proxied) -> None:
        assert proxied().test_client().get(f"{PREFIX}/posts").headers["Vary"] == "Authorization"

    def test_is_not_part_of_the_path_to_which_the_cookie_is_sent(self, proxied: Proxied) -> None:
        app = proxied(CORS_ORIGINS="https://app.example")
        headers = {"X-Forwarded-Prefix": "/blog", "Origin": "https://app.example"}

        responses = [
            app.test_client().get(f"/blog{PREFIX}{path}", headers=headers) for path in ("/tokens", "/posts")
        ]

        assert ["Access-Control-Allow-Credentials" in response.headers for response in responses] == [
            True,
            False,
        ]

    def test_is_in_the_server_of_the_document(
        self, migrated_app: Flask, new_app: Callable[..., Flask]
    ) -> None:
        client = new_app(migrated_app.config["DATABASE_URL"], TRUSTED_PROXIES=1).test_client()
        headers = {"X-Forwarded-Prefix": "/blog"}

        documents = [
            orjson.loads(client.get("/openapi.json", headers=headers).data),
            yaml.load(client.get("/openapi.yaml", headers=headers).data, yaml.CSafeLoader),
        ]

        [server] = CONTRACT["servers"]
        for document in documents:
            assert document == {**CONTRACT, "servers": [{**server, "url": f"/blog{PREFIX}"}]}
        assert yaml.load(client.get("/openapi.yaml").data, yaml.CSafeLoader) == CONTRACT

    @pytest.mark.parametrize("path", ["/docs", "/problems"])
    def test_is_in_the_links_of_the_pages(self, proxied: Proxied, path: str) -> None:
        client = proxied().test_client()
        headers = {"X-Forwarded-Prefix": "/blog"}

        links = re.findall(r'(?:src|href)="([^"]*)"', client.get(f"/blog{path}", headers=headers).text)

        assert links
        for link in links:
            url = urljoin(f"/blog{path}", link)
            assert url.startswith("/blog/")
            with client.get(url, headers=headers) as found:
                assert found.status_code == 200

    def test_leaves_a_stored_response_to_a_retry(self, proxied: Proxied, make: Factory) -> None:
        client = proxied().test_client()
        sent = {
            "json": {"body": "Hello."},
            "headers": {**make.user().signed_in, "X-Forwarded-Prefix": "/blog", "Idempotency-Key": "a"},
        }

        first, again = (client.post(f"{root}{PREFIX}/posts", **sent) for root in ("", "/blog"))

        assert again.headers["Idempotency-Replayed"] == "true"
        assert (
            again.headers["Location"]
            == first.headers["Location"]
            == f"/blog{PREFIX}/posts/{again.json['id']}"
        )


@on_sqlite
class TestOwnOrigin:
    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            pytest.param({"X-Forwarded-Host": "app.example"}, 200, id="a forwarded host"),
            pytest.param({"Host": "app.example"}, 200, id="a host that is handed on"),
            pytest.param({"Forwarded": "proto=https;host=app.example"}, 200, id="Forwarded"),
            pytest.param(
                {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200, id="nginx's default"
            ),
            pytest.param(
                {"Host": "backend", "Sec-Fetch-Site": "same-site"}, 403, id="another page of the site"
            ),
            pytest.param({"Host": "backend", "Sec-Fetch-Site": "cross-site"}, 403, id="another site"),
            pytest.param({"Host": "backend", "Sec-Fetch-Site": "none"}, 403, id="no page"),
            pytest.param({"Host": "backend"}, 403, id="an old browser behind nginx's default"),
        ],
    )
    def test_is_known_behind_a_proxy(
        self, proxied: Proxied, make: Factory, sent: dict[str, str], status: int
    ) -> None:
        make.user("ann")
        headers = {"Origin": "https://app.example", "X-Forwarded-Proto": "https", **sent}

        response = (
            proxied()
            .test_client()
            .post(f"{PREFIX}/tokens?cookie=true", auth=("ann", PASSWORD), headers=headers)
        )

        assert response.status_code == status
        assert ("Set-Cookie" in response.headers) == (status == 200)


@pytest.mark.parametrize("text", ["for", "=", "for=a b", 'for="a"b', "for=a\tb,", "for==,\x00"])
def test_a_malformed_forwarded_header_has_no_elements(text: str) -> None:
    assert forwarded_elements(text) == []


def test_a_long_forwarded_header_is_parsed_in_linear_time() -> None:
    assert forwarded_elements('for="' + "\\" * 8000) == []
    assert len(forwarded_elements("for=a;" * 1000 + "," * 1000)) == 1001
