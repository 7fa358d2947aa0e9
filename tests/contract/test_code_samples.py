"""The samples of each operation in the contract are executed, against a server."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from subprocess import PIPE
from threading import Thread
from types import SimpleNamespace
from typing import IO, Any, cast

import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server

from api.contract.openapi import LOCAL_URL
from tests.operations import Operation, cases
from tests.support.databases import on_sqlite
from tests.support.factories import Factory
from tests.support.wait import TIMEOUT_SECONDS
from tests.support.world import make_world

pytestmark = on_sqlite

# Executes the programs on its standard input, one a line, with the variables beside each.
NODE = f"""
    const AsyncFunction = (async () => {{}}).constructor;
    require("readline").createInterface({{input: process.stdin}}).on("line", async line => {{
        const [source, values] = JSON.parse(line);
        const timeout = setTimeout(() => process.exit(1), {1000 * TIMEOUT_SECONDS});
        await new AsyncFunction(...Object.keys(values), source)(...Object.values(values)).catch(() => {{}});
        clearTimeout(timeout);
        console.log("done");
    }});
"""


@pytest.fixture
def server(app: Flask) -> Iterator[SimpleNamespace]:
    """The application on a port, and the statuses of its responses."""
    statuses: list[int] = []

    def recording(environ: Any, start_response: Callable[..., Any]) -> Any:
        def start(status: str, *arguments: Any) -> Any:
            statuses.append(int(status[:3]))
            return start_response(status, *arguments)

        return app.wsgi_app(environ, start)

    running = make_server("127.0.0.1", 0, recording)
    thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{running.port}", statuses=statuses)
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(scope="module")
def node() -> Iterator[Callable[[str, dict[str, str]], None]]:
    """A function that executes JavaScript, in one process for all samples: Node.js starts slowly."""
    program = shutil.which("node")
    if not program:  # pragma: no cover
        pytest.skip("node is not installed")
    with subprocess.Popen([program, "-e", NODE], stdin=PIPE, stdout=PIPE, text=True) as process:
        requests_to, responses = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

        def execute(source: str, values: dict[str, str]) -> None:
            print(json.dumps([source, values]), file=requests_to, flush=True)
            assert responses.readline() == "done\n"

        yield execute
        requests_to.close()


def execute_python(source: str, values: dict[str, str]) -> None:
    """Execute Python."""
    with pytest.MonkeyPatch.context() as patch, suppress(requests.HTTPError):
        patch.setenv("NO_PROXY", "127.0.0.1")
        exec(source, {"requests": requests, **values})  # noqa: S102


def execute_shell(source: str, values: dict[str, str]) -> None:
    """Execute a shell script."""
    if not shutil.which("bash"):  # pragma: no cover
        pytest.skip("bash is not installed")
    environment = {**os.environ, "NO_PROXY": "*"}
    environment |= {name.upper(): value for name, value in values.items()}
    command = ["bash", "-c", source]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize("language", ["Shell", "JavaScript", "Python"])
@pytest.mark.parametrize("operation", cases())
def test_a_sample_works(
    server: SimpleNamespace,
    make: Factory,
    request: pytest.FixtureRequest,
    operation: Operation,
    language: str,
) -> None:
    values = {"token": "", "username": "", "password": ""}
    if operation.example_caller is not None:
        world = make_world(make)
        caller = {"ann": world.ann, "bob": world.bob}[operation.example_caller]
        values = {"token": caller.access_token, "username": caller.username, "password": caller.password}
    [source] = [
        sample["source"] for sample in operation.contract["x-codeSamples"] if sample["lang"] == language
    ]
    assert LOCAL_URL in source
    source = source.replace(LOCAL_URL, server.url)

    match language:
        case "Shell":
            execute_shell(source, values)
        case "JavaScript":
            request.getfixturevalue("node")(source, values)
        case _:
            execute_python(source, values)

    success = int(next(iter(operation.contract["responses"])))
    assert server.statuses == [operation.example_status or success]
