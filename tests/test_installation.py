"""`make` installs exactly the versions in the lock files, regardless of later releases."""

import os
import re
import subprocess
import sys
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.config import ROOT

pytestmark = pytest.mark.slow

LOCKS = {"requirements.lock": (), "requirements-test.lock": ("test", "tracing")}
LOCKED = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?==(\S+)", re.MULTILINE)


def locked_versions(lock: str) -> dict[str, str]:
    """Return the version of each distribution in a lock file."""
    found = LOCKED.findall((ROOT / lock).read_text("utf-8"))
    return {canonicalize_name(name): version for name, version in found}


def requirements_of(extras: tuple[str, ...]) -> list[Requirement]:
    """Return the project's own requirements, with those of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement applies on this platform, if these extras of its distribution are wanted."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})


def closure(requirements: list[Requirement]) -> Iterator[Requirement]:
    """Yield requirements and, by the installed metadata, their dependencies, extras included."""
    pending, seen = list(requirements), set()
    while pending:
        requirement = pending.pop()
        if str(requirement) not in seen:
            seen.add(str(requirement))
            yield requirement
            needed = [Requirement(text) for text in requires(requirement.name) or ()]
            pending += [each for each in needed if applies(each, requirement.extras)]


def make_wheel(folder: Path, name: str, version: str, *requirements: str) -> Path:
    """Write a wheel that contains only metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: toml"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requirements]
    files = {
        f"{info}/METADATA": "\n".join([*metadata, ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    records = [
        f"{path},sha256={urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in files.items()
    ]
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*records, f"{info}/RECORD,,", ""]))
    return wheel


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_a_lock_file_is_complete(lock: str, extras: tuple[str, ...]) -> None:
    locked = locked_versions(lock)

    for requirement in closure(requirements_of(extras)):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{lock} lacks {requirement}"
        assert requirement.specifier.contains(version, prereleases=True), f"{lock}: {requirement}"


def test_installing_ignores_releases_that_are_newer_than_the_lock_file(tmp_path: Path) -> None:
    """pytest-cov asks for coverage[toml], which pip once resolved to a release without a hash."""
    base = make_wheel(tmp_path, "basepkg", "1.0")
    plugin = make_wheel(tmp_path, "pluginpkg", "1.0", "basepkg[toml]>=1")
    make_wheel(tmp_path, "basepkg", "1.1")
    lock = tmp_path / "requirements.lock"
    lines = [
        f"{name}==1.0 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}"
        for name, wheel in (("basepkg", base), ("pluginpkg", plugin))
    ]
    lock.write_text("\n".join(lines), "utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [arguments] = re.findall(r"^PIP_INSTALL := (.*)$", makefile, re.MULTILINE)
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_DRY_RUN": "1"}

    installed = subprocess.run(
        [sys.executable, *arguments.replace("--quiet", "").split(), lock],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert installed.returncode == 0, installed.stderr
    assert "Would install basepkg-1.0 pluginpkg-1.0" in installed.stdout


def test_every_lock_file_is_installed_alike() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    for lock in (*LOCKS, r"requirements-\$\*.lock"):
        [line] = re.findall(rf"^.*\$\(PIP_INSTALL\) {lock}\n\t.*$", makefile, re.MULTILINE)
        assert line.endswith("$(PIP_CHECK)")
    assert makefile.count("pip install") == 1
