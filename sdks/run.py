"""Generates the SDKs, compiles them, and runs a journey with each against the service.

`make sdks` does all of them, `make sdks SDKS="go java"` some.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from api.config import ROOT
from sdks.recipes import RECIPES, STEPS, Recipe
from tests.support.contract import PREFIX
from tests.support.server import running_server

SOURCES = ROOT / "sdks"
BUILD = SOURCES / "build"
TOOLS = ROOT / ".venv-sdks"
SERVE = "granian --interface rsgi --http 1 --factory --port {port} --log-level warning sdks.service:front"


class RecipeError(Exception):
    """A command failed, or a journey did not do all its steps."""


def run(command: str, folder: Path) -> str:
    """Run a command in a folder with the tools on the path; return what it prints to standard output."""
    paths = [str(TOOLS / "bin"), str(folder / "node_modules" / ".bin"), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(paths), "GOTOOLCHAIN": "local"}
    ended = subprocess.run(
        ["bash", "-euc", command],  # noqa: S607 -- bash is found by the PATH.
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RecipeError(f"$ {command}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def prepare(recipe: Recipe) -> Path:
    """Copy the journey and the contract to a new folder, which keeps what npm installed, and return it."""
    folder = BUILD / recipe.folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_dir() and old.name != "node_modules":
            shutil.rmtree(old)
    shutil.copytree(SOURCES / recipe.folder, folder, dirs_exist_ok=True)
    shutil.copy(ROOT / "openapi.yaml", folder)
    return folder


def journey(recipe: Recipe, folder: Path) -> None:
    """Run the journey against a new service, and check that it did all steps."""
    with TemporaryDirectory() as database, running_server(Path(database), SERVE.split()) as server:
        printed = run(f"{recipe.journey} {server.url}{PREFIX}", folder).splitlines()
    steps = [line.removeprefix("- ") for line in printed if line.startswith("- ")]
    if steps != list(STEPS):
        raise RecipeError(f"The journey did {', '.join(steps)}.")


def attempt(recipe: Recipe) -> tuple[str, str]:
    """Return "yes", "no" or a reason for the columns "compiled" and "journey"."""
    if missing := [program for program in recipe.needs if not shutil.which(program)]:
        return f"skipped: {' and '.join(missing)} not found", "skipped"
    compiled = "no"
    try:
        folder = prepare(recipe)
        run(recipe.install, folder)
        run(recipe.generate, folder)
        run(recipe.compile, folder)
        compiled = "yes"
        journey(recipe, folder)
    except RecipeError as error:
        print(error, file=sys.stderr)
        return compiled, "no"
    return compiled, "yes"


def main() -> int:
    """Try the SDKs that the arguments name, or all; return 1 if one fails."""
    names = [recipe.name for recipe in RECIPES]
    parser = argparse.ArgumentParser(prog="python -m sdks.run", description=main.__doc__)
    parser.add_argument("sdks", nargs="*", metavar="SDK", help=f"one of {', '.join(names)}")
    chosen = parser.parse_args().sdks
    if unknown := set(chosen) - set(names):
        parser.error(f"no such SDK: {', '.join(sorted(unknown))}")
    print("| language | generator | compiled | journey | seconds |")
    print("| --- | --- | --- | --- | --- |")
    failed = False
    for recipe in RECIPES:
        if not chosen or recipe.name in chosen:
            began = time.monotonic()
            compiled, done = attempt(recipe)
            seconds = round(time.monotonic() - began)
            print(f"| {recipe.language} | {recipe.generator} | {compiled} | {done} | {seconds} |", flush=True)
            failed = failed or "no" in (compiled, done)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
