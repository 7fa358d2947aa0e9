"""`make demo`: the API and the app with a database of their own."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from flask import Flask

from api.config import ROOT
from examples.demo import APP, AppHandler, demo_settings, prepare_database
from examples.demo_data import DEMO_PASSWORD, DEMO_USER, POSTS, USERS
from tests.examples.demo import running_demo
from tests.support.contract import PREFIX
from tests.support.factories import Factory
from tests.support.processes import ModuleProcess
from tests.support.server import free_port
from tests.support.wait import TIMEOUT_SECONDS

pytestmark = pytest.mark.slow


class TestDemo:
    def test_serves_the_app_and_an_api_with_posts_until_it_is_interrupted(self, tmp_path: Path) -> None:
        with running_demo(tmp_path) as demo:
            page = demo.service.get("/api/v1/posts?limit=100")
            index = requests.get(f"{demo.app}/index.html", timeout=TIMEOUT_SECONDS)
            script = requests.get(f"{demo.app}/config.js", timeout=TIMEOUT_SECONDS).text
            printed = "\n".join(demo.service.process.lines())

        assert page[0] == 200
        assert [post["body"] for post in reversed(page[1]["items"])] == [body for _, _, body, _ in POSTS]
        policy = index.headers["Content-Security-Policy"]
        assert index.content == (APP / "index.html").read_bytes()
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert f"connect-src {demo.service.url} " in policy
        assert f":{demo.service.port}/api/v1" in script
        assert all(word in printed for word in (demo.app, DEMO_USER, DEMO_PASSWORD))
        assert demo.service.process.exitcode == 0
        with pytest.raises(OSError, match="refused"):
            demo.service.get("/livez")

    @pytest.mark.parametrize("taken", [0, 1])
    def test_fails_if_one_of_its_ports_is_in_use(
        self, taken: int, tmp_path: Path, start_module: Callable[..., ModuleProcess]
    ) -> None:
        port = free_port(2)
        with socket.create_server(("127.0.0.1", port + taken)):
            process = start_module("examples.demo", str(tmp_path / "demo.db"), PORT=str(port))
            assert process.end() == 1

        assert f"port {port + taken}" in "".join(process.lines()).lower()

    def test_stops_the_service_when_it_is_terminated(self, tmp_path: Path) -> None:
        with running_demo(tmp_path) as demo:
            demo.service.process.terminate()
            demo.service.process.end()

        with pytest.raises(OSError, match="refused"):
            demo.service.get("/livez")


class TestDatabase:
    @pytest.fixture
    def prepare(self, tmp_path: Path, new_app: Callable[..., Flask]) -> Callable[[], Flask]:
        """A function that prepares the database as the demo does, and returns the application on it."""

        def run() -> Flask:
            environment = demo_settings(tmp_path / "demo.db", 8000)
            prepare_database(environment)
            return new_app(environment["DATABASE_URL"])

        return run

    def test_is_preserved_for_the_next_time(self, prepare: Callable[[], Flask]) -> None:
        Factory(prepare()).user("zoe")

        page: Any = prepare().test_client().get(f"{PREFIX}/users?limit=100").json

        assert sorted(each["username"] for each in page["items"]) == sorted([*USERS, "zoe"])

    def test_has_counters_that_are_right(self, prepare: Callable[[], Flask]) -> None:
        result = prepare().test_cli_runner().invoke(args=["counters", "check"])

        assert result.exit_code == 0, result.output


def test_the_server_for_files_serves_those_of_the_app_only() -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(AppHandler, port=8000)) as server,
        closing(HTTPConnection("127.0.0.1", server.server_port, timeout=TIMEOUT_SECONDS)) as connection,
    ):
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        statuses = []
        for path in ("/index.html", "/../demo.py"):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        server.shutdown()

    assert statuses == [200, 404]


def test_the_demo_ignores_the_database_and_the_settings_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/valuable")
    monkeypatch.setenv("ACCESS_TOKEN_SECONDS", "8")
    monkeypatch.delenv("MAIL_URL", raising=False)

    environment = demo_settings(tmp_path / "demo.db", 8000)

    assert environment["DATABASE_URL"] == f"sqlite:///{tmp_path}/demo.db"
    assert environment["CORS_ORIGINS"] == "http://127.0.0.1:8001,http://localhost:8001"
    assert environment["ACCESS_TOKEN_SECONDS"] == "8"
    assert environment["MAIL_URL"] == ""  # It counts as not set, whatever `.env` says.


def test_make_demo_starts_it() -> None:
    make = shutil.which("make")
    assert make
    planned = subprocess.run(
        [make, "--no-print-directory", "--dry-run", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert planned.stdout.endswith("python -m examples.demo\n")


def test_the_app_is_small() -> None:
    lines = [line for file in APP.iterdir() for line in file.read_text("utf-8").splitlines()]

    assert len(lines) < 600
    assert max(len(line) for file in APP.glob("*.js") for line in file.read_text("utf-8").splitlines()) <= 120
