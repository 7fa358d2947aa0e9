"""CONTRIBUTING.md: following its recipe for a resource gives one that passes the guard tests.

In the recipe, a paragraph that begins with a path in backticks is about that file: a block of Python below it
is the content of the file, and a diff changes it. The lines of a console block are commands.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from api.config import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
RECIPE = GUIDE.partition("\n## Add a resource\n")[2].partition("\n## ")[0]
BLOCK = re.compile(r"(?:^`([\w./]+)`.*\n(?:.+\n)*\n)?^```(\w+)\n((?:.*\n)*?)^```", re.MULTILINE)
# Lines that a file has, and those that follow or replace them.
CHANGE = re.compile(r"((?:^[ -].*\n)+)((?:^\+.*\n)+)", re.MULTILINE)
# The tests of the new resource and its operations, among which is the one that compares the renderers, and
# those of the whole registry and the whole contract. Ids of other operations are such as `sqlite-getPost`.
TESTS = "bookmark or test_operations or (test_contract and not sqlite-)"
# The cache of mypy is that of this repository: it has the types of the libraries.
CHECKS = f"""
    .venv/bin/ruff check {{files}}
    .venv/bin/ruff format --check {{files}}
    .venv/bin/mypy --cache-dir "{ROOT}/.mypy_cache" {{files}}
    .venv/bin/lint-imports --no-cache
    .venv/bin/pytest --fast -n0 -q -p no:cacheprovider -k "{TESTS}" {{tests}}
"""


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of the files in a folder that git does not ignore, by their paths."""
    command = ["git", "--git-dir", str(ROOT / ".git"), "--work-tree", str(folder), "ls-files"]
    paths = subprocess.run(
        [*command, "--cached", "--others", "--exclude-standard"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {path: (folder / path).read_bytes() for path in paths if (folder / path).is_file()}


def run(command: str, folder: Path) -> None:
    """Run a command in a copy of the repository, without the settings of this test run."""
    ours = re.compile("COVERAGE|COV_|PYTEST|PYTHONDONTWRITEBYTECODE$|SECRET_KEY$|FLASK_")
    environment = {name: value for name, value in os.environ.items() if not ours.match(name)}
    result = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment | {"DATABASE_URL": "sqlite:///instance/test.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"$ {command}\n{result.stdout}"


def changed(text: str, diff: str) -> str:
    """Return a text with the changes of a diff."""
    for before, added in CHANGE.findall(diff):
        old = "".join(line[1:] for line in before.splitlines(keepends=True))
        context = "".join(line[1:] for line in before.splitlines(keepends=True) if line[0] == " ")
        new = context + "".join(line[1:] for line in added.splitlines(keepends=True))
        assert text.count(old) == 1, f"found {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    return text


def readers_of_the_registry(folder: Path) -> list[str]:
    """Return the paths of the tests that read `tests/operations.py`."""
    paths = sorted((folder / "tests").rglob("test_*.py"))
    imports = re.compile("^from tests.operations import", re.MULTILINE)
    return [str(path) for path in paths if imports.search(path.read_text("utf-8"))]


@pytest.mark.slow
def test_following_the_recipe_adds_a_resource_in_twelve_files(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    original = files_of(ROOT)
    for path, content in original.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / ".venv").symlink_to(sys.prefix)

    for path, language, block in BLOCK.findall(RECIPE):
        if language == "console":
            for command in block.splitlines():
                # The environment is that of this test: make installs nothing.
                run(re.sub("^make ", "make --old-file=.venv/run ", command), folder)
        elif language == "diff":
            (folder / path).write_text(changed((folder / path).read_text("utf-8"), block), "utf-8")
        else:
            (folder / path).write_text(block, "utf-8")
    touched = {path for path, content in files_of(folder).items() if original.get(path) != content}

    generated = {"openapi.yaml", "clients/python/microblog_client/operations.py"}
    assert len(touched - generated) == 12, sorted(touched)
    files = " ".join(path for path in touched if path.endswith(".py"))
    tests = " ".join(readers_of_the_registry(folder))
    for check in CHECKS.format(files=files, tests=f"{tests} tests/bookmarks").strip().splitlines():
        run(check, folder)


def test_the_files_that_are_named_exist() -> None:
    created = {path for path, language, _ in BLOCK.findall(RECIPE) if language == "python"}
    named = set(re.findall(r"`((?:api|docs|migrations|tests)/[\w./]+)`", GUIDE))

    assert [path for path in sorted(named - created) if not (ROOT / path).exists()] == []


def test_a_diff_is_refused_if_the_file_lacks_its_context() -> None:
    with pytest.raises(AssertionError, match="found 0 times"):
        changed("first\n", " last\n+added\n")
