"""Clients, locks and passwords that take long delay no other requests."""

import asyncio
import base64
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest

from api.server import HASHING_MAXIMUM, LATE_SECONDS, EventLoopLane, Front, Lane
from api.web.problems import SERVER_ERROR
from benchmarks.slow_clients import KINDS
from tests.support.contract import PREFIX
from tests.support.factories import PASSWORD
from tests.support.server import COSTLY_PASSWORDS, UNLIMITED, Server, running_server
from tests.support.wait import wait_until

ANN = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
BASIC = {"Authorization": "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()}
SLOW_CLIENTS = 30
# No request of these tests takes as long when nothing is in its way, however busy the machine.
SOON_SECONDS = 5


def seconds_of(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


@pytest.mark.parametrize("kind", KINDS)
def test_slow_clients_delay_no_others(server: Server, kind: str) -> None:
    with ExitStack() as slow:
        for _ in range(SLOW_CLIENTS):
            slow.enter_context(KINDS[kind].connect(server.port))

        assert max(seconds_of(lambda: server.get(f"{PREFIX}/posts")) for _ in range(20)) < SOON_SECONDS


PATIENT = {"DATABASE_TIMEOUT_SECONDS": "60"}


@pytest.fixture
def signed_up(tmp_path: Path) -> Iterator[Server]:
    """A server of which Ann is a user."""
    with running_server(tmp_path, **COSTLY_PASSWORDS, **PATIENT, **UNLIMITED) as server:
        server.send("POST", f"{PREFIX}/users", json=ANN)
        yield server


def test_a_writer_that_waits_for_a_lock_delays_no_reader(signed_up: Server, tmp_path: Path) -> None:
    token = signed_up.send("POST", f"{PREFIX}/tokens", BASIC)[2]["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    with (
        ThreadPoolExecutor(1) as threads,
        closing(sqlite3.connect(tmp_path / "microblog.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        post = threads.submit(signed_up.send, "POST", f"{PREFIX}/posts", bearer, {"body": "Hello."})
        read = [signed_up.get(f"{PREFIX}/posts")[0] for _ in range(20)]
        was_waiting = not post.done()
        other.execute("ROLLBACK")

        assert read == [200] * 20
        assert was_waiting
        assert post.result()[0] == 201


@contextmanager
def locked_on_sqlite(url: str) -> Iterator[None]:
    """Hold the write lock of a database."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def locked_on_postgresql(url: str, table: str = "posts") -> Iterator[None]:
    """Hold the lock of a table that conflicts with all others."""
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE {table}")
        yield


LOCKS = {"sqlite": locked_on_sqlite, "postgresql": locked_on_postgresql}
CLIENTS = 40
Timed = tuple[float, tuple[int, Any, Any]]


def timed(action: Callable[[], Any]) -> Timed:
    """Return how long an action takes, and its result."""
    began = time.monotonic()
    result = action()
    return time.monotonic() - began, result


def others_during(
    lock: AbstractContextManager[None], waiting: Sequence[Callable[[], Any]], other: Callable[[], Any]
) -> tuple[list[Timed], list[Timed]]:
    """Send requests that wait for a lock, and others as long as they wait; return the responses of both."""
    with lock, ThreadPoolExecutor(len(waiting)) as threads:
        running = [threads.submit(timed, request) for request in waiting]
        others = [timed(other)]
        while wait(running, timeout=0.05).not_done:
            others.append(timed(other))
        return [one.result() for one in running], others


@pytest.mark.parametrize("kind", LOCKS)
def test_writers_that_wait_for_a_lock_delay_no_readers_and_are_refused_in_time(
    tmp_path: Path, new_migrated_database_url: Any, kind: str
) -> None:
    url = new_migrated_database_url(kind)
    with running_server(tmp_path, DATABASE_URL=url, DATABASE_TIMEOUT_SECONDS="3", **UNLIMITED) as server:
        server.send("POST", f"{PREFIX}/users", json=ANN)
        token = server.send("POST", f"{PREFIX}/tokens", BASIC)[2]["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        write = partial(server.send, "POST", f"{PREFIX}/posts", bearer, {"body": "Hello."})

        writes, reads = others_during(
            LOCKS[kind](url), CLIENTS * [write], partial(server.send, "GET", f"{PREFIX}/users/ann")
        )

        assert write()[0] == 201
    assert {status for _, (status, *_) in reads} == {200}
    assert max(seconds for seconds, _ in reads) < 3
    refused = {(status, headers["Retry-After"], body["code"]) for _, (status, headers, body) in writes}
    assert refused == {(503, "2", "unavailable")}
    # Each waits for a thread, then for the lock. Without a limit, the last would wait for 30 seconds.
    assert max(seconds for seconds, _ in writes) < 15


@pytest.mark.parametrize("paths", [["/posts"], ["/posts", "/users/ann/posts", "/posts/1/thread", "/posts/1"]])
def test_readers_that_wait_for_a_lock_delay_no_readers_of_other_tables(
    tmp_path: Path, new_migrated_database_url: Any, paths: list[str]
) -> None:
    url = new_migrated_database_url("postgresql")
    with running_server(tmp_path, DATABASE_URL=url, DATABASE_TIMEOUT_SECONDS="3", **UNLIMITED) as server:
        server.send("POST", f"{PREFIX}/users", json=ANN)
        lists = [partial(server.send, "GET", f"{PREFIX}{path}") for path in paths]

        waited, reads = others_during(
            locked_on_postgresql(url),
            CLIENTS // len(lists) * lists,
            partial(server.send, "GET", f"{PREFIX}/users/ann"),
        )

    assert {status for _, (status, *_) in reads} == {200}
    assert max(seconds for seconds, _ in reads) < 3
    assert {status for _, (status, *_) in waited} == {503}


class TestLane:
    async def responses(self, lane: Lane, calls: int, blocked: Event) -> list[bool]:
        """Run calls that end when one more call finds no place."""
        running = [asyncio.create_task(lane.run(blocked.wait)) for _ in range(calls)]
        await asyncio.sleep(0)
        refused = await lane.run(blocked.wait)
        blocked.set()
        return [*await asyncio.gather(*running), refused]

    def test_refuses_calls_beyond_those_that_run_and_wait(self) -> None:
        with ThreadPoolExecutor(2) as threads:
            responses = asyncio.run(self.responses(Lane(threads, 2, 3, 60), 5, Event()))

        assert responses == [True] * 5 + [False]

    def test_refuses_a_call_that_waits_too_long(self) -> None:
        with ThreadPoolExecutor(2) as threads:
            lane = Lane(threads, 1, 1, 0.01)
            assert asyncio.run(self.responses(lane, 1, Event())) == [True, False]

    def test_has_a_place_again_after_each_call(self) -> None:
        async def run_twice(lane: Lane) -> list[bool]:
            with pytest.raises(ZeroDivisionError):
                await lane.run(lambda: 1 // 0)
            return [await lane.run(lambda: None) for _ in range(2)]

        with ThreadPoolExecutor(1) as threads:
            assert asyncio.run(run_twice(Lane(threads, 1, 0, 60))) == [True, True]


def test_the_lane_of_the_event_loop_refuses_calls_once_a_round_has_lasted_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.server.LATE_SECONDS", 0.1)

    async def run_in_two_rounds() -> tuple[list[bool], bool]:
        lane = EventLoopLane(seconds=0.2, name="reads")
        lane.begin_round(asyncio.get_running_loop())
        first = await asyncio.gather(*(lane.run(time.sleep, 0.15) for _ in range(4)))
        await asyncio.sleep(0.15)
        return first, await lane.run(time.sleep, 0)

    assert asyncio.run(run_in_two_rounds()) == ([True, True, False, False], True)


@pytest.mark.parametrize(("late_seconds", "status"), [(0, 408), (LATE_SECONDS + 0.1, 503)])
def test_a_body_is_not_late_if_the_worker_is(
    new_app: Any, tmp_path: Path, late_seconds: float, status: int
) -> None:
    front = Front(new_app(f"sqlite:///{tmp_path}/none.db"))
    front._seconds = 0.1  # type: ignore[assignment]
    environ: Any = {"CONTENT_LENGTH": "1"}
    protocol: Any = partial(asyncio.sleep, 60)

    async def read_body() -> None:
        reading = asyncio.create_task(front._read_body(environ, protocol))
        await asyncio.sleep(0)
        time.sleep(late_seconds)  # As long as other requests run in the loop.
        await reading

    asyncio.run(read_body())

    assert environ[SERVER_ERROR].type.status == status


def test_passwords_delay_no_others_and_too_many_are_refused(tmp_path: Path) -> None:
    sign_ins = HASHING_MAXIMUM + 40
    with (
        running_server(tmp_path, **COSTLY_PASSWORDS, **PATIENT, **UNLIMITED) as server,
        ThreadPoolExecutor(sign_ins) as threads,
    ):
        server.send("POST", f"{PREFIX}/users", json=ANN)
        running = [threads.submit(server.send, "POST", f"{PREFIX}/tokens", BASIC) for _ in range(sign_ins)]
        reads = []
        while wait(running, timeout=0.05).not_done:
            reads.append(seconds_of(lambda: server.get(f"{PREFIX}/posts")))
        responses = [one.result() for one in running]

    assert len(reads) > 5
    assert max(reads) < SOON_SECONDS
    assert {status for status, *_ in responses} == {200, 503}
    refused = [(headers["Retry-After"], body["code"]) for status, headers, body in responses if status == 503]
    assert set(refused) == {("2", "unavailable")}
    assert len(refused) <= sign_ins - HASHING_MAXIMUM


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux reports the peak of a process's memory.")
def test_passwords_give_their_memory_back(signed_up: Server) -> None:
    (worker,) = signed_up.workers()

    def kilobytes(name: str) -> int:
        """Return the resident memory of the worker now (VmRSS) or at most so far (VmHWM; proc(5))."""
        lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    signed_up.send("POST", f"{PREFIX}/tokens", BASIC)
    before = kilobytes("VmRSS")
    with ThreadPoolExecutor(64) as threads:
        sign_ins = threads.map(lambda _: signed_up.send("POST", f"{PREFIX}/tokens", BASIC)[0], range(64))
        statuses = list(sign_ins)

    assert statuses == [200] * 64
    assert kilobytes("VmHWM") - before < 64 * 1024
    assert kilobytes("VmRSS") - before < 16 * 1024


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with running_server(tmp_path, WORKERS="2") as server:
        first, second = server.workers()
        first.kill()

        def replaced() -> None:
            (_new,) = {one.pid for one in server.workers()} - {first.pid, second.pid}

        wait_until(replaced, ValueError)
        # The other worker may just have been started, too.
        assert wait_until(lambda: server.get("/livez"), OSError)[0] == 200
