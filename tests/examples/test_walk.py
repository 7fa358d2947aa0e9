"""`examples/walk.sh` against a running service."""

import shutil
import subprocess

import pytest

from api.config import ROOT
from tests.support.contract import PREFIX
from tests.support.server import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl"),
]
SCRIPT = str(ROOT / "examples" / "walk.sh")


def walk(url: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run([SCRIPT, url], capture_output=True, text=True, check=False)


def test_it_registers_publishes_lists_edits_and_likes(server: Server) -> None:
    ended = walk(f"{server.url}{PREFIX}")

    _, page = server.get(f"{PREFIX}/posts?tag=walk&expand=counts&limit=2")
    newer, older = page["items"]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (newer["body"], newer["counts"]["like_count"]) == ("There. #walk", 1)
    assert newer["edited_at"]
    assert (older["body"], older["edited_at"]) == ("On my way. #walk", None)
    assert len([line for line in ended.stdout.splitlines() if line.startswith("# ")]) == 7


def test_it_ends_with_the_problem_if_a_request_fails(server: Server) -> None:
    ended = walk(f"{server.url}/api/v0")

    assert ended.returncode == 1
    assert '"code":"not_found"' in ended.stderr
