"""`examples/bot.py` against a running service."""

import os
import signal
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from examples.bot import Bot
from tests.support import server as server_module
from tests.support.contract import PREFIX
from tests.support.processes import ModuleProcess
from tests.support.server import Server, free_port, running_server
from tests.support.wait import TIMEOUT_SECONDS, wait_until

pytestmark = pytest.mark.slow

PASSWORD = "7 blue bicycles"


@contextmanager
def running_bot(url: str, folder: Path) -> Iterator[None]:
    """Run the bot, which stores its cursor in a folder; interrupt it at the end."""
    environment = {
        **os.environ,
        "BOT_NAME": "counter",
        "BOT_PASSWORD": PASSWORD,
        "BOT_POLL_SECONDS": "0.2",
    }
    bot = ModuleProcess("examples.bot", url, environment=environment, log=folder / "bot.log", folder=folder)
    bot.start()
    try:
        yield
    finally:
        assert bot.pid
        os.kill(bot.pid, signal.SIGINT)
        assert bot.end() == 0, bot.lines()


class World:
    """A service with the bot and a user."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"{server.url}{PREFIX}"

    def register(self) -> None:
        """Register the bot and the user."""
        for name in ("counter", "ann"):
            user = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            assert self.send("POST", "/users", user).status_code == 201

    def send(self, method: str, path: str, body: Any = None, headers: Any = None) -> requests.Response:
        """Send a request."""
        return requests.request(method, self.url + path, json=body, headers=headers, timeout=TIMEOUT_SECONDS)

    def sign_in(self, name: str) -> dict[str, str]:
        """Return the headers of a user who has just signed in."""
        basic = b64encode(f"{name}:{PASSWORD}".encode()).decode()
        pair = self.send("POST", "/tokens", headers={"Authorization": f"Basic {basic}"}).json()
        return {"Authorization": f"Bearer {pair['access_token']}"}

    def publish(self, body: str, name: str = "ann", **headers: str) -> int:
        """Publish a post, and return its id."""

        def published() -> int:
            response = self.send("POST", "/posts", {"body": body}, {**self.sign_in(name), **headers})
            assert response.status_code == 201, response.text  # Or the rate limit is reached.
            return int(response.json()["id"])

        return wait_until(published)

    def refused(self) -> int:
        """Return how many requests the rate limit has refused."""
        return sum('"status":429' in line for line in self.server.process.lines())

    def wait_for_replies(self, *expected: tuple[int, str]) -> None:
        """Wait until the bot has published these replies and no others."""

        def replied() -> None:
            page = self.send("GET", "/users/counter/posts?limit=100").json()
            replies = [(post["in_reply_to_id"], post["body"]) for post in reversed(page["items"])]
            assert [reply for reply in replies if reply[0]] == list(expected)

        wait_until(replied)


SETTINGS = {
    "ACCESS_TOKEN_SECONDS": "2",
    "RATE_LIMIT_READS": "1000000/second",  # The tests poll.
    "RATE_LIMIT_WRITES": "2/second",
    "RATE_LIMIT_SIGN_IN": "1000/minute",
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A service whose access tokens expire soon, and which allows two writes in a second."""
    with running_server(tmp_path, **SETTINGS) as server:
        world = World(server)
        world.register()
        yield world


def wait_for_poll(folder: Path) -> None:
    """Wait until the bot has polled for the first time."""

    def polled() -> None:
        assert (folder / "counter.cursor").exists()

    wait_until(polled)


def test_an_interruption_while_the_cursor_is_stored_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, text: str) -> None:
        path.write_bytes(text[:2].encode())
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    bot = Bot("http://127.0.0.1", "counter", PASSWORD)
    bot._store("first")
    monkeypatch.setattr(Path, "write_text", write_half)

    with pytest.raises(KeyboardInterrupt):
        bot._store("second")

    assert (tmp_path / "counter.cursor").read_bytes() == b"first"


class TestBot:
    def test_replies_once_to_each_mention_after_its_first_start(self, world: World, tmp_path: Path) -> None:
        world.publish("@counter Before the start.")
        with running_bot(world.url, tmp_path):
            wait_for_poll(tmp_path)
            first = world.publish("Hello, @counter!")
            world.wait_for_replies((first, "@ann 2 words."))
        missed = world.publish("@counter While it is away.")
        with running_bot(world.url, tmp_path):
            world.wait_for_replies((first, "@ann 2 words."), (missed, "@ann 5 words."))

    def test_replies_once_although_it_has_forgotten_that_it_did(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "counter.cursor").write_text("")  # As before the first mention.
        first = world.publish("@counter One.")
        with running_bot(world.url, tmp_path):
            world.wait_for_replies((first, "@ann 2 words."))
        (tmp_path / "counter.cursor").write_text("")
        with running_bot(world.url, tmp_path):
            second = world.publish("@counter One more.")
            world.wait_for_replies((first, "@ann 2 words."), (second, "@ann 3 words."))

    def test_waits_as_long_as_a_rate_limit_asks_for(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "counter.cursor").write_text("")
        mentions = [world.publish(f"@counter {number}") for number in range(5)]
        before = world.refused()
        with running_bot(world.url, tmp_path):
            world.wait_for_replies(*((mention, "@ann 2 words.") for mention in mentions))

        # It has waited for at least a second each time. Without that, it would be refused hundreds of times.
        assert 1 <= world.refused() - before <= 5

    def test_signs_in_again_if_its_session_is_ended(self, world: World, tmp_path: Path) -> None:
        with running_bot(world.url, tmp_path):
            wait_for_poll(tmp_path)
            signed_in = world.sign_in("counter")
            for session in world.send("GET", "/tokens", headers=signed_in).json()["items"]:
                if not session["is_current"]:
                    world.send("DELETE", f"/tokens/{session['id']}", headers=signed_in)
            mention = world.publish("@counter Still there?")
            world.wait_for_replies((mention, "@ann 3 words."))

    def test_goes_on_after_a_mention_that_it_cannot_reply_to(self, world: World, tmp_path: Path) -> None:
        before = world.publish("One.")
        # The key of the reply to the post after this one is used already.
        world.publish(
            "@counter A note to itself.", "counter", **{"Idempotency-Key": f'"reply-to-{before + 2}"'}
        )
        assert world.publish("@counter Two.") == before + 2
        mention = world.publish("@counter Three.")
        (tmp_path / "counter.cursor").write_text("")
        with running_bot(world.url, tmp_path):
            world.wait_for_replies((mention, "@ann 2 words."))

        assert f"No reply to post {before + 2}" in (tmp_path / "bot.log").read_text()

    def test_waits_for_a_service_that_cannot_be_reached(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = free_port()
        monkeypatch.setattr(server_module, "free_port", lambda: port)
        with running_server(tmp_path, **SETTINGS) as server:
            World(server).register()
        with running_bot(f"http://127.0.0.1:{port}{PREFIX}", tmp_path):
            with socket.create_server(("127.0.0.1", port)) as listener:
                listener.settimeout(TIMEOUT_SECONDS)
                listener.accept()[0].close()
            with running_server(tmp_path, **SETTINGS) as server:
                world = World(server)
                wait_for_poll(tmp_path)
                mention = world.publish("@counter Good morning.")
                world.wait_for_replies((mention, "@ann 3 words."))
