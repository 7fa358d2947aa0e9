"""Takes the pictures of the documentation page: `python -m tests.contract.pictures FOLDER`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import expect, sync_playwright

from tests.support.browser import CHROMIUM, HEIGHTS
from tests.support.server import running_server


def main(folder: str) -> None:  # pragma: no cover -- needs Chromium
    """Serve the page, and take a picture of one operation at each width and in each color scheme."""
    with (
        TemporaryDirectory() as files,
        running_server(Path(files)) as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM) as browser,
    ):
        for width, height in HEIGHTS.items():
            for scheme in ("light", "dark"):
                viewport: Any = {"width": width, "height": height}
                with browser.new_context(viewport=viewport, color_scheme=scheme) as context:
                    page = context.new_page()
                    page.goto(f"{server.url}/docs#post-/posts")
                    title = page.locator("rapi-doc").get_by_text("Publish a post").last
                    expect(title).to_be_visible(timeout=60_000)
                    page.wait_for_timeout(1_000)  # It scrolls smoothly.
                    page.screenshot(path=f"{folder}/docs-{width}-{scheme}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
