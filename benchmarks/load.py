"""Requests over a few connections that stay open, as many as can be or so many a second."""

import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter

PATIENCE_SECONDS = 30
RECEIVED_AT_ONCE = 1 << 18


@dataclass
class Load:
    """What came of it. Latencies are in seconds, in the order of the answers."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: int = 0


def request_bytes(method: str, path: str, headers: Iterable[str] = (), body: bytes = b"") -> bytes:
    """Return a request of HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json", *headers]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def load(
    port: int, request: bytes, *, status: int, connections: int, seconds: float, rate: float | None = None
) -> Load:
    """Send a request again and again for some time, and wait for all answers.

    Without a rate each connection sends its next request when it has its answer (a closed loop). With one,
    requests are due at even distances whatever becomes of the others, and latency counts from when they
    were due (an open loop): waiting for a free connection counts too.
    Another status than the expected one is a failure; a connection that breaks, or stays silent, raises
    OSError.
    """
    outcome = Load()
    expected = f" {status} ".encode()
    idle: list[socket.socket] = []
    busy: dict[socket.socket, float] = {}
    began = due = perf_counter()
    end = began + seconds
    while True:
        now = perf_counter()
        while len(busy) < connections and now < end and (rate is None or due <= min(now, end)):
            # Not before it is needed: a thread of gunicorn waits for a new connection's first request.
            connection = idle.pop() if idle else _connection(port)
            connection.sendall(request)
            busy[connection] = now if rate is None else due
            due += 1 / rate if rate else 0
        if not busy and now >= end:
            break
        is_full = len(busy) == connections or now >= end
        wait = PATIENCE_SECONDS if is_full else max(0.0, min(due, end) - now)
        readable, _, _ = select.select(list(busy), [], [], wait)
        if not readable and wait == PATIENCE_SECONDS:
            raise TimeoutError
        for connection in readable:
            answer = _answer(connection)
            outcome.latencies.append(perf_counter() - busy.pop(connection))
            outcome.failures += answer[8:13] != expected
            idle.append(connection)
    outcome.seconds = perf_counter() - began
    for connection in idle:
        connection.close()
    return outcome


def _connection(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _answer(connection: socket.socket) -> bytes:
    """Return an answer whole. All servers here say its length."""
    received = connection.recv(RECEIVED_AT_ONCE)
    while (head := received.find(b"\r\n\r\n")) < 0:
        received += _more(connection)
    fields = received[:head].lower()
    place = fields.find(b"content-length:")
    length = int(fields[place + 15 :].partition(b"\r")[0]) if place >= 0 else 0
    while len(received) < head + 4 + length:
        received += _more(connection)
    return received


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(RECEIVED_AT_ONCE)
    if not received:
        raise ConnectionResetError
    return received
