"""The `flask` commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask_migrate
import orjson
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import make_url
from sqlalchemy.exc import ProgrammingError

from api import models
from api.config import ROOT
from api.db import db
from tests.conftest import DATABASES
from tests.support.contract import CONTRACT_FILE
from tests.support.factories import Factory
from tests.support.server import free_port, running_server

NewApp = Callable[..., Flask]
# Commands of the application that is the argument, in one process.
COMMANDS = """
import sys
from flask.cli import cli

for command in ("db upgrade", "openapi", "seed --users=2 --posts=5"):
    cli.main(["--app", sys.argv[1], *command.split()], standalone_mode=False)
"""


def test_flask_openapi_prints_the_contract(migrated_app: Flask) -> None:
    result = migrated_app.test_cli_runner().invoke(args=["openapi"])

    assert result.output == CONTRACT_FILE.read_text("utf-8")


def test_flask_openapi_writes_the_contract_to_a_file(migrated_app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "openapi.yaml"

    result = migrated_app.test_cli_runner().invoke(args=["openapi", "--output", str(file)])

    assert result.exit_code == 0
    assert file.read_bytes() == CONTRACT_FILE.read_bytes()


def test_flask_routes_lists_the_endpoints(migrated_app: Flask) -> None:
    result = CliRunner().invoke(FlaskGroup(create_app=lambda: migrated_app), ["routes"])

    assert re.search(r"posts\.create_post +POST +/api/v1/posts", result.output)


def run_in_shell(app: Flask, *lines: str) -> list[str]:
    """Enter lines in `flask shell`, and return the lines that it prints."""
    shell = FlaskGroup(create_app=lambda: app)
    result = CliRunner().invoke(shell, ["shell"], input="".join(f"{line}\n" for line in lines))
    assert result.exit_code == 0
    _banner, *printed = result.stdout.split(">>> ")
    return [text.strip() for text in printed if text.strip()]


class TestShell:
    def test_has_the_database_and_all_models(self, migrated_app: Flask) -> None:
        with migrated_app.app_context():
            context = migrated_app.make_shell_context()

        assert context["db"] is db
        assert {name: context[name] for name in models.__all__} == {
            name: getattr(models, name) for name in models.__all__
        }

    def test_supports_the_statements_of_flask_sqlalchemy(self, app: Flask, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")

        output = run_in_shell(
            app,
            "sorted(User.query.all(), key=str)",
            "User.query.order_by(User.username.desc()).all()",
            f"db.session.get(User, {bob.id})",
            f"u = db.session.get(User, {ann.id})",
            "u.posts",
            "p = Post(body='Hello.', author=u)",
            "db.session.add(p)",
            "db.session.commit()",
            "u.posts == Post.query.all() == [p], p.author is u, p.is_reply",
            "db.session.delete(p)",
            "db.session.commit()",
            "Post.query.all()",
            "db.session.delete(u)",
            "db.session.commit()",
            "User.query.all(), Session.query.all()",
        )

        assert output == [
            "[<User ann>, <User bob>]",
            "[<User bob>, <User ann>]",
            "<User bob>",
            "[]",
            "(True, True, False)",
            "[]",
            f"([<User bob>], [<Session {bob.session_id} of user {bob.id}>])",
        ]

    def test_represents_posts_by_id_and_body(self, app: Flask, make: Factory) -> None:
        post_id = make.post(body="Hello.")

        assert run_in_shell(app, "Post.query.all()") == [f"[<Post {post_id} 'Hello.'>]"]


@pytest.mark.parametrize("command", [["seed", "--users=2", "--posts=5"], ["counters", "check"]])
class TestWithoutDatabase:
    @pytest.mark.parametrize("kind", DATABASES)
    def test_a_database_without_tables_is_refused_with_one_line(
        self, new_app: NewApp, new_database_url: Any, command: list[str], kind: str
    ) -> None:
        result = new_app(new_database_url(kind)).test_cli_runner().invoke(args=command)

        expected = "Error: The database is not migrated. Run `flask db upgrade` first.\n"
        assert (result.exit_code, result.output) == (1, expected)

    def test_an_old_revision_is_refused_with_one_line(
        self, new_app: NewApp, new_database_url: Any, command: list[str]
    ) -> None:
        app = new_app(new_database_url("sqlite"))
        with app.app_context():
            flask_migrate.upgrade(revision="0001")

        result = app.test_cli_runner().invoke(args=command)

        expected = "Error: The database is not migrated. Run `flask db upgrade` first.\n"
        assert (result.exit_code, result.output) == (1, expected)

    def test_a_missing_file_is_refused_with_one_line(
        self, new_app: NewApp, tmp_path: Path, command: list[str]
    ) -> None:
        result = new_app(f"sqlite:///{tmp_path}/x.db").test_cli_runner().invoke(args=command)

        reason = (
            f"the database file {tmp_path}/x.db does not exist or is empty; `flask db upgrade` creates it"
        )
        expected = f"Error: The database is not available: {reason}\n"
        assert (result.exit_code, result.output) == (1, expected)

    def test_a_file_that_is_no_database_is_refused_with_one_line(
        self, new_app: NewApp, tmp_path: Path, command: list[str]
    ) -> None:
        (tmp_path / "x.db").write_bytes(b"x" * 4096)

        result = new_app(f"sqlite:///{tmp_path}/x.db").test_cli_runner().invoke(args=command)

        expected = "Error: The database is not available: file is not a database\n"
        assert (result.exit_code, result.output) == (1, expected)

    @pytest.mark.parametrize("reason", ['FATAL:  database "no_such" does not exist', "Connection refused"])
    def test_an_unreachable_database_is_refused_with_one_line(
        self, new_app: NewApp, new_database_url: Any, command: list[str], reason: str
    ) -> None:
        url = make_url(new_database_url("postgresql")).set(database="no_such")
        if reason == "Connection refused":
            url = make_url(f"postgresql://127.0.0.1:{free_port()}/a")

        result = new_app(url.render_as_string(False)).test_cli_runner().invoke(args=command)

        assert result.exit_code == 1
        assert result.output.startswith("Error: The database is not available: ")
        assert reason in result.output
        assert result.output.count("\n") == 1


def test_a_mistake_in_a_command_is_not_hidden(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_options: object) -> None:
        raise ProgrammingError("SELECT", None, Exception("no"))

    monkeypatch.setattr("api.cli.wrong_counters", fail)

    result = app.test_cli_runner().invoke(args=["counters", "check"])

    assert isinstance(result.exception, ProgrammingError)


def in_make(command: str, *arguments: str, **environment: str) -> str:
    """Run a command as a recipe of the Makefile, and return what it prints."""
    make = shutil.which("make")
    assert make
    recipe = [make, "--silent", "--eval", f"probe:\n\t{command}", "probe", *arguments]
    run = subprocess.run(
        recipe, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_make_runs_this_application_despite_the_surroundings(tmp_path: Path) -> None:
    for name in ("api", "tests", "migrations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('another project')", "utf-8")

    printed = in_make(
        "$(FLASK) routes",
        FLASK_APP="other",
        FLASK_DEBUG="1",
        FLASK_ENV="x",
        FLASK_ENV_FILE="/no/such/file",
        FLASK_ROUTES_SORT="x",
        LC_ALL="POSIX",
        PYTHONHOME="/no/such/folder",
        PYTHONOPTIMIZE="2",
        PYTHONPATH=str(tmp_path),
        PYTHONSAFEPATH="1",
        PYTHONWARNINGS="error",
        TMPDIR="/no/such/folder",
        VIRTUAL_ENV="/no/such/folder",
    )

    assert "posts.create_post" in printed


def test_make_passes_only_what_pip_needs_to_reach_its_index() -> None:
    foreign = {"PIP_TARGET": "/x", "PIP_USER": "1", "PIP_PREFIX": "/x", "PIP_PYTHON": "/x"}

    printed = in_make("@env", PIP_INDEX_URL="https://pypi.example/simple", **foreign)

    variables = dict(line.partition("=")[::2] for line in printed.splitlines())
    assert not foreign.keys() & variables.keys()
    assert variables["PIP_INDEX_URL"] == "https://pypi.example/simple"


@pytest.mark.slow
def test_make_has_flask_leave_dotenv_files_to_the_settings(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (tmp_path / ".env").write_text("MAIL_FROM=Jos\u00e9 <a@b.c>", "latin-1")
    in_make("$(SKIP_DOTENV)", f"VENV={tmp_path}/venv")

    printed = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", "import os; print(os.environ['FLASK_SKIP_DOTENV'])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed == "1\n"


@pytest.mark.slow
def test_commands_work_in_another_folder_without_home_and_with_modules_of_the_same_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text("raise RuntimeError('another project')", "utf-8")
    environment = {"PATH": os.environ["PATH"], "LANG": "C", "PYTHONPATH": str(tmp_path)}
    environment |= {"DATABASE_URL": f"sqlite:///{tmp_path}/x.db", "PYTHONIOENCODING": "ascii"}
    run_all = [sys.executable, "-c", COMMANDS, str(ROOT / "wsgi")]

    ended = subprocess.run(run_all, cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert b"openapi: 3" in ended.stdout
    assert b"No user can sign in" in ended.stdout  # Of `seed`.


@pytest.mark.slow
def test_flask_serve_serves_and_says_where(tmp_path: Path) -> None:
    # A server of its own: one that other tests use may print emails.
    with running_server(tmp_path) as server:
        assert server.get("/livez") == (200, {"status": "ok"})
        first, second, *log = server.process.lines()
        assert first == f"Microblog listens on {server.url}"
        assert second == f"Its documentation is at {server.url}/docs"
        assert all(orjson.loads(line)["status"] for line in log)
