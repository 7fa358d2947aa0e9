"""A change that breaks clients of the last release is announced by the version and by CHANGELOG.md.

A release is a tag such as `v1.2.3`. docs/versioning.md says what is breaking.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.config import ROOT
from api.contract.openapi import as_yaml
from tests.contract.tools.tools import NODE_TOOLS, run
from tests.support.contract import CONTRACT
from tests.support.git import git, last_release

# A larger value of these is a wider limit, in responses too.
LIMITS = {"maximum", "maxItems", "maxLength"}
ANNOUNCEMENT = re.compile(r"^- \*\*Breaking:\*\* ", re.MULTILINE)

Document = dict[str, Any]


def breaking_changes(base: Document, revision: Document, folder: Path) -> tuple[list[str], bool]:
    """Return the changes that break clients, and whether `info.version` changed as SemVer asks."""
    files = [folder / "base.yaml", folder / "revision.yaml"]
    for file, document in zip(files, (base, revision), strict=True):
        file.write_text(as_yaml(document), "utf-8")
    report = folder / "report.json"
    rules = ["--config", "redocly.yaml", "--fail-on", "none", "--check-version"]
    ended = run(NODE_TOOLS / "redocly", "diff", *files, *rules, "--format", "json", "--output", report)
    changes = json.loads(report.read_text("utf-8"))["changes"]
    found = [
        verdict["message"]
        for change in changes
        for verdict in change["verdicts"]
        if verdict["impact"] == "major" and not _is_wider_limit(change)
    ]
    return found, ended.returncode == 0


def _is_wider_limit(change: Document) -> bool:
    return change.get("property") in LIMITS and change["revision"]["value"] > change["base"]["value"]


def unannounced(base: Document, revision: Document, changelog: str, folder: Path) -> list[str]:
    """Return the breaking changes since a release, unless the version and the changelog announce them."""
    found, has_version = breaking_changes(base, revision, folder)
    since, *_ = re.split(rf"^## \[?{re.escape(base['info']['version'])}\b", changelog, flags=re.MULTILINE)
    return [] if has_version and ANNOUNCEMENT.search(since) else found


def test_breaking_changes_since_the_last_release_are_announced(tmp_path: Path) -> None:
    release = last_release()
    if not release:
        pytest.skip("there is no release: git has no tag such as v1.2.3")
    base = yaml.load(git("show", f"{release}:openapi.yaml"), yaml.CSafeLoader)
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")

    found = unannounced(base, CONTRACT, changelog, tmp_path)

    assert not found, (
        f"These changes break clients of {release}. Announce each in CHANGELOG.md with a line that begins "
        "with `- **Breaking:**`, and change the version as SemVer asks; see docs/versioning.md."
    )


def schema(document: Document, name: str) -> Document:
    """Return a schema of a document."""
    found: Document = document["components"]["schemas"][name]
    return found


def remove_operation(document: Document) -> None:
    del document["paths"]["/feed"]["get"]


def remove_response_member(document: Document) -> None:
    del schema(document, "Post")["properties"]["urls"]
    schema(document, "Post")["required"].remove("urls")


def make_response_member_null(document: Document) -> None:
    schema(document, "Post")["properties"]["body"]["type"] = ["string", "null"]


def change_type(document: Document) -> None:
    schema(document, "Post")["properties"]["id"] = {"type": "string"}


def require_new_member(document: Document) -> None:
    schema(document, "PostCreate")["properties"]["language"] = {"type": "string"}
    schema(document, "PostCreate")["required"].append("language")


def narrow_limit(document: Document) -> None:
    schema(document, "PostCreate")["properties"]["body"]["maxLength"] = 100


def remove_enum_value(document: Document) -> None:
    schema(document, "ExpandCountsAndViewerPart")["enum"].remove("viewer")


def remove_response_header(document: Document) -> None:
    del document["paths"]["/users"]["post"]["responses"]["201"]["headers"]["Location"]


def require_credentials(document: Document) -> None:
    document["paths"]["/users"]["get"]["security"] = [{"bearerAuth": []}]


def rename_operation(document: Document) -> None:
    document["paths"]["/feed"]["get"]["operationId"] = "readFeed"


def make_compatible_changes(document: Document) -> None:
    """Change in each way that docs/versioning.md declares compatible."""
    new_operation = {**document["paths"]["/feed"]["get"], "operationId": "listNewFeed"}
    document["paths"]["/new-feed"] = {"get": copy.deepcopy(new_operation)}
    language = {"type": "string"}
    parameter = {"name": "language", "in": "query", "required": False, "schema": language}
    document["paths"]["/posts"]["get"]["parameters"].append(parameter)
    schema(document, "PostCreate")["properties"]["language"] = language
    schema(document, "Post")["properties"]["language"] = language
    schema(document, "Post")["required"].append("language")
    document["paths"]["/users"]["post"]["responses"]["201"]["headers"]["X-New"] = {"schema": language}
    schema(document, "Problem")["properties"]["code"]["x-extensible-enum"].append("new")
    schema(document, "ExpandCountsAndViewerPart")["enum"].append("new")
    schema(document, "PostCreate")["properties"]["body"]["maxLength"] = 500
    schema(document, "Post")["properties"]["body"]["maxLength"] = 500
    document["components"]["parameters"]["Limit"]["schema"]["maximum"] = 500
    content = document["paths"]["/posts"]["post"]["requestBody"]["content"]
    content["application/x-new+json"] = copy.deepcopy(content["application/json"])
    schema(document, "Post")["description"] = "Another description."
    document["paths"]["/feed"]["get"]["deprecated"] = True


BREAKING = [
    remove_operation,
    remove_response_member,
    make_response_member_null,
    change_type,
    require_new_member,
    narrow_limit,
    remove_enum_value,
    remove_response_header,
    require_credentials,
    rename_operation,
]


@pytest.mark.parametrize("change", BREAKING)
def test_breaking_changes_are_found(change: Callable[[Document], None], tmp_path: Path) -> None:
    revision = copy.deepcopy(CONTRACT)
    change(revision)

    assert unannounced(CONTRACT, revision, "", tmp_path)


def test_compatible_changes_are_not_breaking(tmp_path: Path) -> None:
    revision = copy.deepcopy(CONTRACT)
    make_compatible_changes(revision)

    assert unannounced(CONTRACT, revision, "", tmp_path) == []


RELEASED = "## 0.1.0 - 2026-12-01\n\n- **Breaking:** An earlier change.\n"
ANNOUNCED = f"# Changelog\n\n## Unreleased\n\n- **Breaking:** The feed is gone.\n\n{RELEASED}"


@pytest.mark.parametrize(
    ("version", "changelog", "is_announced"),
    [
        pytest.param("0.2.0", ANNOUNCED, True, id="by the version and the changelog"),
        pytest.param("0.1.1", ANNOUNCED, False, id="not by a patch version"),
        pytest.param("0.1.0", ANNOUNCED, False, id="not by the changelog alone"),
        pytest.param("0.2.0", f"## Unreleased\n\n{RELEASED}", False, id="not by the version alone"),
    ],
)
def test_a_breaking_change_is_announced(
    version: str, changelog: str, is_announced: bool, tmp_path: Path
) -> None:
    base, revision = copy.deepcopy(CONTRACT), copy.deepcopy(CONTRACT)
    base["info"]["version"] = "0.1.0"
    revision["info"]["version"] = version
    remove_operation(revision)

    assert (unannounced(base, revision, changelog, tmp_path) == []) is is_announced
