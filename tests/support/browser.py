"""Tests in the system's Chromium. The fixture `browser` is in `tests/conftest.py`."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")
