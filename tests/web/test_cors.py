"""Cross-origin requests, preflights, and the token cookie.

Headers and cookies are the same on both databases: the tests run on SQLite only.
"""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import Factory

APP = "https://app.example"
OTHER_SITE = "https://other.example"
CORS_ORIGINS = f"{APP}, http://localhost:5173"
EXPOSED = {
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "X-Request-Id",
    "Idempotency-Replayed",
}
PREFLIGHT = {
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,content-type,if-match,idempotency-key",
}
# Headers that tracing libraries add to the requests of a page.
TRACE_HEADERS = {
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
    "b3",
    "x-b3-traceid",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "elastic-apm-traceparent",
    "newrelic",
    "request-id",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
}
APP_ORIGINS = [
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "http://tauri.localhost",
    "app://obsidian.md",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
]
# Origins, and the status of a request from each that sets or sends the token cookie.
ORIGINS = [
    pytest.param(None, 200, id="no header"),
    pytest.param(APP, 200, id="an allowed origin"),
    pytest.param("http://localhost", 200, id="its own origin"),
    pytest.param("http://localhost:8080", 403, id="another port"),
    pytest.param("https://localhost", 403, id="another scheme"),
    pytest.param(OTHER_SITE, 403, id="another site"),
    pytest.param("null", 403, id="an opaque origin"),
    pytest.param("", 403, id="an empty origin"),
]

Shared = Callable[..., Flask]


@pytest.fixture
def shared(app: Flask, shared_app: Callable[..., Flask]) -> Shared:
    """A function that returns an application which allows two origins, on the same database."""

    def make(**settings: Any) -> Flask:
        return shared_app(app.config["DATABASE_URL"], **{"CORS_ORIGINS": CORS_ORIGINS, **settings})

    return make


def items(header: str) -> set[str]:
    """Return the items of a header that is a list."""
    return set(header.split(", "))


@on_sqlite
class TestResponse:
    @pytest.mark.parametrize("origin", [APP, "http://localhost:5173"])
    def test_allows_the_configured_origins(self, shared: Shared, origin: str) -> None:
        response = ContractClient(shared()).get("/posts", headers={"Origin": origin})

        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert items(response.headers["Access-Control-Expose-Headers"]) == EXPOSED
        assert "Origin" in items(response.headers["Vary"])
        assert "Access-Control-Allow-Credentials" not in response.headers

    @pytest.mark.parametrize(
        "origin",
        [OTHER_SITE, "null", "", f"{APP}.other.example", f"{APP}:8443", "http://app.example", "*", None],
    )
    def test_does_not_allow_other_origins(self, shared: Shared, origin: str | None) -> None:
        headers = {} if origin is None else {"Origin": origin}

        response = ContractClient(shared()).get("/posts", headers=headers)

        assert response.status_code == 200
        assert "Origin" in items(response.headers["Vary"])
        assert not [name for name in response.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118 -- iteration gives pairs.

    @pytest.mark.parametrize("origin", APP_ORIGINS)
    def test_allows_apps_and_browser_extensions(self, shared: Shared, origin: str) -> None:
        client = ContractClient(shared(CORS_ORIGINS=",".join(APP_ORIGINS)))

        response = client.get("/posts", headers={"Origin": origin})
        other = client.get("/posts", headers={"Origin": f"{origin}x"})

        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Access-Control-Allow-Origin" not in other.headers

    def test_allows_no_origin_by_default(self, client: ContractClient) -> None:
        response = client.get("/posts", headers={"Origin": APP})

        assert "Origin" not in items(response.headers["Vary"])
        assert "Access-Control-Allow-Origin" not in response.headers

    @pytest.mark.parametrize(
        ("method", "path", "sent", "status"),
        [
            pytest.param("GET", "/me", {}, 401, id="not signed in"),
            pytest.param("GET", "/nothing", {}, 404, id="unknown path"),
            pytest.param("PUT", "/posts", {}, 405, id="unknown method"),
            pytest.param("POST", "/users", {"data": b"a" * 70_000}, 413, id="too large"),
            pytest.param("GET", "/posts?limit=0", {}, 422, id="invalid"),
        ],
    )
    def test_of_a_problem_can_be_read(
        self, shared: Shared, method: str, path: str, sent: dict[str, Any], status: int
    ) -> None:
        client = ContractClient(shared())

        response = client.open(path, method=method, headers={"Origin": APP}, **sent)

        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert items(response.headers["Access-Control-Expose-Headers"]) == EXPOSED

    def test_of_a_refused_request_can_be_read(self, app: Flask, new_app: Callable[..., Flask]) -> None:
        settings = {"CORS_ORIGINS": CORS_ORIGINS, "RATE_LIMIT_READS": "1/year"}
        client = ContractClient(new_app(app.config["DATABASE_URL"], **settings))

        responses = [client.get("/posts", headers={"Origin": APP}) for _ in range(2)]

        assert [response.status_code for response in responses] == [200, 429]
        assert responses[1].headers["Access-Control-Allow-Origin"] == APP

    def test_of_an_internal_error_can_be_read(self, app: Flask, new_app: Callable[..., Flask]) -> None:
        failing = new_app(app.config["DATABASE_URL"], CORS_ORIGINS=CORS_ORIGINS)

        @failing.get(f"{PREFIX}/view")
        def view() -> Any:
            raise RuntimeError

        response = failing.test_client().get(f"{PREFIX}/view", headers={"Origin": APP})

        assert response.status_code == 500
        assert response.headers["Access-Control-Allow-Origin"] == APP

    @pytest.mark.parametrize(
        ("path", "is_allowed"),
        [
            ("/tokens", True),
            ("/tokens/refresh", True),
            ("/tokens/current", True),
            ("/tokensoup", False),
            ("/me", False),
            ("/users", False),
        ],
    )
    def test_allows_credentials_only_below_the_path_of_the_cookie(
        self, shared: Shared, path: str, is_allowed: bool
    ) -> None:
        response = ContractClient(shared()).post(path, headers={"Origin": APP})

        assert ("Access-Control-Allow-Credentials" in response.headers) == is_allowed


@on_sqlite
class TestPreflight:
    @pytest.mark.parametrize("path", ["/posts/1", "/tokens", "/nothing"])
    def test_is_cacheable_for_a_day(self, shared: Shared, path: str) -> None:
        response = shared().test_client().options(PREFIX + path, headers={"Origin": APP, **PREFLIGHT})

        assert response.status_code == 204
        assert response.data == b""
        assert "Content-Type" not in response.headers
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert {"PATCH", "DELETE", "PUT"} < items(response.headers["Access-Control-Allow-Methods"])
        allowed = {name.lower() for name in items(response.headers["Access-Control-Allow-Headers"])}
        assert set(PREFLIGHT["Access-Control-Request-Headers"].split(",")) < allowed
        assert response.headers["Access-Control-Max-Age"] == "86400"
        assert "Origin" in items(response.headers["Vary"])

    @pytest.mark.parametrize("path", ["/posts", "/tokens"])
    def test_allows_the_headers_of_tracing_libraries(self, shared: Shared, path: str) -> None:
        response = shared().test_client().options(PREFIX + path, headers={"Origin": APP, **PREFLIGHT})

        allowed = {name.lower() for name in items(response.headers["Access-Control-Allow-Headers"])}
        assert allowed >= TRACE_HEADERS
        # Allows all others, unless cookies are sent (Fetch standard, CORS-preflight fetch).
        assert "*" in allowed
        assert {"authorization", "x-requested-with", "cache-control"} < allowed

    def test_from_another_origin_allows_nothing(self, shared: Shared) -> None:
        response = (
            shared().test_client().options(f"{PREFIX}/posts", headers={"Origin": OTHER_SITE, **PREFLIGHT})
        )

        assert response.status_code == 204
        assert "Access-Control-Allow-Origin" not in response.headers

    def test_has_a_request_method(self, shared: Shared) -> None:
        response = shared().test_client().options(f"{PREFIX}/posts", headers={"Origin": APP})

        assert response.status_code == 200
        assert "GET" in response.headers["Allow"]
        assert response.headers["Access-Control-Allow-Origin"] == APP


def test_a_preflight_uses_neither_the_database_nor_a_rate_limit(
    new_app: Callable[..., Flask], tmp_path: Any
) -> None:
    app = new_app(f"sqlite:///{tmp_path}", CORS_ORIGINS=APP, RATE_LIMIT_READS="1/year")
    headers = {"Origin": APP, **PREFLIGHT}

    responses = [app.test_client().options(f"{PREFIX}/posts", headers=headers) for _ in range(3)]

    assert [response.status_code for response in responses] == [204] * 3
    assert not any("RateLimit" in response.headers for response in responses)


@on_sqlite
class TestTokenCookie:
    def sign_in(self, client: ContractClient, **kwargs: Any) -> Any:
        """Request tokens, with the refresh token in a cookie."""
        return client.post("/tokens?cookie=true", auth=("ann", "9 green horses"), **kwargs)

    def refresh(self, client: ContractClient, **kwargs: Any) -> Any:
        """Refresh the tokens with the cookie, which the test client sends over HTTP too."""
        return client.post("/tokens/refresh", json={}, **kwargs)

    @pytest.fixture
    def browser(self, shared: Shared, make: Factory) -> ContractClient:
        """A client that stores cookies, of an application that has the user ann."""
        make.user("ann")
        return ContractClient(shared())

    def test_cannot_be_used_by_scripts_and_other_sites(self, browser: ContractClient) -> None:
        response = self.sign_in(browser)

        name, _, rest = response.headers["Set-Cookie"].partition("=")
        token, *attributes = rest.split("; ")
        assert name == "refresh_token"
        assert len(token) > 40
        assert set(attributes) == {
            "HttpOnly",
            "Secure",
            "SameSite=Strict",
            f"Path={PREFIX}/tokens",
            "Max-Age=2592000",
        }
        assert response.json["refresh_token"] is None
        assert token not in response.text

    @pytest.mark.parametrize("query", ["", "?cookie=false"])
    def test_is_set_only_on_request(self, browser: ContractClient, query: str) -> None:
        response = browser.post(f"/tokens{query}", auth=("ann", "9 green horses"))

        assert "Set-Cookie" not in response.headers
        assert response.json["refresh_token"]

    @pytest.mark.parametrize("value", ["1", "yes", "True", ""])
    def test_has_a_boolean_parameter(self, browser: ContractClient, value: str) -> None:
        response = browser.post(f"/tokens?cookie={value}", auth=("ann", "9 green horses"))

        assert response.status_code == 422
        assert response.json["errors"][0]["parameter"] == "cookie"

    @pytest.mark.parametrize("body", [{}, {"refresh_token": None}])
    def test_refreshes_the_tokens_and_itself(self, browser: ContractClient, body: dict[str, Any]) -> None:
        first = self.sign_in(browser)

        second = browser.post("/tokens/refresh", json=body, headers={"Origin": APP})
        third = browser.post("/tokens/refresh", json=body, headers={"Origin": APP})

        cookies = [response.headers["Set-Cookie"] for response in (first, second, third)]
        assert (second.status_code, third.status_code) == (200, 200)
        assert second.json["refresh_token"] is None
        assert len(set(cookies)) == 3
        headers = {"Authorization": f"Bearer {third.json['access_token']}"}
        assert browser.get("/me", headers=headers).json["username"] == "ann"

    def test_is_not_set_if_the_token_is_in_the_body(self, browser: ContractClient) -> None:
        self.sign_in(browser)
        pair = browser.post("/tokens", auth=("ann", "9 green horses"))

        response = browser.post("/tokens/refresh", json={"refresh_token": pair.json["refresh_token"]})

        assert response.json["refresh_token"]
        assert "Set-Cookie" not in response.headers

    @pytest.mark.parametrize("cookie", [None, "", "nonsense", "é"])
    def test_must_be_valid(self, browser: ContractClient, cookie: str | None) -> None:
        headers = {} if cookie is None else {"Cookie": f"refresh_token={cookie}"}

        response = self.refresh(browser, headers=headers)

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"

    @pytest.mark.parametrize(("origin", "status"), ORIGINS)
    def test_is_set_only_for_allowed_origins(
        self, browser: ContractClient, origin: str | None, status: int
    ) -> None:
        response = self.sign_in(browser, headers={} if origin is None else {"Origin": origin})

        pair = browser.post("/tokens", auth=("ann", "9 green horses"), headers={"Origin": OTHER_SITE})
        signed_in = {"Authorization": f"Bearer {pair.json['access_token']}"}
        sessions = browser.get("/tokens", headers=signed_in).json["items"]
        assert response.status_code == status
        assert ("Set-Cookie" in response.headers) == (status == 200)
        assert response.json.get("code", "origin_not_allowed") == "origin_not_allowed"
        assert len(sessions) == (3 if status == 200 else 2)  # Of the factory, of the pair, and this one.

    @pytest.mark.parametrize(("origin", "status"), ORIGINS)
    def test_authenticates_only_allowed_origins(
        self, browser: ContractClient, origin: str | None, status: int
    ) -> None:
        self.sign_in(browser)

        response = self.refresh(browser, headers={} if origin is None else {"Origin": origin})

        assert response.status_code == status
        assert ("Set-Cookie" in response.headers) == (status == 200)
        assert response.json.get("code", "origin_not_allowed") == "origin_not_allowed"

    @pytest.mark.parametrize("origin", ["capacitor://localhost", "chrome-extension://abcdefghijklmnop"])
    def test_is_refused_to_apps_which_can_read_why(self, shared: Shared, make: Factory, origin: str) -> None:
        make.user("ann")
        app = ContractClient(shared(CORS_ORIGINS=origin))

        in_cookie = self.sign_in(app, headers={"Origin": origin})
        refreshed = self.refresh(app, headers={"Origin": origin, "Cookie": "refresh_token=a"})
        in_body = app.post("/tokens", auth=("ann", "9 green horses"), headers={"Origin": origin})

        assert [response.status_code for response in (in_cookie, refreshed, in_body)] == [403, 403, 200]
        assert in_cookie.json["code"] == refreshed.json["code"] == "origin_not_allowed"
        assert "Set-Cookie" not in in_cookie.headers
        assert in_body.json["refresh_token"]
        for response in (in_cookie, refreshed, in_body):
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert response.headers["Access-Control-Allow-Credentials"] == "true"

    def test_is_accepted_from_its_own_origin_behind_a_proxy(self, shared: Shared, make: Factory) -> None:
        make.user("ann")
        browser = ContractClient(shared(TRUSTED_PROXIES=1))
        self.sign_in(browser)

        headers = {"Origin": "https://localhost", "X-Forwarded-Proto": "https"}
        response = self.refresh(browser, headers=headers)

        assert response.status_code == 200

    def test_is_removed_on_sign_out(self, browser: ContractClient) -> None:
        pair = self.sign_in(browser)
        headers = {"Authorization": f"Bearer {pair.json['access_token']}"}

        response = browser.delete("/tokens/current", headers=headers)

        assert response.headers["Set-Cookie"].startswith("refresh_token=; ")
        assert {"Max-Age=0", f"Path={PREFIX}/tokens"} < set(response.headers["Set-Cookie"].split("; "))
        assert self.refresh(browser).status_code == 401

    def test_is_not_removed_if_it_was_not_sent(self, browser: ContractClient) -> None:
        pair = browser.post("/tokens", auth=("ann", "9 green horses"))
        headers = {"Authorization": f"Bearer {pair.json['access_token']}"}

        response = browser.delete("/tokens/current", headers=headers)

        assert response.status_code == 204
        assert "Set-Cookie" not in response.headers
