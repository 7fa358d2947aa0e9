"""Measures the documentation page in Chromium, without a cache, on localhost.

Run: .venv/bin/python -m benchmarks.docs_page
"""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from tests.support.browser import CHROMIUM, HEIGHTS
from tests.support.server import running_server
from tests.support.wait import TIMEOUT_SECONDS

ROUNDS = 9
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SIZES = (
    "performance.getEntries().filter(({ transferSize }) => transferSize).map((entry) => entry.transferSize)"
)


class View(NamedTuple):
    """One view of the page. Sizes contain the headers of the responses."""

    requests: int
    kilobytes: float
    seconds_to_first_paint: float
    seconds_to_guides: float


def measure(browser: Browser, url: str, width: int) -> View:
    """Load the page once, in a window of a width."""
    with browser.new_context(viewport={"width": width, "height": HEIGHTS[width]}) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * TIMEOUT_SECONDS)
        page.goto(f"{url}/docs")
        page.locator("rapi-doc").get_by_role("heading", name="Lists and cursors").wait_for(state="attached")
        ready = page.evaluate("performance.now()")
        sizes = page.evaluate(SIZES)
        return View(len(sizes), sum(sizes) / 1000, page.evaluate(FIRST_PAINT) / 1000, ready / 1000)


def main() -> None:
    """Print the median of each figure, for a computer and for a phone."""
    with (
        TemporaryDirectory() as folder,
        running_server(Path(folder)) as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM) as browser,
    ):
        print("| pixels | requests | kB | seconds to the first paint | seconds to the guides |")
        print("| --- | --- | --- | --- | --- |")
        for width in HEIGHTS:
            views = [measure(browser, server.url, width) for _ in range(ROUNDS)]
            requests, size, first_paint, guides = map(median, zip(*views, strict=True))
            print(f"| {width} | {requests} | {size:.0f} | {first_paint:.2f} | {guides:.2f} |")


if __name__ == "__main__":
    main()
