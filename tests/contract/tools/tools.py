"""The tools that `make contract` installs, and how the checks run them."""

import os
import subprocess
from pathlib import Path

from api.config import ROOT

FOLDER = Path(__file__).parent
NODE_TOOLS = FOLDER / "node_modules" / ".bin"
PYTHON_TOOLS = ROOT / ".venv-contract" / "bin"
# Redocly would report its use, and look for a newer release.
SILENT = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def run(program: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool in the folder of its configuration."""
    return subprocess.run(
        [program, *arguments],
        cwd=FOLDER,
        env={**os.environ, **SILENT},
        capture_output=True,
        text=True,
        check=False,
    )
