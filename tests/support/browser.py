"""Tests in the system's Chromium. The fixture `browser` is in `tests/conftest.py`."""

import shutil

import pytest

# The heights of windows, by their widths: of a computer and of a phone.
HEIGHTS = {1280: 800, 390: 844}
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")
