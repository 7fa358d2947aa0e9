"""Measures how much slow clients delay other requests, without a proxy in front.

Run: .venv/bin/python -m benchmarks.slow_clients [sqlite|postgresql] [--clients 300] [--seconds 10]
Prints a table: for each kind of slow client, and for all kinds at once, the latency of other requests (lists
of 25 posts, `RATE` a second) in milliseconds, and how many of them failed. A slow client that the server
disconnects comes back within a second.
"""

import socket
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from statistics import quantiles

import click

from benchmarks.load import Load, load, request_bytes
from benchmarks.servers import API_PREFIX, running_service

RATE = 100
CONNECTIONS = 32
# Until all slow clients are connected, and the system's buffers are full of what slow readers ask for.
CONNECT_SECONDS = 20
POST = f"POST {API_PREFIX}/users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@dataclass(frozen=True)
class Kind:
    """A kind of slow client: what it sends at first, then each second, and what it reads each second."""

    first: bytes
    then: bytes = b""
    reads: int = 65_536

    def connect(self, port: int) -> socket.socket:
        """Connect, and send what comes first."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(self.first)
        client.setblocking(False)
        return client


KINDS = {
    "slow headers": Kind(b"GET /livez HTTP/1.1\r\nHost: a\r\nA: ", b"a"),
    "slow bodies": Kind(f"{POST}Content-Length: 60000\r\n\r\n{{".encode(), b" "),
    "bodies that stop": Kind(f"{POST}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode()),
    "idle connections": Kind(b""),
    "slow readers": Kind(b"GET /openapi.yaml HTTP/1.1\r\nHost: a\r\n\r\n" * 30, reads=1),
}


@click.command()
@click.argument("database", default="sqlite", type=click.Choice(["sqlite", "postgresql"]))
@click.option("--clients", default=300, show_default=True, help="Slow clients of a kind.")
@click.option("--seconds", default=10.0, show_default=True, help="Time for each row.")
def main(database: str, clients: int, seconds: float) -> None:
    """Measure each kind, and print the table."""
    print("| slow clients | p50 | p99 | slowest | failed |\n| --- | ---: | ---: | ---: | ---: |")
    context = get_context("spawn")
    with running_service(database) as server, ProcessPoolExecutor(1, context) as loads:
        request = request_bytes("GET", f"{API_PREFIX}/posts?limit=25")
        print(row("none", measured(loads, server.port, request, seconds)), flush=True)
        for names in [[name] for name in KINDS] + [list(KINDS)]:
            stop = context.Event()
            process = context.Process(target=be_slow, args=(server.port, names, clients, stop))
            process.start()
            time.sleep(CONNECT_SECONDS)
            outcome = measured(loads, server.port, request, seconds)
            stop.set()
            process.join()
            name = f"{clients} {names[0]}" if len(names) == 1 else f"{clients} of each kind"
            print(row(name, outcome), flush=True)


def measured(loads: Executor, port: int, request: bytes, seconds: float) -> Load:
    """Send other requests at an even rate."""
    running = loads.submit(
        load, port, request, status=200, connections=CONNECTIONS, seconds=seconds, rate=RATE
    )
    return running.result()


def be_slow(port: int, names: list[str], clients: int, stop: Event) -> None:
    """Keep so many clients of each kind connected until told to stop."""
    kinds = [KINDS[name] for name in names for _ in range(clients)]
    sockets = [kind.connect(port) for kind in kinds]
    while not stop.wait(1):
        for place, kind in enumerate(kinds):
            if not goes_on(sockets[place], kind):
                sockets[place].close()
                with suppress(OSError):
                    sockets[place] = kind.connect(port)


def goes_on(client: socket.socket, kind: Kind) -> bool:
    """Send and read what a client does each second. False if the server closed the connection."""
    try:
        client.send(kind.then)
        return client.recv(kind.reads) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def row(name: str, outcome: Load) -> str:
    """Return a row of the table."""
    p50, p99 = (1000 * quantiles(outcome.latencies, n=100)[percent - 1] for percent in (50, 99))
    return f"| {name} | {p50:.1f} | {p99:.1f} | {1000 * max(outcome.latencies):.1f} | {outcome.failures} |"


if __name__ == "__main__":
    main()
