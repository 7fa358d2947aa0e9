"""Clients, locks and passwords that take long delay no other requests."""

import base64
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from api.config import SETTINGS
from api.server import HASHING_MAXIMUM
from benchmarks.slow_clients import KINDS
from tests.support.contract import PREFIX
from tests.support.factories import PASSWORD
from tests.support.server import Server, running_server
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


UNLIMITED = {name: "1000000/second" for name in SETTINGS if name.startswith("RATE_LIMIT_")}


@pytest.fixture
def signed_up(tmp_path: Path) -> Iterator[Server]:
    """A server of which Ann is a user."""
    with running_server(tmp_path, **UNLIMITED) as server:
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


def test_passwords_delay_no_others_and_too_many_are_refused(tmp_path: Path) -> None:
    sign_ins = HASHING_MAXIMUM + 10
    with (
        running_server(tmp_path, PASSWORD_HASH_TIME="5", **UNLIMITED) as server,
        ThreadPoolExecutor(sign_ins) as threads,
    ):
        server.send("POST", f"{PREFIX}/users", json=ANN)
        running = [threads.submit(server.send, "POST", f"{PREFIX}/tokens", BASIC) for _ in range(sign_ins)]
        reads = []
        while not all(one.done() for one in running):
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
