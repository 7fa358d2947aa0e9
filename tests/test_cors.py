"""Pages of other origins: which may call, and what they may see."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.contract import PREFIX, ContractClient
from tests.factories import Factory

APP = "https://app.example"
STRANGER = "https://stranger.example"
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
# Where a page may be, and how it is answered if a token cookie is its business.
PAGES = [
    pytest.param(None, 200, id="no page"),
    pytest.param(APP, 200, id="an allowed origin"),
    pytest.param("http://localhost", 200, id="its own origin"),
    pytest.param("http://localhost:8080", 403, id="another port"),
    pytest.param("https://localhost", 403, id="another scheme"),
    pytest.param(STRANGER, 403, id="a stranger"),
    pytest.param("null", 403, id="no origin"),
    pytest.param("", 403, id="an empty origin"),
]

Shared = Callable[..., Flask]


@pytest.fixture
def shared(app: Flask, new_app: Callable[..., Flask]) -> Shared:
    """A function that makes a service for two other origins, on the same database."""

    def make(**settings: Any) -> Flask:
        origins = f"{APP}, http://localhost:5173"
        return new_app(app.config["DATABASE_URL"], **{"CORS_ORIGINS": origins, **settings})

    return make


def words(header: str) -> set[str]:
    """Return the words of a list."""
    return set(header.split(", "))


class TestAnswer:
    @pytest.mark.parametrize("origin", [APP, "http://localhost:5173"])
    def test_is_for_the_origins_of_the_list(self, shared: Shared, origin: str) -> None:
        response = ContractClient(shared()).get("/posts", headers={"Origin": origin})

        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert words(response.headers["Access-Control-Expose-Headers"]) == EXPOSED
        assert "Origin" in words(response.headers["Vary"])
        assert "Access-Control-Allow-Credentials" not in response.headers

    @pytest.mark.parametrize(
        "origin",
        [STRANGER, "null", "", f"{APP}.stranger.example", f"{APP}:8443", "http://app.example", "*", None],
    )
    def test_is_for_no_others(self, shared: Shared, origin: str | None) -> None:
        headers = {} if origin is None else {"Origin": origin}

        response = ContractClient(shared()).get("/posts", headers=headers)

        assert response.status_code == 200
        assert "Origin" in words(response.headers["Vary"])
        assert not [name for name in response.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118 -- pairs.

    def test_is_for_nobody_elses_pages_unless_told_so(self, client: ContractClient) -> None:
        response = client.get("/posts", headers={"Origin": APP})

        assert "Origin" not in words(response.headers["Vary"])
        assert "Access-Control-Allow-Origin" not in response.headers

    @pytest.mark.parametrize(
        ("method", "path", "sent", "status"),
        [
            pytest.param("GET", "/me", {}, 401, id="not signed in"),
            pytest.param("GET", "/nothing", {}, 404, id="at no address"),
            pytest.param("PUT", "/posts", {}, 405, id="by no method"),
            pytest.param("POST", "/users", {"data": b"a" * 70_000}, 413, id="too large"),
            pytest.param("GET", "/posts?limit=0", {}, 422, id="not valid"),
        ],
    )
    def test_that_is_a_problem_can_be_read_too(
        self, shared: Shared, method: str, path: str, sent: dict[str, Any], status: int
    ) -> None:
        client = ContractClient(shared())

        response = client.open(path, method=method, headers={"Origin": APP}, **sent)

        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert words(response.headers["Access-Control-Expose-Headers"]) == EXPOSED

    def test_that_there_were_too_many_requests_can_be_read_too(self, shared: Shared) -> None:
        client = ContractClient(shared(RATE_LIMIT_READS="1/year"))

        responses = [client.get("/posts", headers={"Origin": APP}) for _ in range(2)]

        assert [response.status_code for response in responses] == [200, 429]
        assert responses[1].headers["Access-Control-Allow-Origin"] == APP

    def test_that_the_service_failed_can_be_read_too(self, shared: Shared) -> None:
        app = shared()

        @app.get(f"{PREFIX}/view")
        def view() -> Any:
            raise RuntimeError

        response = app.test_client().get(f"{PREFIX}/view", headers={"Origin": APP})

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
    def test_may_be_to_a_cookie_only_where_there_is_one(
        self, shared: Shared, path: str, is_allowed: bool
    ) -> None:
        response = ContractClient(shared()).post(path, headers={"Origin": APP})

        assert ("Access-Control-Allow-Credentials" in response.headers) == is_allowed


class TestPreflight:
    @pytest.mark.parametrize("path", ["/posts/1", "/tokens", "/nothing"])
    def test_is_answered_for_a_day(self, shared: Shared, path: str) -> None:
        response = shared().test_client().options(PREFIX + path, headers={"Origin": APP, **PREFLIGHT})

        assert response.status_code == 204
        assert response.data == b""
        assert "Content-Type" not in response.headers
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert {"PATCH", "DELETE", "PUT"} < words(response.headers["Access-Control-Allow-Methods"])
        allowed = {name.lower() for name in words(response.headers["Access-Control-Allow-Headers"])}
        assert set(PREFLIGHT["Access-Control-Request-Headers"].split(",")) < allowed
        assert response.headers["Access-Control-Max-Age"] == "86400"
        assert "Origin" in words(response.headers["Vary"])

    def test_of_a_stranger_allows_nothing(self, shared: Shared) -> None:
        response = (
            shared().test_client().options(f"{PREFIX}/posts", headers={"Origin": STRANGER, **PREFLIGHT})
        )

        assert response.status_code == 204
        assert "Access-Control-Allow-Origin" not in response.headers

    def test_needs_neither_the_database_nor_a_unit_of_a_limit(
        self, new_app: Callable[..., Flask], tmp_path: Any
    ) -> None:
        app = new_app(f"sqlite:///{tmp_path}", CORS_ORIGINS=APP, RATE_LIMIT_READS="1/year")
        headers = {"Origin": APP, **PREFLIGHT}

        responses = [app.test_client().options(f"{PREFIX}/posts", headers=headers) for _ in range(3)]

        assert [response.status_code for response in responses] == [204] * 3
        assert not any("RateLimit" in response.headers for response in responses)

    def test_is_what_asks_for_a_method(self, shared: Shared) -> None:
        response = shared().test_client().options(f"{PREFIX}/posts", headers={"Origin": APP})

        assert response.status_code == 200
        assert "GET" in response.headers["Allow"]
        assert response.headers["Access-Control-Allow-Origin"] == APP


class TestTokenCookie:
    def sign_in(self, client: ContractClient, **kwargs: Any) -> Any:
        """Ask for tokens, the refresh token in a cookie."""
        return client.post("/tokens?cookie=true", auth=("ann", "9 green horses"), **kwargs)

    def refresh(self, client: ContractClient, **kwargs: Any) -> Any:
        """Renew what is in the cookie, which the test client sends over HTTP too."""
        return client.post("/tokens/refresh", json={}, **kwargs)

    @pytest.fixture
    def browser(self, shared: Shared, make: Factory) -> ContractClient:
        """A client that keeps cookies, of a service where there is ann."""
        make.user("ann")
        return ContractClient(shared())

    def test_is_out_of_reach_of_scripts_and_other_sites(self, browser: ContractClient) -> None:
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
    def test_is_set_for_who_wants_it(self, browser: ContractClient, query: str) -> None:
        response = browser.post(f"/tokens{query}", auth=("ann", "9 green horses"))

        assert "Set-Cookie" not in response.headers
        assert response.json["refresh_token"]

    @pytest.mark.parametrize("value", ["1", "yes", "True", ""])
    def test_is_asked_for_in_one_way(self, browser: ContractClient, value: str) -> None:
        response = browser.post(f"/tokens?cookie={value}", auth=("ann", "9 green horses"))

        assert response.status_code == 422
        assert response.json["errors"][0]["parameter"] == "cookie"

    @pytest.mark.parametrize("body", [{}, {"refresh_token": None}])
    def test_renews_the_tokens_and_itself(self, browser: ContractClient, body: dict[str, Any]) -> None:
        first = self.sign_in(browser)

        second = browser.post("/tokens/refresh", json=body, headers={"Origin": APP})
        third = browser.post("/tokens/refresh", json=body, headers={"Origin": APP})

        cookies = [response.headers["Set-Cookie"] for response in (first, second, third)]
        assert (second.status_code, third.status_code) == (200, 200)
        assert second.json["refresh_token"] is None
        assert len(set(cookies)) == 3
        headers = {"Authorization": f"Bearer {third.json['access_token']}"}
        assert browser.get("/me", headers=headers).json["username"] == "ann"

    def test_is_not_what_a_token_in_the_body_is_answered_with(self, browser: ContractClient) -> None:
        self.sign_in(browser)
        pair = browser.post("/tokens", auth=("ann", "9 green horses"))

        response = browser.post("/tokens/refresh", json={"refresh_token": pair.json["refresh_token"]})

        assert response.json["refresh_token"]
        assert "Set-Cookie" not in response.headers

    @pytest.mark.parametrize("cookie", [None, "", "nonsense", "é"])
    def test_must_be_good(self, browser: ContractClient, cookie: str | None) -> None:
        headers = {} if cookie is None else {"Cookie": f"refresh_token={cookie}"}

        response = self.refresh(browser, headers=headers)

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"

    @pytest.mark.parametrize(("origin", "status"), PAGES)
    def test_is_set_for_pages_of_known_origins_alone(
        self, browser: ContractClient, origin: str | None, status: int
    ) -> None:
        response = self.sign_in(browser, headers={} if origin is None else {"Origin": origin})

        pair = browser.post("/tokens", auth=("ann", "9 green horses"), headers={"Origin": STRANGER})
        signed_in = {"Authorization": f"Bearer {pair.json['access_token']}"}
        sessions = browser.get("/tokens", headers=signed_in).json["items"]
        assert response.status_code == status
        assert ("Set-Cookie" in response.headers) == (status == 200)
        assert response.json.get("code", "origin_not_allowed") == "origin_not_allowed"
        assert len(sessions) == (3 if status == 200 else 2)  # The factory's, the pair's, and this one.

    @pytest.mark.parametrize(("origin", "status"), PAGES)
    def test_vouches_for_pages_of_known_origins_alone(
        self, browser: ContractClient, origin: str | None, status: int
    ) -> None:
        self.sign_in(browser)

        response = self.refresh(browser, headers={} if origin is None else {"Origin": origin})

        assert response.status_code == status
        assert ("Set-Cookie" in response.headers) == (status == 200)
        assert response.json.get("code", "origin_not_allowed") == "origin_not_allowed"

    def test_knows_its_own_origin_behind_a_proxy(self, shared: Shared, make: Factory) -> None:
        make.user("ann")
        browser = ContractClient(shared(TRUSTED_PROXIES=1))
        self.sign_in(browser)

        headers = {"Origin": "https://localhost", "X-Forwarded-Proto": "https"}
        response = self.refresh(browser, headers=headers)

        assert response.status_code == 200

    def test_is_removed_by_signing_out(self, browser: ContractClient) -> None:
        pair = self.sign_in(browser)
        headers = {"Authorization": f"Bearer {pair.json['access_token']}"}

        response = browser.delete("/tokens/current", headers=headers)

        assert response.headers["Set-Cookie"].startswith("refresh_token=; ")
        assert {"Max-Age=0", f"Path={PREFIX}/tokens"} < set(response.headers["Set-Cookie"].split("; "))
        assert self.refresh(browser).status_code == 401

    def test_is_not_spoken_of_to_who_has_none(self, browser: ContractClient) -> None:
        pair = browser.post("/tokens", auth=("ann", "9 green horses"))
        headers = {"Authorization": f"Bearer {pair.json['access_token']}"}

        response = browser.delete("/tokens/current", headers=headers)

        assert response.status_code == 204
        assert "Set-Cookie" not in response.headers
