"""A load generator: sends HTTP requests over a few keep-alive connections."""

import select
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, repeat
from random import Random
from statistics import quantiles
from time import perf_counter
from typing import NamedTuple

TIMEOUT_SECONDS = 30
RECEIVE_BYTES = 1 << 18


class HalfResponseError(ConnectionError):
    """A connection broke after the first byte of a response, and before the last one."""


class Request(NamedTuple):
    """A request, the status of the expected response, and the name of the operation."""

    content: bytes
    status: int = 200
    name: str = ""


@dataclass
class Load:
    """The outcome of a load. Latencies are in seconds, in the order of the responses, as are the names."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    # Unexpected statuses and errors of connections, such as `GET /feed: 503`.
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds


def request_bytes(method: str, path: str, headers: Iterable[str] = (), body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json", *headers]
    if method in {"POST", "PATCH"}:
        lines += ["Content-Type: application/json"] * bool(body) + [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def load(
    port: int,
    requests: Iterable[Request],
    *,
    connections: int,
    seconds: float,
    rate: float | None = None,
    at_random: bool = False,
) -> Load:
    """Send requests in turn for some seconds, and wait for all responses.

    Without a rate, each connection sends its next request when it has its response (a closed loop). With a
    rate, requests are due at regular intervals, or at those of independent clients (a Poisson process), and
    latency counts from the time at which a request is due, even if all connections are busy then (an open
    loop). A response with another status than the expected one, and a connection that breaks or times out,
    is a failure.
    """
    outcome = Load()
    series = chain.from_iterable(repeat(requests))
    random = Random(1)
    idle: list[socket.socket] = []
    busy: dict[socket.socket, tuple[float, Request]] = {}
    began = due = perf_counter()
    end = began + seconds
    while True:
        now = perf_counter()
        while len(busy) < connections and now < end and (rate is None or due <= min(now, end)):
            request = next(series)
            try:
                # Connections are opened on demand: a thread of gunicorn waits for the first request of each.
                connection = _usable(idle) or _connect(port)
                connection.sendall(request.content)
                busy[connection] = now if rate is None else due, request
            except OSError as error:
                outcome.failures[f"{request.name}: {type(error).__name__}"] += 1
                now = perf_counter()
            due += (random.expovariate(rate) if at_random else 1 / rate) if rate else 0
        if not busy and now >= end:
            break
        can_only_receive = len(busy) == connections or now >= end
        timeout = TIMEOUT_SECONDS if can_only_receive else max(0.0, min(due, end) - now)
        readable, _, _ = select.select(list(busy), [], [], timeout)
        if not readable and timeout == TIMEOUT_SECONDS:
            outcome.failures.update(f"{request.name}: TimeoutError" for _, request in busy.values())
            break
        for connection in readable:
            due_at, request = busy.pop(connection)
            _receive(outcome, connection, request, due_at, idle)
    outcome.seconds = perf_counter() - began
    for connection in [*idle, *busy]:
        connection.close()
    return outcome


def milliseconds(latencies: Iterable[float], *percents: float) -> list[str]:
    """Return percentiles of latencies, such as 99.9, and the highest one, in milliseconds."""
    ordered = sorted(latencies)
    cuts = quantiles(ordered, n=1000, method="inclusive") if len(ordered) > 1 else 999 * ordered
    found = [cuts[round(10 * percent) - 1] for percent in percents]
    return [f"{1000 * seconds:.1f}" for seconds in [*found, ordered[-1]]]


def _receive(
    outcome: Load, connection: socket.socket, request: Request, due: float, idle: list[socket.socket]
) -> None:
    """Add a response to the outcome, and its connection to the idle ones unless it is closed."""
    try:
        status, is_last = _receive_response(connection)
    except OSError as error:
        outcome.failures[f"{request.name}: {type(error).__name__}"] += 1
        connection.close()
        return
    outcome.latencies.append(perf_counter() - due)
    outcome.names.append(request.name)
    if status != request.status:
        outcome.failures[f"{request.name}: {status}"] += 1
    if is_last:
        connection.close()
    else:
        idle.append(connection)


def _usable(idle: list[socket.socket]) -> socket.socket | None:
    """Remove and return the connection that was used last; discard those that the server has closed."""
    while idle:
        connection = idle.pop()
        if not select.select([connection], [], [], 0)[0]:
            return connection
        connection.close()
    return None


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive_response(connection: socket.socket) -> tuple[int, bool]:
    """Receive a whole response; return its status, and whether the server closes the connection after it.

    Raises HalfResponseError or, without any byte of a response, ConnectionResetError. All servers in the
    benchmarks send Content-Length.
    """
    received = fields = b""
    missing = 1
    while missing > 0:
        try:
            more = connection.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            more = b""
        if not more:
            raise HalfResponseError if received else ConnectionResetError
        received += more
        head = received.find(b"\r\n\r\n")
        if head >= 0:
            fields = received[:head].lower()
            position = fields.find(b"content-length:")
            length = int(fields[position + 15 :].partition(b"\r")[0]) if position >= 0 else 0
            missing = head + 4 + length - len(received)
    return int(received[9:12]), b"\r\nconnection: close" in fields
