"""Takes the picture of the app for the README: `python -m tests.examples.picture FILE [WIDTH] [SCHEME]`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from examples.demo_data import DEMO_PASSWORD, DEMO_USER
from tests.examples.demo import Demo, running_demo
from tests.support.browser import CHROMIUM, HEIGHTS


def take_picture(
    browser: Browser, demo: Demo, file: Path, width: int, scheme: Any
) -> None:  # pragma: no cover -- needs Chromium
    """Sign in, and take a picture of the feed."""
    viewport: Any = {"width": width, "height": HEIGHTS[width]}
    with browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-GB") as context:
        page = context.new_page()
        page.goto(f"{demo.app}/#/signin")
        page.get_by_label("Username or email address").fill(DEMO_USER)
        page.get_by_label("Password").fill(DEMO_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("article").first).to_be_visible(timeout=60_000)
        page.screenshot(path=file)


def main(file: str, width: str = "1280", scheme: str = "light") -> None:  # pragma: no cover
    """Start a demo, and take a picture of it."""
    with (
        TemporaryDirectory() as folder,
        running_demo(Path(folder)) as demo,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM) as browser,
    ):
        take_picture(browser, demo, Path(file), int(width), scheme)


if __name__ == "__main__":
    main(*sys.argv[1:])
