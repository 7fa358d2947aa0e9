"""The linters find nothing in the contract, nor in the description of the journeys."""

import json
import sys
from pathlib import Path

import pytest

from tests.contract.test_contract import nodes
from tests.contract.tools.tools import NODE_TOOLS, run
from tests.support.contract import CONTRACT, CONTRACT_FILE

VALIDATOR = [sys.executable, "-m", "openapi_spec_validator"]
REDOCLY = [NODE_TOOLS / "redocly", "lint", "--config", "redocly.yaml"]
SPECTRAL = [NODE_TOOLS / "spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([*VALIDATOR, CONTRACT_FILE], id="openapi-spec-validator"),
        pytest.param([*REDOCLY, CONTRACT_FILE, "journeys.arazzo.yaml"], id="Redocly"),
        pytest.param([*SPECTRAL, CONTRACT_FILE], id="Spectral"),
    ],
)
def test_a_linter_finds_nothing(command: list[str | Path]) -> None:
    ended = run(*command)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_browsers_accept_the_patterns() -> None:
    """Browsers compile the attribute `pattern` of an input with the flag `v`, and ignore an invalid one."""
    patterns = sorted({node["pattern"] for node in nodes(CONTRACT) if isinstance(node.get("pattern"), str)})
    compiling = f"{json.dumps(patterns)}.forEach((pattern) => new RegExp(pattern, 'v'))"

    ended = run("node", "--eval", compiling)

    assert patterns
    assert ended.returncode == 0, ended.stderr
