"""The code of the previous release works on the newest schema, also while processes of this release run."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from werkzeug.datastructures import Authorization

from api.config import SETTINGS
from api.models.counters import wrong_counters
from tests.conftest import DATABASES, SECRET_KEY
from tests.db.test_migrations import ENVIRONMENT, REVISIONS
from tests.support.contract import PREFIX
from tests.support.factories import PASSWORD
from tests.support.git import git, last_release
from tests.support.server import Service, free_port, running_server
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

UNLIMITED = {name: "1000000/second" for name in SETTINGS if name.startswith("RATE_LIMIT_")}
SERVICE_SETTINGS = {
    **UNLIMITED,
    "SECRET_KEY": SECRET_KEY,
    "PASSWORD_HASH_MEMORY": "8",
    "PASSWORD_HASH_TIME": "1",
}


def previous_release() -> str:
    """Return the tag of the last release or, before the first one, the last commit with an older schema.

    While the newest revision is not committed yet, that is HEAD.
    """
    if git("rev-parse", "--is-shallow-repository") != "false":  # pragma: no cover -- depends on the clone
        pytest.skip("git does not have the history of this checkout")
    newest = f"migrations/versions/{REVISIONS[-1]}_*"
    before = git("log", "-1", "--diff-filter=A", "--format=%P", "--", newest)  # The commit before it.
    return last_release("HEAD^") or before or "HEAD"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """A folder with the code of the previous release."""
    archive, folder = tmp_path / "previous.zip", tmp_path / "previous"
    git("archive", "--output", str(archive), previous_release(), "api", "migrations", "wsgi.py")
    shutil.unpack_archive(archive, folder)
    return folder


@contextmanager
def running_checkout(folder: Path, database_url: str) -> Iterator[Service]:
    """Serve a database by the code in a folder, with the dependencies of this checkout."""
    service = Service("127.0.0.1", free_port())
    settings = {**SERVICE_SETTINGS, "DATABASE_URL": database_url, "PORT": str(service.port)}
    with subprocess.Popen(
        [sys.executable, "-m", "flask", "serve"], cwd=folder, env={**ENVIRONMENT, **settings}
    ) as process:
        try:
            wait_until(lambda: service.get("/livez"), OSError)
            yield service
        finally:
            process.terminate()


class Caller:
    """A user who sends each request to the next of some services."""

    def __init__(self, services: Sequence[Service], name: str) -> None:
        self._services = cycle(services)
        self._authorization: dict[str, str] = {}
        self.name = name

    def send(self, status: int, method: str, path: str, json: Any = None, **headers: str) -> Any:
        """Send a request, assert the status of the response, and return its JSON."""
        sent = self._authorization | {name.replace("_", "-"): value for name, value in headers.items()}
        found, _, content = next(self._services).send(method, PREFIX + path, sent, json)
        assert found == status, (method, path, content)
        return content

    def sign_up(self) -> None:
        """Register."""
        account = {"username": self.name, "email": f"{self.name}@example.com", "password": PASSWORD}
        self.send(201, "POST", "/users", account)

    def sign_in(self) -> None:
        """Sign in, and refresh the tokens."""
        basic = Authorization("basic", {"username": self.name, "password": PASSWORD}).to_header()
        first = self.send(200, "POST", "/tokens", Authorization=basic)
        pair = self.send(200, "POST", "/tokens/refresh", {"refresh_token": first["refresh_token"]})
        self._authorization = {"Authorization": f"Bearer {pair['access_token']}"}


def journey(services: Sequence[Service], name: str) -> None:
    """Do what users do; each request of a user goes to the next of the services."""
    ann, bob = Caller(services, f"ann-{name}"), Caller(services, f"bob-{name}")
    for caller in (ann, bob):
        caller.sign_up()
        caller.sign_in()
        caller.send(200, "PATCH", "/me", {"about": "Botanist."})

    body = {"body": f"Snowdrops, @{bob.name}. #{name} https://example.com/"}
    post, replayed = (ann.send(201, "POST", "/posts", body, Idempotency_Key=name) for _ in range(2))
    assert replayed["id"] == post["id"]
    path = f"/posts/{post['id']}"
    reply = bob.send(201, "POST", "/posts", {"body": "Where?", "in_reply_to_id": post["id"]})
    for _ in range(2):
        bob.send(204, "PUT", f"/me/likes/{post['id']}")
        bob.send(204, "PUT", f"/me/following/{ann.name}")
        assert len(bob.send(200, "GET", f"/posts?tag={name}")["items"]) == 1
        assert len(bob.send(200, "GET", f"/posts?q=snowdrops {name}".replace(" ", "%20"))["items"]) == 1
        [_, read] = bob.send(200, "GET", "/feed?expand=counts,viewer")["items"]  # The first is his reply.
        assert (read["body"], read["entities"], read["urls"]) == (
            body["body"],
            post["entities"],
            post["urls"],
        )
        assert read["counts"] == {"like_count": 1, "reply_count": 1}
        assert read["viewer"] == {"liked": True}

    ann.send(201, "POST", "/posts", {"body": "Crocuses."})
    first = ann.send(200, "GET", f"/users/{ann.name}/posts?limit=1")
    second = ann.send(200, "GET", f"/users/{ann.name}/posts?limit=1&cursor={first['next_cursor']}")
    assert [page["items"][0]["body"] for page in (first, second)] == ["Crocuses.", body["body"]]

    assert ann.send(200, "PATCH", path, {"body": "Crocuses!"})["edited_at"]
    assert bob.send(200, "GET", path)["body"] == "Crocuses!"
    bob.send(204, "DELETE", f"/posts/{reply['id']}")
    ann.send(204, "DELETE", path)
    bob.send(404, "GET", path)
    bob.send(204, "DELETE", f"/me/following/{ann.name}")
    assert bob.send(200, "GET", "/feed")["items"] == []
    for caller in (ann, bob):
        caller.send(204, "DELETE", "/tokens/current")
        caller.send(401, "GET", "/me")


@pytest.mark.parametrize("kind", DATABASES)
def test_the_previous_release_and_this_one_share_the_newest_schema(
    kind: str, previous: Path, new_app: Callable[..., Flask], new_database_url: Any, tmp_path: Path
) -> None:
    url = new_database_url(kind)
    app = new_app(url)
    [*_, revision] = sorted(path.name[:4] for path in previous.glob("migrations/versions/*.py"))
    with app.app_context():
        flask_migrate.upgrade(revision=revision)
    with running_checkout(previous, url) as old:
        journey([old], "before")
        with app.app_context():
            flask_migrate.upgrade()
        with running_server(tmp_path, DATABASE_URL=url, **SERVICE_SETTINGS) as new:
            journey([old], "old")
            journey([old, new], "both")
            journey([new, old], "too")

    with app.app_context():
        assert not any(wrong_counters(repair=False).values())
