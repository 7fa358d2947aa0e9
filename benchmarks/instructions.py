"""How many instructions does an answer take? They are counted, so that a noisy machine tells the same twice.

All of a process without a server: Python, SQLite, the driver; not the kernel. Needs valgrind (Debian has it).
Run: .venv-bench/bin/python -m benchmarks.instructions
Prints thousands of them for each answer, and their ratio to the floor's; takes two minutes.
"""

import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from api.app import API_PREFIX, create_app
from api.config import Config
from benchmarks import UNLIMITED, consume, silent
from benchmarks.bench import FLOOR, SERVICE, Workload, seeded, sign_in

ROUNDS = 50
POSTS = 2_000
WORKLOADS = {"one post", "list of 25", "list of 25, with a token", "feed, 25", "publish"}


def main() -> None:
    """Run this file again where instructions are counted; print what came of it."""
    if sys.argv[1:]:
        count(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/counted"]
        command = [*valgrind, sys.executable, "-m", __spec__.name, folder]
        subprocess.run(command, check=True, capture_output=True)
        counted: dict[str, dict[str, float]] = {}
        for path in sorted(Path(folder).glob("counted.*"), key=lambda path: int(path.suffix[1:])):
            dump = path.read_text()
            [(workload, server)] = re.findall(r"^desc: Trigger: dump (.*): (.*)$", dump, re.MULTILINE)
            [instructions] = re.findall(r"^summary: (\d+)$", dump, re.MULTILINE)
            counted.setdefault(workload, {})[server] = int(instructions) / ROUNDS / 1000
    for workload, servers in counted.items():
        shown = (f"{name} {found:.0f} ({found / servers[FLOOR]:.1f})" for name, found in servers.items())
        print(f"{workload}: {', '.join(shown)}")


def count(folder: Path) -> None:
    """Ask each in turn, between two commands to what counts."""
    database = folder / "benchmark.db"
    os.environ |= UNLIMITED | {"SECRET_KEY": secrets.token_hex(), "BENCHMARK_DATABASE": str(database)}
    workloads, caller = seeded(database, POSTS)
    token, json_web_token = sign_in(database, caller)
    from benchmarks.compare import floor  # It looks at the environment.

    service = create_app(Config.from_environment({**os.environ, "DATABASE_URL": f"sqlite:///{database}"}))
    servers: dict[str, tuple[Callable[..., Any], str]] = {
        FLOOR: (floor.app, json_web_token),
        "Flask with a constant": (constant(), ""),
        SERVICE: (service, token),
    }
    for workload in workloads:
        for name, (app, its_token) in servers.items():
            if workload.name in WORKLOADS:
                ask(app, workload, its_token)
                control("--zero")
                ask(app, workload, its_token)
                control(f"--dump={workload.name}: {name}")


def constant() -> Flask:
    """Return an application that answers always the same."""
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/<path:path>", view_func=lambda path: path, methods=["GET", "POST"])
    return app


def ask(app: Callable[..., Any], workload: Workload, token: str) -> None:
    """Ask for the same again and again."""
    headers = [("Authorization", f"Bearer {token}")] if workload.has_token else []
    path = API_PREFIX + workload.path
    is_post = workload.method == "POST"
    environ = EnvironBuilder(
        path,
        method=workload.method,
        headers=headers,
        data=workload.body if is_post else None,
        content_type="application/json" if is_post else None,
    ).get_environ()
    with silent():
        for _ in range(ROUNDS):
            consume(app({**environ, "wsgi.input": BytesIO(workload.body)}, lambda *_: None))


def control(command: str) -> None:
    """Tell valgrind what to do."""
    words = ["callgrind_control", command, str(os.getpid())]
    subprocess.run(words, check=True, capture_output=True)


if __name__ == "__main__":
    main()
