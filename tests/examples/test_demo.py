"""`make demo`: the API and the app with a database of their own."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from api.app import create_app
from api.config import ROOT, Config
from api.db import db
from examples.demo import APP, demo_settings
from examples.demo_data import DEMO_PASSWORD, DEMO_USER, POSTS, USERS
from tests.examples.demo import running_demo
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

    def test_keeps_the_database_for_the_next_time(self, tmp_path: Path) -> None:
        user = {"username": "zoe", "email": "zoe@example.com", "password": DEMO_PASSWORD}
        with running_demo(tmp_path) as demo:
            demo.service.send("POST", "/api/v1/users", json=user)
        with running_demo(tmp_path) as demo:
            _, page = demo.service.get("/api/v1/users?limit=100")

        assert sorted(each["username"] for each in page["items"]) == sorted([*USERS, "zoe"])

    def test_serves_files_of_the_app_only(self, tmp_path: Path) -> None:
        with running_demo(tmp_path) as demo:
            request = requests.Request("GET", demo.app).prepare()
            request.url = f"{demo.app}/../demo.py"  # As it is, without resolving the dots.
            with requests.Session() as session:
                response = session.send(request, timeout=TIMEOUT_SECONDS)

        assert response.status_code == 404

    @pytest.mark.parametrize("taken", [0, 1])
    def test_fails_if_one_of_its_ports_is_in_use(self, taken: int, tmp_path: Path) -> None:
        port = free_port()
        with socket.create_server(("127.0.0.1", port + taken)):
            ended = subprocess.run(
                [sys.executable, "-m", "examples.demo", tmp_path / "demo.db"],
                cwd=ROOT,
                env={**os.environ, "PORT": str(port)},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )

        assert ended.returncode == 1
        assert f"port {port + taken}" in ended.stderr.lower()

    def test_stops_the_service_when_it_is_terminated(self, tmp_path: Path) -> None:
        with running_demo(tmp_path) as demo:
            demo.service.process.terminate()
            demo.service.process.end()

        with pytest.raises(OSError, match="refused"):
            demo.service.get("/livez")

    def test_has_counters_that_are_right(self, tmp_path: Path) -> None:
        with running_demo(tmp_path):
            pass
        app = create_app(Config(DATABASE_URL=f"sqlite:///{tmp_path}/demo.db"))

        result = app.test_cli_runner().invoke(args=["counters", "check"])

        assert result.exit_code == 0, result.output
        with app.app_context():
            db.engine.dispose()


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
