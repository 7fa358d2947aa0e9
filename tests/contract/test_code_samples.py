"""The samples of each operation in the contract are executed, against a server."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from threading import Thread
from types import SimpleNamespace
from typing import Any

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


def run(language: str, source: str, values: dict[str, str]) -> None:
    """Execute a sample, whose variables have some values."""
    if language == "Python":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "127.0.0.1")
            try:
                exec(source, {"requests": requests, **values})  # noqa: S102
            except requests.HTTPError:
                return
        return
    program = {"Shell": "bash", "JavaScript": "node"}[language]
    if not shutil.which(program):  # pragma: no cover
        pytest.skip(f"{program} is not installed")
    if language == "JavaScript":
        names = "".join(f"const {name} = process.env.{name.upper()};\n" for name in values)
        source = f"(async () => {{\n{names}{source}\n}})().catch(() => {{}});"
    environment = {**os.environ, "NO_PROXY": "*"}
    environment |= {name.upper(): value for name, value in values.items()}
    command = [program, "-c" if program == "bash" else "-e", source]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize("language", ["Shell", "JavaScript", "Python"])
@pytest.mark.parametrize("operation", cases())
def test_a_sample_works(server: SimpleNamespace, make: Factory, operation: Operation, language: str) -> None:
    values = {"token": "", "username": "", "password": ""}
    if operation.example_caller is not None:
        world = make_world(make)
        caller = {"ann": world.ann, "bob": world.bob}[operation.example_caller]
        values = {"token": caller.access_token, "username": caller.username, "password": caller.password}
    [source] = [
        sample["source"] for sample in operation.contract["x-codeSamples"] if sample["lang"] == language
    ]
    assert LOCAL_URL in source

    run(language, source.replace(LOCAL_URL, server.url), values)

    success = int(next(iter(operation.contract["responses"])))
    assert server.statuses == [operation.example_status or success]
