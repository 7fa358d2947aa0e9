"""Schemathesis finds no request to which the service responds otherwise than the contract says.

`FUZZ_SECONDS` is the time for each database.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from api.config import SETTINGS
from tests.conftest import DATABASES
from tests.contract.tools.tools import PYTHON_TOOLS, run
from tests.support.contract import PREFIX
from tests.support.server import running_server

SECONDS = os.environ.get("FUZZ_SECONDS", "120")
ACCOUNTS = ("ann", "bob")
PASSWORD = "7 blue bicycles"
UNLIMITED = {name: "1000000/second" for name in SETTINGS if name.startswith("RATE_LIMIT_")}


@pytest.mark.parametrize("kind", DATABASES)
def test_responses_to_random_requests_conform(
    kind: str, new_migrated_database_url: Any, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": new_migrated_database_url(kind), **UNLIMITED}
    with running_server(tmp_path, **settings) as server:
        for name in ACCOUNTS:
            account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            status, _, _ = server.send("POST", f"{PREFIX}/users", json=account)
            assert status == 201
        ended = run(PYTHON_TOOLS / "schemathesis", "run", f"{server.url}/openapi.json", "--max-time", SECONDS)

    assert ended.returncode == 0, ended.stdout + ended.stderr
