"""The README's walk: its commands, run against a real server, answer what it says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.config import ROOT
from tests.server import running_server

ADDRESS = "http://127.0.0.1:8000"
MARK = "=== next ==="

# What differs from run to run: moments, signed values, and the names of requests.
VOLATILE = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z": "MOMENT",
    r"W[\w-]+\.[\w-]{43}": "SIGNED",
    r"\b[0-9a-f]{32}\b": "REQUEST",
    r'"etag":"[0-9a-f]{24}"': '"etag":"TAG"',
    r"\"expires_in\":\d+": '"expires_in":SECONDS',
    r"curl/[\d.]+": "curl/VERSION",
}


def walk() -> list[tuple[str, str]]:
    """Return the commands of the README's walk, each with the answer that it shows."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## A walk\n")[2].partition("\n## ")[0]
    steps: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", section, flags=re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines()
            last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            steps.append(("\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])))
    return steps


def steady(text: str) -> str:
    """Return an answer without what differs from run to run."""
    for pattern, word in VOLATILE.items():
        text = re.sub(pattern, word, text)
    return text.strip()


def run(commands: list[str], folder: Path) -> list[str]:
    """Run commands in one shell against a new server, and return what each of them prints."""
    with running_server(folder) as server:
        script = f"\necho; echo '{MARK}'\n".join(commands).replace(ADDRESS, server.url)
        result = subprocess.run(
            ["bash", "-c", script],  # noqa: S607 -- the one that the reader has.
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    return result.stdout.replace(server.url, ADDRESS).split(MARK)


def test_it_registers_signs_in_posts_reads_pages_edits_refreshes_and_signs_out() -> None:
    commands = "\n".join(command for command, _ in walk())

    assert re.findall(r"\$API/(\S+?)['\"?\s]", commands + "\n")[:3] == ["users", "tokens", "posts"]
    assert all(word in commands for word in ("PATCH", "tokens/refresh", "-X DELETE", "limit=", "cursor="))


@pytest.mark.skipif(not shutil.which("curl"), reason="the walk is made with curl")
def test_its_answers_are_the_real_ones(tmp_path: Path) -> None:  # pragma: no cover -- needs curl
    steps = walk()

    answers = run([command for command, _ in steps], tmp_path)

    assert [steady(answer) for answer in answers] == [steady(shown) for _, shown in steps]
