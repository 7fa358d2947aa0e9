"""Tests in the system's Chromium. The fixtures `playwright` and `browser` are in `tests/conftest.py`."""

import shutil

import pytest

# The heights of windows, by their widths: of a computer and of a phone.
HEIGHTS = {1280: 800, 390: 844}
CHROMIUM = shutil.which("chromium")
# Chromium without its user interface: a page takes a third of the processor time.
HEADLESS_SHELL = shutil.which("chromium-headless-shell") or CHROMIUM
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")
