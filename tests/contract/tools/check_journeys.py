"""The journeys of `journeys.arazzo.yaml` succeed on a running service."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DATABASES
from tests.contract.tools.tools import NODE_TOOLS, run
from tests.support.contract import PREFIX
from tests.support.server import running_server

WORKFLOWS = ("publishAndEdit", "followAndLike", "staySignedIn")


@pytest.mark.parametrize("kind", DATABASES)
def test_the_journeys_succeed(kind: str, new_migrated_database_url: Any, tmp_path: Path) -> None:
    chosen = [word for name in WORKFLOWS for word in ("--workflow", name)]
    with running_server(tmp_path, DATABASE_URL=new_migrated_database_url(kind)) as server:
        ended = run(
            NODE_TOOLS / "redocly",
            "respect",
            "journeys.arazzo.yaml",
            *chosen,
            "--server",
            f"microblog={server.url}{PREFIX}",
        )

    assert ended.returncode == 0, ended.stdout + ended.stderr
