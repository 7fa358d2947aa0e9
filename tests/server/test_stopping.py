"""Signals end the server as a terminal and a supervisor expect."""

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import orjson
import psutil
import pytest

from benchmarks.restarts import begun, requests_by
from tests.support.contract import PREFIX
from tests.support.load import loading
from tests.support.server import UNLIMITED, Server, read_all, running_server
from tests.support.wait import TIMEOUT_SECONDS, wait_until

BODY = orjson.dumps({"username": "zoe", "email": "zoe@example.com", "password": "9 green horses"})
# The server asks for the body when it has begun to read the request (RFC 9110, section 10.1.1).
POST = (
    f"POST {PREFIX}/users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
).encode()
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STOP_SECONDS = 30


def seconds_to_stop(server: Server, signal_number: int, *, is_group: bool) -> float:
    """Send a signal to the server, or to its process group; return how long all its processes take to end."""
    processes = [psutil.Process(server.pid), *server.workers()]
    began = time.monotonic()
    if is_group:
        os.killpg(server.pid, signal_number)
    else:
        os.kill(server.pid, signal_number)
    server.process.end()
    _, alive = psutil.wait_procs(processes, TIMEOUT_SECONDS)
    assert not alive
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("signal_number", "is_group"),
    [
        pytest.param(signal.SIGINT, True, id="Ctrl-C"),
        pytest.param(signal.SIGHUP, True, id="closed terminal"),
        pytest.param(signal.SIGTERM, False, id="supervisor"),
    ],
)
def test_without_requests_it_ends_at_once(tmp_path: Path, signal_number: int, is_group: bool) -> None:
    settings = {"STOP_SECONDS": str(STOP_SECONDS), "WORKERS": "2"}
    with running_server(tmp_path, **settings) as server, server.connect() as idle:
        seconds = seconds_to_stop(server, signal_number, is_group=is_group)

        assert read_all(idle) == b""
    assert seconds < STOP_SECONDS / 3
    assert server.process.exitcode == 0


def test_a_signal_that_is_repeated_ends_it_too(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        for number in range(1_000):
            with suppress(ProcessLookupError):
                os.kill(server.pid, (signal.SIGINT, signal.SIGTERM)[number % 2])

        assert server.process.end() == 0


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_request_that_has_begun_is_finished(tmp_path: Path, signal_number: int) -> None:
    with running_server(tmp_path) as server, server.connect() as client:
        client.sendall(POST)
        assert client.recv(len(CONTINUE)) == CONTINUE
        os.killpg(server.pid, signal_number)
        client.sendall(BODY)

        assert read_all(client).startswith(b"HTTP/1.1 201")


def test_a_request_that_takes_longer_than_stop_seconds_is_ended(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, STOP_SECONDS="1", REQUEST_SECONDS="600") as server,
        server.connect() as client,
    ):
        client.sendall(POST)
        assert client.recv(len(CONTINUE)) == CONTINUE

        assert seconds_to_stop(server, signal.SIGTERM, is_group=False) < TIMEOUT_SECONDS
        assert client.recv(1) == b""


def test_a_stop_under_load_loses_no_request(tmp_path: Path) -> None:
    with running_server(tmp_path, WORKERS="2", **UNLIMITED) as server:

        def ensure_begun(number: int) -> None:
            assert begun(server.process.lines()) >= number

        with loading(server.port, requests_by(server.sign_up("ann"))) as running:
            wait_until(lambda: ensure_begun(50))
            assert seconds_to_stop(server, signal.SIGTERM, is_group=False) < TIMEOUT_SECONDS

    outcome = running.result()
    with closing(sqlite3.connect(tmp_path / "microblog.db")) as database:
        [(posts,)] = database.execute("SELECT count(*) FROM posts")
    assert begun(server.process.lines()) == len(outcome.latencies)
    assert posts == outcome.names.count("POST")
    failures = {name.partition(": ")[2] for name in outcome.failures}
    # Without a response, a connection is refused or closed before the first byte.
    assert "ConnectionRefusedError" in failures
    assert failures <= {"ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError"}
