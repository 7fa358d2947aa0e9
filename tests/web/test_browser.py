"""Pages of other origins in a real browser: their access by CORS and the token cookie."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page

from tests.support.browser import needs_chromium
from tests.support.contract import PREFIX
from tests.support.server import Server, running_server

pytestmark = pytest.mark.slow

PASSWORD = "7 blue bicycles"
REGISTER = "user => call('POST', '/users', {body: user})"
SIGN_IN = "user => signIn(user.username, user.password)"
POST = "body => call('POST', '/posts', {body})"


def user(name: str) -> dict[str, str]:  # pragma: no cover -- needs Chromium
    """Return the body of a registration."""
    return {"username": name, "email": f"{name}@example.com", "password": PASSWORD}


class QuietHandler(SimpleHTTPRequestHandler):  # pragma: no cover -- needs Chromium
    """Serves files without logging."""

    def log_message(self, *_message: object) -> None:
        """Log nothing."""


@contextmanager
def served_page() -> Iterator[int]:  # pragma: no cover -- needs Chromium
    """Serve the page, and yield the port."""
    handler = partial(QuietHandler, directory=Path(__file__).parent / "browser")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield server.server_port
        server.shutdown()


def open_page(context: BrowserContext, server: Server, origin: str) -> Page:  # pragma: no cover
    """Open the page at an origin; it calls the service."""
    page = context.new_page()
    page.goto(f"{origin}/page.html?api={server.url}{PREFIX}")
    return page


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:  # pragma: no cover
    """A browser context without cookies."""
    with browser.new_context() as context:
        yield context


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:  # pragma: no cover
    """Two ports that serve the page."""
    with served_page() as first, served_page() as second:
        yield first, second


@pytest.fixture(scope="module")
def allowed(ports: tuple[int, int]) -> str:  # pragma: no cover
    """An allowed origin of the same site as the service."""
    return f"http://127.0.0.1:{ports[0]}"


@pytest.fixture(scope="module")
def service(
    allowed: str, ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:  # pragma: no cover
    """A service for the pages of two origins, one of another site."""
    origins = f"{allowed},http://localhost:{ports[0]}"
    settings = {"CORS_ORIGINS": origins, "STOP_SECONDS": "1"}
    with running_server(tmp_path_factory.mktemp("service"), **settings) as server:
        yield server


@needs_chromium
class TestPage:  # pragma: no cover -- needs Chromium
    def test_can_use_the_whole_api(self, service: Server, context: BrowserContext, allowed: str) -> None:
        ann = user("ann")
        page = open_page(context, service, allowed)

        registered = page.evaluate(REGISTER, ann)
        taken = page.evaluate(REGISTER, ann)
        signed_in = page.evaluate(SIGN_IN, ann)
        posts = [page.evaluate(POST, {"body": body}) for body in ("One.", "Two.", "Three.")]
        refused = page.evaluate(POST, {"body": " ", "mood": "good"})
        first = page.evaluate("call('GET', '/posts?limit=2')")
        second = page.evaluate(
            "cursor => call('GET', `/posts?limit=2&cursor=${cursor}`)", first["json"]["next_cursor"]
        )
        # The ETag of the post is sent as If-Match.
        condition = {"If-Match": posts[0]["headers"]["etag"]}
        edited = page.evaluate(
            "([path, headers]) => call('PATCH', path, {headers, body: {body: 'First.'}})",
            [f"/posts/{posts[0]['json']['id']}", condition],
        )

        assert (registered["status"], registered["headers"]["location"]) == (201, f"{PREFIX}/users/ann")
        assert (taken["status"], taken["json"]["errors"][0]["pointer"]) == (409, "/username")
        assert (signed_in["status"], signed_in["json"]["refresh_token"]) == (200, None)
        assert [post["status"] for post in posts] == [201] * 3
        assert (refused["status"], [error["pointer"] for error in refused["json"]["errors"]]) == (
            422,
            ["/body", "/mood"],
        )
        assert [post["body"] for post in first["json"]["items"]] == ["Three.", "Two."]
        assert {"link", "ratelimit", "ratelimit-policy", "x-request-id"} <= first["headers"].keys()
        assert [post["body"] for post in second["json"]["items"]] == ["One."]
        assert (edited["status"], edited["json"]["body"]) == (200, "First.")

    def test_is_signed_in_until_it_signs_out(
        self, service: Server, context: BrowserContext, allowed: str
    ) -> None:
        bob = user("bob")
        page = open_page(context, service, allowed)
        page.evaluate(REGISTER, bob)

        page.evaluate(SIGN_IN, bob)
        seen = page.evaluate("document.cookie")
        page.reload()
        signed_out = page.evaluate("call('GET', '/me')")
        refreshed = page.evaluate("refresh()")
        signed_in = page.evaluate("call('GET', '/me')")
        kept = context.cookies()
        left = page.evaluate("signOut()")
        gone = page.evaluate("refresh()")

        assert seen == ""
        assert [answer["status"] for answer in (signed_out, refreshed, signed_in)] == [401, 200, 200]
        assert [(cookie["name"], cookie["secure"], cookie["sameSite"]) for cookie in kept] == [
            ("refresh_token", True, "Strict")
        ]
        assert (left["status"], gone["status"], gone["json"]["code"]) == (204, 401, "invalid_token")
        assert context.cookies() == []

    def test_refreshes_the_tokens_in_two_tabs_at_once(
        self, service: Server, context: BrowserContext, allowed: str
    ) -> None:
        cyd = user("cyd")
        tabs = [open_page(context, service, allowed) for _ in range(2)]
        tabs[0].evaluate(REGISTER, cyd)
        tabs[0].evaluate(SIGN_IN, cyd)
        tabs[0].evaluate("() => { accessToken = 'expired'; }")
        assert tabs[0].evaluate("call('GET', '/me')")["status"] == 401

        for tab in tabs:
            tab.evaluate("() => { window.refreshed = refresh(); }")
        refreshed = [tab.evaluate("refreshed") for tab in tabs]
        signed_in = [tab.evaluate("call('GET', '/me')") for tab in tabs]
        later = [tab.evaluate("refresh()") for tab in tabs]

        answers: list[Any] = [*refreshed, *signed_in, *later]
        assert [answer["status"] for answer in answers] == [200] * 6

    def test_of_a_disallowed_origin_reads_nothing_and_uses_no_cookie(
        self, service: Server, context: BrowserContext, allowed: str, ports: tuple[int, int]
    ) -> None:
        dan = user("dan")
        page = open_page(context, service, allowed)
        page.evaluate(REGISTER, dan)
        page.evaluate(SIGN_IN, dan)
        before = context.cookies()
        stranger = open_page(context, service, f"http://127.0.0.1:{ports[1]}")

        for script in (
            "call('GET', '/posts')",
            "refresh()",
            "fetch(`${API}/tokens/refresh`, {method: 'POST', credentials: 'include', body: '{}'})",
        ):
            with pytest.raises(Error, match="Failed to fetch"):
                stranger.evaluate(script)

        assert context.cookies() == before
        assert page.evaluate("refresh()")["status"] == 200

    def test_of_an_allowed_other_site_has_no_cookie(
        self, service: Server, context: BrowserContext, ports: tuple[int, int]
    ) -> None:
        eve = user("eve")
        page = open_page(context, service, f"http://localhost:{ports[0]}")
        page.evaluate(REGISTER, eve)

        signed_in, refreshed = page.evaluate(SIGN_IN, eve), page.evaluate("refresh()")

        assert (signed_in["status"], refreshed["status"]) == (200, 401)
        assert context.cookies() == []
