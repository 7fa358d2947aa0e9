"""The `flask` commands."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import orjson
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from api import models
from api.config import ROOT
from api.db import db
from tests.support.contract import CONTRACT_FILE
from tests.support.factories import Factory
from tests.support.server import Server


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


def test_the_makefile_runs_this_application_despite_the_variables_of_another_project() -> None:
    make = shutil.which("make")
    assert make
    planned = subprocess.run(
        [make, "--dry-run", "run", "openapi"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (upgrade,) = re.findall(r"env .* db upgrade", planned)

    ended = subprocess.run(
        upgrade.replace("db upgrade", "routes").split(),
        cwd=ROOT,
        env=os.environ | {"FLASK_APP": "other"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "posts.create_post" in ended.stdout
    assert len(re.findall(r"/flask ", planned)) == len(re.findall(r"/flask --app wsgi ", planned)) == 3


def test_flask_serve_serves_and_says_where(server: Server) -> None:
    assert server.get("/livez") == (200, {"status": "ok"})
    first, second, *log = server.output()
    assert first == f"Microblog listens on {server.url}"
    assert second == f"Its documentation is at {server.url}/docs"
    assert all(orjson.loads(line)["status"] for line in log)
