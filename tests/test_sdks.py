"""The pages on generated SDKs: they have the commands and the code that `make sdks` runs."""

import json
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.config import ROOT
from sdks.recipes import RECIPES, STEPS, Recipe

DOCS = ROOT / "docs" / "sdks"
SOURCES = ROOT / "sdks"
INDEX = DOCS / "README.md"
PAGES = sorted(path for path in DOCS.glob("*.md") if path != INDEX)
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SUFFIXES = {"ts": ".ts", "python": ".py", "go": ".go", "java": ".java"}
BY_NAME = [pytest.param(recipe, id=recipe.name) for recipe in RECIPES]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [textwrap.dedent(code) for _, name, code in found if name == language]


def journeys(folder: str) -> list[Path]:
    """Return the programs in a folder of `sdks`."""
    return [path for path in (SOURCES / folder).iterdir() if path.suffix in SUFFIXES.values()]


def lines(text: str) -> list[str]:
    """Return the lines of a text that are not blank, without indentation."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def is_quoted(block: str, program: Path) -> bool:
    """Return whether a program has the lines of a block, in their order."""
    rest: Iterator[str] = iter(lines(program.read_text("utf-8")))
    return all(line in rest for line in lines(block))


@pytest.mark.parametrize("recipe", BY_NAME)
def test_a_page_has_the_command_that_generates_the_sdk(recipe: Recipe) -> None:
    commands = "".join(blocks(DOCS / recipe.page, "console"))

    assert f"{recipe.generate}\n" in commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_is_that_of_a_journey(page: Path) -> None:
    [folder] = {recipe.folder for recipe in RECIPES if recipe.page == page.name}
    quoted = [block for language in SUFFIXES for block in blocks(page, language)]

    assert quoted
    for block in quoted:
        assert any(is_quoted(block, program) for program in journeys(folder)), block


@pytest.mark.parametrize("recipe", BY_NAME)
def test_the_index_has_the_sdk(recipe: Recipe) -> None:
    row = f"| [{recipe.language}]({recipe.page}) | {recipe.generator} | yes | {len(STEPS)} of {len(STEPS)} |"

    assert row in INDEX.read_text("utf-8").splitlines()


def test_the_pages_have_the_versions_that_are_locked() -> None:
    package = json.loads((SOURCES / "typescript" / "package.json").read_text("utf-8"))
    pinned = {f"{name}@{version}" for name, version in package["devDependencies"].items()}
    pinned |= set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["sdks"])
    text = "\n".join("".join(blocks(page, "console")) for page in PAGES)
    named = set(re.findall(r"\S+(?:==|(?<=\w)@)\d[\d.]*", text))

    assert named
    assert named <= pinned
