"""A mark for tests of the statements of one renderer."""

import os

import pytest

from api.config import RENDERERS

needs_sql_json = pytest.mark.skipif(
    os.environ.get("RENDERER", next(iter(RENDERERS))) != "sql_json",
    reason="the reference renderer sends other statements",
)
