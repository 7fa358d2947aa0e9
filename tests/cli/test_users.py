"""`flask users`: accounts, from the command line."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import flask_migrate
import orjson
import pytest
from flask import Flask
from sqlalchemy import func, select, text

from api.config import ROOT
from api.db import db
from api.models import Post, Session, User, WaitingEmail
from api.models.counters import wrong_counters
from tests.support.contract import ContractClient
from tests.support.factories import PASSWORD, Factory
from tests.support.mailbox import Mailbox
from tests.support.server import migrate

Run = Callable[..., Any]


@pytest.fixture
def run(app: Flask) -> Run:
    """A function that runs a command of `flask users`, and returns its result."""

    def invoke(*arguments: str, typed: str | bytes = "") -> Any:
        return app.test_cli_runner().invoke(args=["users", *arguments], input=typed)

    return invoke


def number_of(app: Flask, model: type[db.Model]) -> int:
    """Return the number of rows of a model."""
    with app.app_context():
        return db.session.scalars(select(func.count()).select_from(model)).one()


class TestCreate:
    @pytest.mark.parametrize("line_end", ["\n", "\r\n", ""])
    def test_registers_a_user_who_can_sign_in(
        self, run: Run, client: ContractClient, mailbox: Mailbox, line_end: str
    ) -> None:
        result = run("create", "Ann", "Ann@example.com", typed=f"{PASSWORD}{line_end}")

        assert (result.exit_code, result.output.count("\n")) == (0, 1)
        assert result.output.startswith("Created Ann, id ")
        assert client.post("/tokens", auth=("ann", PASSWORD)).status_code == 200
        assert mailbox.subjects("Ann@example.com") == ["Verify your email address for Microblog"]

    @pytest.mark.parametrize(
        ("username", "email", "typed", "complaint"),
        [
            (
                "a!",
                "a@example.com",
                PASSWORD,
                "username: Only A to Z, digits, _ . and -, and a letter first.",
            ),
            ("admin", "a@example.com", PASSWORD, "username: This name is reserved."),
            ("ann", "ann", PASSWORD, "email: This is not an email address."),
            ("ann", "a@example.com", "short", "password: Shorter than minimum length 8."),
            ("ann", "a@example.com", "", "password: Must not be blank."),
            ("ann", "a@example.com", "password1", "password: This is one of the most common passwords."),
            ("ann", "a@example.com", b"\xff\xff\xff\xff\xff\xff\xff\xff\n", "The password is not in UTF-8."),
            ("BOB", "a@example.com", PASSWORD, "username: Another user has this already."),
            ("ann", "BOB@example.com", PASSWORD, "email: Another user has this already."),
        ],
    )
    def test_refuses_what_the_api_refuses_in_one_line(
        self, run: Run, app: Flask, make: Factory, username: str, email: str, typed: Any, complaint: str
    ) -> None:
        make.user("bob")

        result = run("create", username, email, typed=typed)

        assert (result.exit_code, result.output) == (1, f"Error: {complaint}\n")
        assert (number_of(app, User), number_of(app, WaitingEmail)) == (1, 0)

    def test_names_all_mistakes_in_one_line(self, run: Run) -> None:
        result = run("create", "ann", "ann", typed="short")

        expected = "Error: email: This is not an email address.; password: Shorter than minimum length 8.\n"
        assert result.output == expected

    @pytest.mark.slow
    def test_asks_for_the_password_twice_at_a_terminal(self, tmp_path: Path) -> None:
        database_url = f"sqlite:///{tmp_path}/x.db"
        migrate(database_url)
        environment = {**os.environ, "DATABASE_URL": database_url}
        terminal, other_end = pty.openpty()

        with subprocess.Popen(
            [sys.executable, "-m", "flask", "users", "create", "ann", "ann@example.com"],
            cwd=ROOT,
            env=environment,
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
        ) as process:
            os.close(other_end)
            answer(terminal, "Password:", PASSWORD)
            answer(terminal, "Repeat for confirmation:", "another")
            answer(terminal, "Error: The two entered values do not match.\r\nPassword:", PASSWORD)
            answer(terminal, "Repeat for confirmation:", PASSWORD)
            shown = read_until(terminal, "Created ann, id 1.")
        os.close(terminal)

        assert process.returncode == 0
        assert PASSWORD not in shown


def read_until(terminal: int, text: str) -> str:
    """Read what a process shows at a terminal until it has shown a text."""
    shown = ""
    while text not in shown:
        shown += os.read(terminal, 1024).decode()
    return shown


def answer(terminal: int, question: str, line: str) -> None:
    """Type a line when a process has asked for it."""
    read_until(terminal, question)
    os.write(terminal, f"{line}\n".encode())


class TestList:
    def test_prints_a_table_with_the_newest_first(self, run: Run, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.post(ann)
        make.follow(ann, bob)
        run("suspend", "bob")

        header, *rows = (line.split("  ") for line in run("list").output.splitlines())

        assert [cell.strip() for cell in header if cell] == [
            "id",
            "username",
            "email",
            "email_verified_at",
            "created_at",
            "suspended_at",
            "post_count",
            "follower_count",
            "following_count",
        ]
        cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
        assert [row[:4] for row in cells] == [
            [str(bob.id), "bob", "bob@example.com", "-"],
            [str(ann.id), "ann", "ann@example.com", "-"],
        ]
        assert [row[5] == "-" for row in cells] == [False, True]
        assert [row[6:] for row in cells] == [["0", "1", "0"], ["1", "0", "1"]]

    def test_prints_json(self, run: Run, make: Factory) -> None:
        ann = make.user("ann")
        run("suspend", "ann")

        [row] = orjson.loads(run("list", "--json").output)

        assert (row["id"], row["username"], row["email_verified_at"]) == (ann.id, "ann", None)
        assert row["suspended_at"].endswith("Z")
        assert "password_hash" not in row

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ([], ["cat", "anna", "bob", "Ann"]),
            (["--limit=2"], ["cat", "anna"]),
            (["--prefix=AN"], ["Ann", "anna"]),
            (["--suspended"], ["bob", "Ann"]),
            (["--suspended", "--prefix=a"], ["Ann"]),
        ],
    )
    def test_can_be_restricted(self, run: Run, make: Factory, options: list[str], names: list[str]) -> None:
        for name in ("Ann", "bob", "anna", "cat"):
            make.user(name)
        run("suspend", "ann")
        run("suspend", "bob")

        rows = orjson.loads(run("list", "--json", *options).output)

        assert [row["username"] for row in rows] == names


class TestShow:
    @pytest.mark.parametrize("name", ["ann", "ANN", " ann@EXAMPLE.com"])
    def test_finds_a_user_as_signing_in_does(self, run: Run, make: Factory, name: str) -> None:
        ann = make.user("ann")

        shown = dict(line.split(maxsplit=1) for line in run("show", name).output.splitlines())

        assert (shown["id"], shown["username"], shown["sessions"]) == (str(ann.id), "ann", "1")
        assert (shown["suspended_at"], shown["post_count"]) == ("-", "0")

    def test_prints_json(self, run: Run, make: Factory) -> None:
        ann = make.user("ann")

        shown = orjson.loads(run("show", "ann", "--json").output)

        assert (shown["id"], shown["sessions"]) == (ann.id, 1)


@pytest.mark.parametrize("command", ["show", "suspend", "restore", "delete", "sessions"])
@pytest.mark.parametrize("name", ["ann", "ann@example.com", "", "ánn"])
def test_an_unknown_user_is_an_error_in_one_line(run: Run, command: str, name: str) -> None:
    result = run(command, name)

    assert (result.exit_code, result.output) == (1, f"Error: There is no user {name}.\n")


class TestDelete:
    def test_deletes_what_belongs_to_the_user(self, run: Run, app: Flask, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        liked = make.post(bob, "@ann Hello.")
        make.mention(liked, ann)
        make.like(ann, liked)
        make.like(bob, make.post(ann))
        make.follow(ann, bob)
        make.follow(bob, ann)

        result = run("delete", "ann", typed="y\n")

        assert result.exit_code == 0
        assert result.output.startswith(f"Delete ann, id {ann.id}, with 1 posts? [y/N]: ")
        assert result.output.endswith(f"Deleted ann, id {ann.id}.\n")
        assert [number_of(app, model) for model in (User, Post, Session)] == [1, 1, 1]
        with app.app_context():
            assert not any(wrong_counters(repair=False).values())

    def test_asks_unless_told_not_to(self, run: Run, app: Flask, make: Factory) -> None:
        make.user("ann")

        refused = run("delete", "ann", typed="n\n")
        assert (refused.exit_code, number_of(app, User)) == (1, 1)
        deleted = run("delete", "ann", "--yes")
        assert (deleted.exit_code, number_of(app, User)) == (0, 0)

    def test_does_not_delete_another_user_who_has_the_name_meanwhile(
        self, run: Run, app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make.user("ann")

        def replace() -> None:
            with app.app_context():
                db.session.execute(text("DELETE FROM users"))
                db.session.commit()
            make.user("ann")

        # After the question, and before the transaction that deletes.
        with monkeypatch.context() as context:
            context.setattr(click, "confirm", lambda *_args, **_kwargs: replace())
            result = run("delete", "ann")

        assert (result.exit_code, result.output) == (1, "Error: There is no user ann.\n")
        assert number_of(app, User) == 1


class TestSessions:
    def test_are_listed_with_the_newest_first(self, run: Run, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        client.post("/tokens", auth=("ann", PASSWORD), headers={"User-Agent": "curl/8.5.0"})

        rows = orjson.loads(run("sessions", "ann", "--json").output)
        header, *table = run("sessions", "ann").output.splitlines()

        assert [row["user_agent"] for row in rows] == ["curl/8.5.0", ""]
        assert rows[1]["id"] == ann.session_id
        assert header.split() == ["id", "user_agent", "created_at", "refreshed_at", "expires_at"]
        assert len(table) == 2

    def test_can_be_ended(self, run: Run, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")

        result = run("sessions", "ann", "--end")

        assert result.output == f"Ended all sessions of ann, id {ann.id}.\n"
        assert client.get("/me", headers=ann.signed_in).status_code == 401
        assert client.get("/me", headers=bob.signed_in).status_code == 200


def test_commands_need_a_migrated_database(new_app: Callable[..., Flask], new_database_url: Any) -> None:
    app = new_app(new_database_url("sqlite"))
    with app.app_context():
        flask_migrate.upgrade(revision="0009")

    result = app.test_cli_runner().invoke(args=["users", "list"])

    assert result.output == "Error: The database is not migrated. Run `flask db upgrade` first.\n"
