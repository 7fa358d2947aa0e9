"""The documentation page in a real browser: its guides, signing in, and sending a request."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.docs_page import measure
from tests.support.browser import HEIGHTS, needs_chromium
from tests.support.server import Server, running_server

pytestmark = pytest.mark.slow

PASSWORD = "9 green horses"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # pragma: no cover
    """A service with one user."""
    with running_server(tmp_path_factory.mktemp("service"), STOP_SECONDS="1") as server:
        user = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
        server.send("POST", "/api/v1/users", json=user)
        yield server


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=str)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:  # pragma: no cover
    """A page of a width, in a color scheme, whose scripts must not fail."""
    width, scheme = request.param
    errors: list[str] = []
    with browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda entry: errors.append(entry.text) if entry.type == "error" else None)
        yield page
    # The browser reports each response of an error, such as the 401 that a test provokes.
    assert [error for error in errors if "status of 401" not in error] == []


@needs_chromium
class TestPage:  # pragma: no cover -- needs Chromium
    def test_shows_guides_and_operations_signs_in_and_sends_requests(
        self, service: Server, page: Page
    ) -> None:
        page.goto(f"{service.url}/docs")

        expect(page.locator("rapi-doc").get_by_role("heading", name="Lists and cursors")).to_be_attached()
        page.goto(f"{service.url}/docs#post-/posts")
        expect(page.locator("rapi-doc").get_by_text("Publish a post").last).to_be_visible()
        table = page.locator('rapi-doc [id="post-/posts"] api-request table').first.bounding_box()
        assert page.viewport_size
        assert table
        assert table["x"] + table["width"] <= page.viewport_size["width"]

        page.goto(f"{service.url}/docs#get-/me")
        page.get_by_label("Username or email address").fill("ann")
        page.get_by_label("Password", exact=True).fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("status")).to_have_text(
            "There is no account with this username and password."
        )

        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Signed in as ann")).to_be_visible()
        operation = page.locator('rapi-doc [id="get-/me"] api-request')
        operation.get_by_role("button", name="Try").click()
        expect(operation.get_by_text("ann@example.com").first).to_be_visible()

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    def test_transfers_less_than_half_a_megabyte(self, service: Server, browser: Browser) -> None:
        view = measure(browser, service.url, max(HEIGHTS))

        assert 0 < view.seconds_to_first_paint <= view.seconds_to_guides
        assert view.requests >= 6  # The page, its files except for the icon, and the contract.
        assert view.kilobytes < 500
