"""Reads earlier releases from git."""

import subprocess

from api.config import ROOT


def git(*arguments: str) -> str:
    """Return the output of git, or "" if it fails."""
    ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return ended.stdout.strip() if ended.returncode == 0 else ""


def last_release(commit: str = "HEAD") -> str:
    """Return the tag of the last release that a commit contains, such as `v1.2.3`, or ""."""
    return git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", commit)
