"""The README, the guides and the decisions: commands are executed, links and the index are checked.

In a console block, a line that begins with `$ ` is a command, and the lines below it are its output. The real
output must be equal to the output in the document, except that

- JSON may be indented,
- `...` in an object stands for any further members, and at the end of a string for any further characters,
- times, request ids, entity tags, the version of curl and `expires_in` may have other values of the same
  form.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api.config import ROOT
from tests.support.server import running_server

ADDRESS = "http://127.0.0.1:8000"
END_OF_OUTPUT = "=== end of output ==="
ELISION = "..."
DECISIONS = ROOT / "docs" / "decisions"

# Strings that differ from run to run.
VARYING_STRINGS = [
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),  # a time
    re.compile(r"[0-9a-f]{32}"),  # a request id
    re.compile(r"[0-9a-f]{24}"),  # an entity tag
    re.compile(r"curl/[\d.]+"),
]
# Numbers that differ by the time that passes between two commands.
VARYING_NUMBERS = {"expires_in"}


def console_blocks(document: str) -> list[str]:
    """Return the console blocks of a document."""
    return re.findall(r"```console\n(.*?)```", (ROOT / document).read_text("utf-8"), flags=re.DOTALL)


def examples(document: str) -> list[tuple[str, str]]:
    """Return the commands of a document, each with the output below it."""
    steps: list[tuple[str, str]] = []
    for block in console_blocks(document):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines()
            last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            steps.append(("\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])))
    return steps


def run(commands: list[str], folder: Path) -> list[str]:
    """Run commands in one shell against a new server, and return the output of each."""
    with running_server(folder) as server:
        script = "".join(f"{command}\necho; echo '{END_OF_OUTPUT}'\n" for command in commands)
        result = subprocess.run(
            ["bash", "-c", script.replace(ADDRESS, server.url)],  # noqa: S607 -- bash is found by the PATH.
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    return result.stdout.replace(server.url, ADDRESS).split(END_OF_OUTPUT)[:-1]


def parsed(output: str) -> Any:
    """Return JSON output as a value, with an elision as a member `...`; any other output as text."""
    quoted = re.sub(r'("(?:[^"\\]|\\.)*")|\.\.\.', lambda found: found[1] or '"...": null', output)
    try:
        return json.loads(quoted)
    except ValueError:
        return output.strip()


def differences(documented: Any, actual: Any, path: str = "") -> list[str]:
    """Return where an actual value is not the documented one, by the rules above, as JSON Pointers."""
    match documented, actual:
        case dict(), dict():
            members = {name: value for name, value in documented.items() if name != ELISION}
            others = set() if ELISION in documented else actual.keys() - members.keys()
            found = [f"{path}/{name}" for name in sorted(others | (members.keys() - actual.keys()))]
            for name in members.keys() & actual.keys() - VARYING_NUMBERS:
                found += differences(members[name], actual[name], f"{path}/{name}")
            return found
        case list(), list() if len(documented) == len(actual):
            pairs = enumerate(zip(documented, actual, strict=True))
            return [place for index, pair in pairs for place in differences(*pair, f"{path}/{index}")]
    return [] if agrees(documented, actual) else [path or "/"]


def agrees(documented: Any, actual: Any) -> bool:
    """Return whether an actual text, number, boolean or null is the documented one, by the rules above."""
    if isinstance(documented, str) and isinstance(actual, str):
        if documented.endswith(ELISION):
            return actual.startswith(documented.removesuffix(ELISION))
        if any(form.fullmatch(documented) and form.fullmatch(actual) for form in VARYING_STRINGS):
            return True
    return type(documented) is type(actual) and bool(documented == actual)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl")
@pytest.mark.parametrize("document", ["README.md", "api/contract/docs/assets/guides.md"])
def test_the_output_in_the_document_equals_the_real_output(
    document: str, tmp_path: Path
) -> None:  # pragma: no cover -- skipped without curl
    steps = examples(document)

    outputs = run([command for command, _ in steps], tmp_path)

    for (command, documented), actual in zip(steps, outputs, strict=True):
        found = differences(parsed(documented), parsed(actual))
        assert not found, f"{document} differs at {found}.\n$ {command}\n{actual}"


@pytest.mark.parametrize("document", ["README.md", "api/contract/docs/assets/guides.md"])
def test_no_line_of_an_example_is_longer_than_120_characters(document: str) -> None:
    assert [
        line for block in console_blocks(document) for line in block.splitlines() if len(line) > 120
    ] == []


def test_the_guides_register_sign_in_post_page_edit_refresh_and_sign_out() -> None:
    commands = "\n".join(command for command, _ in examples("api/contract/docs/assets/guides.md"))

    assert re.findall(r"\$API/(\S+?)['\"?\s]", commands + "\n")[:3] == ["users", "tokens", "posts"]
    assert all(word in commands for word in ("PATCH", "tokens/refresh", "-X DELETE", "limit=", "cursor="))


def test_the_readme_has_fewer_than_150_lines() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


class TestComparison:
    @pytest.mark.parametrize(
        ("documented", "actual"),
        [
            ("204", "204\n"),
            ("", "\n"),
            ("retry-after: 2", "retry-after: 2\n"),
            ('{"id": 1}', '{"id":1}'),
            ('{\n  "id": 1,\n  ...\n}', '{"id":1,"body":"Hello."}'),
            ('{"items": [{"id": 1, ...}]}', '{"items":[{"id":1,"body":"Hello."}]}'),
            ('{"cursor": "WzEs..."}', '{"cursor":"WzEsMCwyXQ.SGNB"}'),
            ('{"at": "2026-11-23T03:57:55.877Z"}', '{"at":"2027-01-02T00:00:00.000Z"}'),
            ('{"expires_in": 900}', '{"expires_in":899}'),
        ],
    )
    def test_accepts_differences_that_the_rules_allow(self, documented: str, actual: str) -> None:
        assert differences(parsed(documented), parsed(actual)) == []

    @pytest.mark.parametrize(
        ("documented", "actual"),
        [
            ("204", "404\n"),
            ("", "error\n"),
            ("retry-after: 2", "retry-after: 3\n"),
            ('{"id": 1}', '{"id":2}'),
            ('{"id": 1}', '{"id":true}'),
            ('{"id": 1}', '{"id":1,"body":"Hello."}'),
            ('{"id": 1, "body": "Hello."}', '{"id":1}'),
            ('{"id": 1, ...}', '{"id":2,"body":"Hello."}'),
            ('{"body": "...", "id": 1, ...}', '{"id":1,"name":"ann"}'),
            ('{"items": [{"id": 1}]}', '{"items":[{"id":1},{"id":2}]}'),
            ('{"cursor": "WzEs..."}', '{"cursor":"WzIsMCwyXQ.SGNB"}'),
            ('{"at": "2026-11-23T03:57:55.877Z"}', '{"at":null}'),
            ('{"at": "2026-11-23T03:57:55.877Z"}', '{"at":"2026-11-23"}'),
        ],
    )
    def test_rejects_other_differences(self, documented: str, actual: str) -> None:
        assert differences(parsed(documented), parsed(actual))

    def test_names_the_members_that_differ(self) -> None:
        documented = {"id": 1, "items": [{"tag": "a"}, {"tag": "b"}], "name": "ann", "expires_in": 9}
        actual = {"id": 1, "items": [{"tag": "a"}, {"tag": "c"}], "email": None, "expires_in": 8}

        assert differences(documented, actual) == ["/email", "/name", "/items/1/tag"]


@pytest.mark.parametrize(
    "document",
    [
        path.relative_to(ROOT).as_posix()
        for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    ],
)
def test_relative_links_lead_to_files(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)

    assert [target for target in targets if not (ROOT / document).parent.joinpath(target).exists()] == []


class TestDecisions:
    def test_have_the_usual_sections(self) -> None:
        sections = {
            page.name: re.findall(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
            for page in DECISIONS.glob("0*.md")
        }

        assert sections
        assert {tuple(each) for each in sections.values()} == {
            ("Status", "Context", "Decision", "Consequences")
        }, sections

    def test_are_all_in_the_index_with_their_titles(self) -> None:
        index = (DECISIONS / "README.md").read_text("utf-8")
        rows = re.findall(
            r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \| (?:Accepted|Superseded|In part superseded)",
            index,
            flags=re.MULTILINE,
        )
        pages = sorted(DECISIONS.glob("0*.md"))

        assert rows == [
            (page.name[:4], page.read_text("utf-8").partition("\n")[0].removeprefix("# "), page.name)
            for page in pages
        ]
