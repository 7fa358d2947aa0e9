"""A mark for tests of the statements of one renderer."""

import os

import pytest

needs_sql_json = pytest.mark.skipif(
    os.environ.get("RENDERER") == "reference", reason="the reference renderer sends other statements"
)
