"""`examples/app`, the single-page app, in a real browser against `make demo`."""

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Playwright,
    Request,
    Route,
    expect,
)

from tests.examples.demo import Demo, running_demo
from tests.support.browser import CHROMIUM, HEIGHTS, needs_chromium
from tests.support.server import UNLIMITED
from tests.support.wait import TIMEOUT_SECONDS, wait_until

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]

PASSWORD = "7 blue bicycles"
POLL_MILLISECONDS = 5000
# The layout depends on the width alone, and the colors on the scheme alone.
WINDOWS = [(1280, "light"), (390, "dark")]
THREE_CALLS = "import('./api.js').then(({ call }) => Promise.all([1, 2, 3].map(() => call('GET', '/me'))))"


class Api:  # pragma: no cover -- needs Chromium
    """The API without a browser, for what other users do."""

    def __init__(self, demo: Demo) -> None:
        self._url = demo.api

    def send(self, method: str, path: str, name: str = "", body: Any = None, **headers: str) -> Any:
        """Send a request of a user, and return the JSON of the response."""
        if name:
            basic = b64encode(f"{name}:{PASSWORD}".encode()).decode()
            pair = self.send("POST", "/tokens", Authorization=f"Basic {basic}")
            headers["Authorization"] = f"Bearer {pair['access_token']}"
        response = requests.request(
            method, self._url + path, json=body, headers=headers, timeout=TIMEOUT_SECONDS
        )
        assert response.ok, response.text
        return response.json() if response.content else None

    def register(self, name: str) -> str:
        """Register a user."""
        user = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        self.send("POST", "/users", body=user)
        return name

    def publish(self, name: str, body: str, **members: Any) -> Any:
        """Publish a post."""
        return self.send("POST", "/posts", name, {"body": body, **members})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:  # pragma: no cover
    """A demo without rate limits."""
    with running_demo(tmp_path_factory.mktemp("demo"), **UNLIMITED) as running:
        yield running


@pytest.fixture
def api(demo: Demo) -> Api:  # pragma: no cover
    """The API without a browser."""
    return Api(demo)


@contextmanager
def new_context(browser: Browser) -> Iterator[BrowserContext]:  # pragma: no cover
    """Create a browser context without cookies, in which no script fails."""
    errors: list[str] = []
    with browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB") as context:
        context.set_default_timeout(TIMEOUT_SECONDS * 1000)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        yield context
    assert errors == []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:  # pragma: no cover
    """A browser context."""
    with new_context(browser) as context:
        yield context


def open_app(context: BrowserContext, demo: Demo, place: str = "") -> Page:  # pragma: no cover
    """Open the app at a place such as `user/ann`."""
    page = context.new_page()
    page.goto(f"{demo.app}/#/{place}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    return page


def sign_in(page: Page, name: str) -> None:  # pragma: no cover
    """Sign in by the form, and wait for the feed."""
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username or email address").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Your feed")).to_be_visible()


def post_with(page: Page, text: str) -> Locator:  # pragma: no cover
    """Return the post with a text."""
    return page.get_by_role("article").filter(has_text=text)


def publish(page: Page, text: str) -> None:  # pragma: no cover
    """Publish a post by the form."""
    page.get_by_label("What is new?").fill(text)
    page.get_by_role("button", name="Publish").click()


def ensure_accessible(page: Page) -> None:  # pragma: no cover
    """Check by axe, and that nothing is wider than the window."""
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def requests_of(page: Page, path: str) -> list[Request]:  # pragma: no cover
    """Return a list that gets the requests of a page with a path."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if path in request.url else None)
    return sent


class TestJourney:  # pragma: no cover -- needs Chromium
    @pytest.mark.parametrize(("width", "scheme"), WINDOWS)
    def test_a_new_user_reads_follows_publishes_replies_likes_edits_and_signs_out(
        self, width: int, scheme: Any, demo: Demo, context: BrowserContext
    ) -> None:
        name = f"nina.{width}"
        page = open_app(context, demo)
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        page.emulate_media(color_scheme=scheme)

        page.get_by_role("link", name="Register").click()
        page.get_by_label("Username").fill(name)
        page.get_by_label("Email address").fill(f"{name}@example.com")
        page.get_by_label("Password").fill(PASSWORD)
        ensure_accessible(page)
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_role("heading", name="Your feed")).to_be_visible()
        expect(page.get_by_text("There are no posts.")).to_be_visible()

        page.get_by_role("link", name="Everyone").click()
        expect(page.get_by_role("heading", name="Everyone")).to_be_visible()
        expect(page.get_by_role("article").nth(19)).to_be_visible()
        written = post_with(page, "Drew the line to Trieste")
        while not written.is_visible():  # Other tests have published since.
            page.get_by_role("button", name="More posts").scroll_into_view_if_needed()
        written.get_by_role("link", name="mei").click()
        followers = Api(demo).send("GET", "/users/mei?expand=counts")["counts"]["followers"]
        page.get_by_role("button", name="Follow").click()
        expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_text(f"{followers + 1} followers")).to_be_visible()
        ensure_accessible(page)

        page.get_by_role("link", name="Feed").click()
        expect(post_with(page, "Drew the line to Trieste")).to_be_visible()
        text = f"Hello from {width} #pixels"
        page.get_by_label("What is new?").fill(text)
        expect(page.get_by_text(f"{140 - len(text)} characters left")).to_be_visible()
        ensure_accessible(page)
        page.get_by_role("button", name="Publish").click()
        mine = post_with(page, text)
        expect(page.get_by_role("article").first).to_contain_text(text)
        expect(page.get_by_label("What is new?")).to_have_value("")

        mine.get_by_role("button", name="Like").click()
        expect(mine.get_by_role("button", name="Like")).to_have_text("Like1")
        expect(mine.get_by_role("button", name="Like")).to_have_attribute("aria-pressed", "true")
        mine.get_by_role("button", name="Edit").click()
        page.get_by_label("Text").fill(f"{text}, edited")
        ensure_accessible(page)
        page.get_by_role("button", name="Save").click()
        edited = post_with(page, f"{text}, edited")
        expect(edited.get_by_text("edited", exact=True)).to_be_visible()
        expect(edited.get_by_role("button", name="Like")).to_have_text("Like1")

        edited.get_by_role("link", name="Reply").click()
        page.get_by_label(f"Reply to {name}").fill("And a reply.")
        page.get_by_role("button", name="Reply").click()
        expect(post_with(page, "And a reply.")).to_be_visible()
        expect(post_with(page, text).get_by_role("link", name="Reply")).to_have_text("Reply1")
        ensure_accessible(page)

        page.get_by_role("link", name="#pixels").click()
        expect(page.get_by_role("heading", name="#pixels")).to_be_visible()
        expect(post_with(page, text)).to_be_visible()
        page.get_by_role("searchbox", name="Search posts").fill('"first rye" loav*')
        page.get_by_role("searchbox", name="Search posts").press("Enter")
        expect(page.get_by_role("heading", name="Search:")).to_be_visible()
        expect(page.get_by_role("article")).to_have_count(1)
        expect(page.get_by_role("article")).to_contain_text("first rye loaves")

        page.get_by_role("link", name="Your posts").click()
        page.once("dialog", lambda dialog: dialog.accept())
        post_with(page, "And a reply.").get_by_role("button", name="Delete").click()
        expect(post_with(page, "And a reply.")).to_have_count(0)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.reload()
        expect(page.get_by_role("link", name="Register")).to_be_visible()
        assert context.cookies() == []

    def test_publishes_with_the_keyboard_alone(self, demo: Demo, context: BrowserContext, api: Api) -> None:
        name = api.register("keys")
        page = open_app(context, demo, "signin")

        def press_tab_until(label: str) -> None:
            for _ in range(20):
                page.keyboard.press("Tab")
                focused = page.evaluate(
                    "[document.activeElement.labels?.[0]?.textContent, document.activeElement.textContent]"
                )
                if label in focused:
                    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                    assert outline == "solid"
                    return
            raise AssertionError(f"{label} cannot be reached")

        press_tab_until("Username or email address")
        page.keyboard.type(name)
        press_tab_until("Password")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Your feed")).to_be_focused()
        press_tab_until("What is new?")
        page.keyboard.type("No mouse.")
        press_tab_until("Publish")
        page.keyboard.press("Enter")

        expect(post_with(page, "No mouse.")).to_be_visible()
        expect(post_with(page, "No mouse.").get_by_role("link", name=name)).to_be_focused()

    @pytest.mark.parametrize(("width", "scheme"), WINDOWS)
    def test_every_view_is_accessible(
        self, width: int, scheme: Any, demo: Demo, context: BrowserContext
    ) -> None:
        page = open_app(context, demo, "signin")
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        page.emulate_media(color_scheme=scheme)
        for place in ("signin", "everyone", "user/ann", "post/1", "tag/bees", "search/nothingatall"):
            page.goto(f"{demo.app}/#/{place}")
            expect(page.locator("article, form[aria-label], .end:not([hidden])").first).to_be_visible()
            ensure_accessible(page)


class TestTimeline:  # pragma: no cover -- needs Chromium
    def test_loads_more_posts_as_the_user_scrolls(self, demo: Demo, context: BrowserContext) -> None:
        page = open_app(context, demo, "everyone")
        expect(page.get_by_role("article").nth(19)).to_be_visible()

        def scroll_to_end() -> None:
            page.mouse.wheel(0, 20_000)
            expect(page.get_by_role("button", name="More posts")).to_be_hidden(timeout=100)

        wait_until(scroll_to_end)

        bodies = page.locator(".body").all_text_contents()
        assert bodies[-1].startswith("First warm day.")
        assert len(bodies) == len(set(bodies)) > 40

    def test_says_how_many_new_posts_there_are(self, demo: Demo, context: BrowserContext, api: Api) -> None:
        name = api.register("crier")
        context.clock.install()
        page = open_app(context, demo, f"user/{name}")
        expect(page.get_by_text("There are no posts.")).to_be_visible()

        for number in range(3):
            api.publish(name, f"News {number}")
        page.clock.fast_forward(POLL_MILLISECONDS)
        expect(page.get_by_role("status")).to_have_text(re.compile("^[1-3] new posts?$"))
        expect(page.get_by_role("button", name="3 new posts")).to_be_visible()
        assert page.get_by_role("article").count() == 0
        page.get_by_role("button", name="3 new posts").click()

        expect(page.locator(".body")).to_have_text(["News 2", "News 1", "News 0"])
        expect(page.get_by_role("article").first.get_by_role("link", name=name)).to_be_focused()
        expect(page.get_by_role("status")).to_be_empty()

    def test_offers_to_try_again_after_an_error(self, demo: Demo, context: BrowserContext) -> None:
        problem = {"code": "too_many_requests", "detail": "Too many requests."}
        context.route(
            "**/api/v1/posts?*",
            lambda route: route.fulfill(
                status=429,
                json=problem,
                headers={
                    "Retry-After": "7",
                    "Access-Control-Allow-Origin": "*",
                    "Access-Control-Expose-Headers": "Retry-After",
                },
            ),
        )
        page = open_app(context, demo, "everyone")
        expect(page.get_by_role("alert")).to_have_text("Too many requests. Try again in 7 seconds.")

        context.unroute_all()
        page.get_by_role("button", name="More posts").click()

        expect(page.get_by_role("article").first).to_be_visible()
        expect(page.locator("#notice")).to_be_empty()

    def test_links_entities_by_code_points_and_shows_markup_as_text(
        self, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        name = api.register("pointer")
        body = "🌱🌱 #garden <img src=x onerror=alert(1)> @mei"
        api.publish(name, body)
        page = open_app(context, demo, f"user/{name}")

        expect(page.locator(".body")).to_have_text(body)
        links = page.locator(".body a")
        expect(links).to_have_text(["#garden", "@mei"])
        assert [link.get_attribute("href") for link in links.all()] == ["#/tag/garden", "#/user/mei"]
        assert page.locator("img").count() == 0

    def test_links_urls_and_leaves_unknown_entities_as_text(
        self, demo: Demo, context: BrowserContext
    ) -> None:
        page = open_app(context, demo, "everyone")
        post = {
            "body": "a b c",
            "entities": [{"start": 4, "end": 5, "tag": None, "username": None, "place": "harbour"}],
            "urls": [
                {"start": 0, "end": 1, "url": "https://a.example/"},
                {"start": 2, "end": 3, "url": "javascript:alert(1)"},
            ],
        }

        nodes = page.evaluate(
            """async (post) => (await import("./ui.js")).linked(post)
                .map((node) => node.href ? [node.textContent, node.href] : node).filter(Boolean)""",
            post,
        )

        assert nodes == [["a", "https://a.example/"], " ", "b", " ", "c"]


class TestForms:  # pragma: no cover -- needs Chromium
    def test_show_each_error_at_its_field(self, demo: Demo, context: BrowserContext) -> None:
        page = open_app(context, demo, "register")
        page.get_by_label("Username").fill("ann")
        page.get_by_label("Email address").fill("nowhere")
        page.get_by_label("Password").fill("short")
        page.get_by_role("button", name="Register").click()

        email, password = page.get_by_label("Email address"), page.get_by_label("Password")
        expect(email).to_have_accessible_description("This is not an email address.")
        expect(password).to_have_accessible_description("Shorter than minimum length 8.")
        expect(page.get_by_label("Username")).not_to_have_attribute("aria-invalid", "true")
        expect(email).to_be_focused()
        ensure_accessible(page)

        email.fill("ann.two@example.com")
        password.fill(PASSWORD)
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_label("Username")).to_have_accessible_description(re.compile("."))
        expect(page.get_by_label("Username")).to_be_focused()
        expect(email).not_to_have_attribute("aria-invalid", "true")

    def test_show_other_errors_below_their_fields(self, demo: Demo, playwright: Playwright) -> None:
        # With its user interface, Chromium would open a login box on a challenge to use Basic.
        with (
            playwright.chromium.launch(executable_path=CHROMIUM) as browser,
            new_context(browser) as context,
        ):
            page = open_app(context, demo, "signin")
            page.get_by_label("Username or email address").fill("ann")
            page.get_by_label("Password").fill("not the password")
            page.get_by_role("button", name="Sign in").click()

            error = page.get_by_role("form", name="Sign in").get_by_role("alert")
            expect(error).to_have_text("There is no account with this username and password.")

    def test_count_code_points_after_normalization(
        self, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        page = open_app(context, demo)
        sign_in(page, api.register("counter"))

        page.get_by_label("What is new?").fill("🌱" * 139 + "e\u0301")
        expect(page.get_by_text("0 characters left")).to_be_visible()
        page.get_by_role("button", name="Publish").click()
        expect(post_with(page, "🌱")).to_be_visible()

        publish(page, "x" * 143)
        expect(page.get_by_text("3 characters too many")).to_be_visible()
        expect(page.get_by_label("What is new?")).to_have_accessible_description(re.compile("Longer"))

    def test_publish_once_although_the_response_was_lost(
        self, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        name = api.register("lossy")
        page = open_app(context, demo)
        sign_in(page, name)

        def lose_response(route: Route) -> None:
            if route.request.method == "POST":
                route.fetch()
                route.abort()
            else:
                route.continue_()

        page.route("**/api/v1/posts", lose_response)
        publish(page, "Once.")
        expect(page.get_by_text("The service cannot be reached.")).to_be_visible()
        page.unroute_all()
        page.get_by_role("button", name="Publish").click()

        expect(page.get_by_label("What is new?")).to_have_value("")
        assert [post["body"] for post in api.send("GET", f"/users/{name}/posts")["items"]] == ["Once."]

    @pytest.mark.parametrize("keeps_theirs", [True, False])
    def test_show_both_versions_of_a_post_that_was_changed_elsewhere(
        self, keeps_theirs: bool, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        name = api.register(f"editor{int(keeps_theirs)}")
        post = api.publish(name, "The first version.")
        page = open_app(context, demo)
        sign_in(page, name)
        page.get_by_role("button", name="Edit").click()
        page.get_by_label("Text").fill("My version.")
        api.send("PATCH", f"/posts/{post['id']}", name, {"body": "Their version."})
        page.get_by_role("button", name="Save").click()

        article = page.get_by_role("article")
        expect(article.locator("blockquote")).to_have_text("Their version.")
        expect(page.get_by_label("Text")).to_have_value("My version.")
        ensure_accessible(page)
        page.get_by_role("button", name="Keep this version" if keeps_theirs else "Save").click()

        expected = "Their version." if keeps_theirs else "My version."
        expect(article.locator(".body")).to_have_text(expected)
        assert api.send("GET", f"/posts/{post['id']}")["body"] == expected


class TestSession:  # pragma: no cover -- needs Chromium
    def test_survives_the_expiry_of_the_access_token_in_two_tabs(
        self, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        name = api.register("tabs")
        now = datetime.now(UTC)
        context.clock.set_fixed_time(now)
        tabs = [open_app(context, demo)]
        sign_in(tabs[0], name)
        tabs.append(open_app(context, demo))
        expect(tabs[1].get_by_role("heading", name="Your feed")).to_be_visible()

        for number in range(2):
            refreshed = [requests_of(tab, "/tokens/refresh") for tab in tabs]
            now += timedelta(days=1)
            context.clock.set_fixed_time(now)  # For the app, the access tokens have expired; the next do not.
            # Several calls of each tab need a token at the same time.
            for tab in tabs:
                tab.evaluate(f"() => {{ window.done = {THREE_CALLS}; }}")
                publish(tab, f"Post {number} of tab {tabs.index(tab)}.")
            for tab in tabs:
                expect(post_with(tab, f"Post {number} of tab {tabs.index(tab)}.")).to_be_visible()
                assert [account["username"] for account in tab.evaluate("done")] == [name] * 3

            assert [len(each) for each in refreshed] == [1, 1]

    def test_repeats_a_request_whose_token_the_service_rejects(
        self, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        page = open_app(context, demo)
        sign_in(page, api.register("slow.clock"))
        refreshed = requests_of(page, "/tokens/refresh")
        rejected: list[str] = []

        def reject_first(route: Route) -> None:
            headers = route.request.headers
            if route.request.method == "POST" and not rejected:
                rejected.append(headers["authorization"])
                headers["authorization"] = "Bearer expired"
            route.continue_(headers=headers)

        page.route("**/api/v1/posts", reject_first)
        publish(page, "It is later than this page assumes.")

        expect(post_with(page, "It is later")).to_be_visible()
        assert (len(rejected), len(refreshed)) == (1, 1)

    def test_ends_in_all_tabs_at_once(self, demo: Demo, context: BrowserContext, api: Api) -> None:
        first = open_app(context, demo)
        sign_in(first, api.register("leaver"))
        second = open_app(context, demo)
        expect(second.get_by_role("button", name="Sign out")).to_be_visible()

        first.get_by_role("button", name="Sign out").click()

        for page in (first, second):
            expect(page.get_by_role("link", name="Register")).to_be_visible()

    def test_that_is_ended_elsewhere_asks_to_sign_in(
        self, demo: Demo, context: BrowserContext, api: Api
    ) -> None:
        name = api.register("elsewhere")
        context.clock.install()
        page = open_app(context, demo)
        sign_in(page, name)
        sessions = api.send("GET", "/tokens", name)["items"]
        for session in sessions:
            if "Mozilla" in session["user_agent"]:
                api.send("DELETE", f"/tokens/{session['id']}", name)
        page.clock.fast_forward(POLL_MILLISECONDS)

        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    def test_of_a_visitor_who_is_not_signed_in_reads_and_is_asked_to_sign_in(
        self, demo: Demo, context: BrowserContext
    ) -> None:
        page = open_app(context, demo, "post/40")
        expect(page.get_by_role("button", name="Reply")).to_have_count(0)

        page.get_by_role("button", name="Like").first.click()

        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
