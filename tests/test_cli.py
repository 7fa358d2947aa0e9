"""The `flask` commands, and the server that one of them starts."""

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from api.cli import free_address
from api.database import db
from api.models import Post, Session, User
from tests.contract import CONTRACT_FILE
from tests.server import Server, free_port, running_server


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        yield taken.getsockname()[1]


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


def test_flask_shell_has_the_database_and_the_models_at_hand(migrated_app: Flask) -> None:
    with migrated_app.app_context():
        context = migrated_app.make_shell_context()

    assert [context[name] for name in ("db", "User", "Post", "Session")] == [
        db,
        User,
        Post,
        Session,
    ]


def test_models_show_themselves_and_know_each_other(app: Flask) -> None:
    with app.app_context():
        ann = User(username="ann", email="ann@example.com", password_hash="-")
        post = Post(body="Hello.", author=ann)
        db.session.add(post)
        db.session.commit()

        assert db.session.scalars(ann.posts.select()).all() == [post]
        assert (repr(ann), repr(post)) == ("<User ann>", f"<Post {post.id} 'Hello.'>")
        assert repr(Session(id=1, user_id=2)) == "<Session 1 of user 2>"


class TestServe:
    def test_answers_and_says_where(self, server: Server) -> None:
        assert server.get("/livez") == (200, {"status": "ok"})
        first, second, *log = server.output()
        assert first == f"Microblog listens on {server.url}"
        assert second == f"Its documentation is at {server.url}/docs"
        assert {orjson.loads(line)["route"] for line in log} == {"/livez"}

    def test_refuses_a_port_that_is_taken_with_one_line(self, taken_port: int) -> None:
        with pytest.raises(click.ClickException) as refused:
            free_address("127.0.0.1", taken_port)

        assert (
            refused.value.message
            == f"Port {taken_port} is taken; choose another, for example PORT={taken_port + 1}."
        )

    def test_takes_a_name_for_its_address(self) -> None:
        assert free_address("localhost", free_port()) in {"127.0.0.1", "::1"}

    def test_stops_when_told_to_whoever_is_slow(self, tmp_path: Path) -> None:
        with running_server(tmp_path, STOP_SECONDS="1") as running:
            slow = socket.create_connection(("127.0.0.1", running.port))
            slow.sendall(b"POST /api/v1/users HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{")

        with slow:
            assert slow.recv(1) == b""

    def test_needs_no_body_to_answer_a_get(self, server: Server) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")

            assert slow.recv(12) == b"HTTP/1.1 200"

    def test_does_not_speak_http_2(self, server: Server) -> None:
        preface = (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        )  # RFC 9113, 3.4.
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(preface)

            received = client.recv(64)

        assert not received or received.startswith(b"HTTP/1.1 400")

    @pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
    def test_refuses_an_address_that_is_not_its_own_with_one_line(self, host: str) -> None:
        with pytest.raises(click.ClickException, match=f"^Cannot listen on {host}, port 8000: .*\\.$"):
            free_address(host, 8000)
