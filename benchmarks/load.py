"""A load generator: repeats one HTTP request over a few keep-alive connections."""

import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter

TIMEOUT_SECONDS = 30
RECEIVE_BYTES = 1 << 18


@dataclass
class Load:
    """The outcome of a load. Latencies are in seconds, in the order of the responses."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: int = 0

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds


def request_bytes(method: str, path: str, headers: Iterable[str] = (), body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json", *headers]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def load(
    port: int, request: bytes, *, status: int, connections: int, seconds: float, rate: float | None = None
) -> Load:
    """Repeat a request for some seconds, and wait for all responses.

    Without a rate, each connection sends its next request when it has its response (a closed loop). With a
    rate, requests are due at regular intervals, and latency counts from the time at which a request is due,
    even if all connections are busy then (an open loop). A response with another status than the given one is
    a failure. A connection that breaks or times out raises OSError.
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
            # Connections are opened on demand: a thread of gunicorn waits for the first request of each.
            connection = idle.pop() if idle else _connect(port)
            connection.sendall(request)
            busy[connection] = now if rate is None else due
            due += 1 / rate if rate else 0
        if not busy and now >= end:
            break
        can_only_receive = len(busy) == connections or now >= end
        timeout = TIMEOUT_SECONDS if can_only_receive else max(0.0, min(due, end) - now)
        readable, _, _ = select.select(list(busy), [], [], timeout)
        if not readable and timeout == TIMEOUT_SECONDS:
            raise TimeoutError
        for connection in readable:
            response = _receive_response(connection)
            outcome.latencies.append(perf_counter() - busy.pop(connection))
            outcome.failures += response[8:13] != expected
            idle.append(connection)
    outcome.seconds = perf_counter() - began
    for connection in idle:
        connection.close()
    return outcome


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive_response(connection: socket.socket) -> bytes:
    """Return a whole response. All servers in the benchmarks send Content-Length."""
    received = _receive(connection)
    while (head := received.find(b"\r\n\r\n")) < 0:
        received += _receive(connection)
    fields = received[:head].lower()
    position = fields.find(b"content-length:")
    length = int(fields[position + 15 :].partition(b"\r")[0]) if position >= 0 else 0
    while len(received) < head + 4 + length:
        received += _receive(connection)
    return received


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(RECEIVE_BYTES)
    if not received:
        raise ConnectionResetError
    return received
