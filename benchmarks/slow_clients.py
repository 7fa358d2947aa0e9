"""Measures how much slow, idle and greedy clients delay other requests, without a proxy in front.

Run: .venv/bin/python -m benchmarks.slow_clients [sqlite|postgresql] [--clients 300] [--seconds 10]
Prints a table: for each kind of client, the latency of other requests meanwhile (lists of 25 posts, `RATE` a
second) in milliseconds, how many of them failed, the memory of the service in MB at first and at most, and
the responses to the clients if they wait for them. A slow client that the server disconnects comes back
within a second.
"""

import resource
import select
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import click

from api.config import API_PREFIX
from benchmarks.load import Request, load, milliseconds, request_bytes
from benchmarks.servers import SECRET, Server, running_service

RATE = 100
CONNECTIONS = 32
# Until all slow clients are connected, and the system's buffers are full of what slow readers ask for.
CONNECT_SECONDS = 20
IDLE_CLIENTS = 1000
SIGN_INS = 64
UPLOADS = 8
UPLOAD_BYTES, BLOCK_BYTES = 100_000_000, 65_536
LIVENESS = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
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
    "slow headers": Kind(LIVENESS.removesuffix(b"\r\n") + b"A: ", b"a"),
    "slow bodies": Kind(f"{POST}Content-Length: 60000\r\n\r\n{{".encode(), b" "),
    # As if the client had lost its network: the connection is open on one side only.
    "bodies that stop": Kind(f"{POST}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode()),
    "slow readers": Kind(b"GET /openapi.yaml HTTP/1.1\r\nHost: a\r\n\r\n" * 30, reads=1),
    "idle keep-alive connections": Kind(LIVENESS),
    "bytes that are not HTTP": Kind(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"\x00"),
}
IDLE = Kind(b"")

# Clients of a port for some seconds; returns what became of their requests.
Clients = Callable[[int, float], str]


@click.command()
@click.argument("database", default="sqlite", type=click.Choice(["sqlite", "postgresql"]))
@click.option("--clients", default=300, show_default=True, help="Slow clients of a kind.")
@click.option("--seconds", default=10.0, show_default=True, help="Time for each row.")
def main(database: str, clients: int, seconds: float) -> None:
    """Measure each kind, and print the table."""
    print("| clients | p50 | p99 | slowest | failed | memory | responses |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    with running_service(database) as server, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        user = server.send("GET", "/users?limit=1").json["items"][0]["username"]
        rows: dict[str, Clients | None] = {
            "none": None,
            **{f"{clients} {name}": partial(be_slow, [kind], clients) for name, kind in KINDS.items()},
            f"{clients} of each kind": partial(be_slow, list(KINDS.values()), clients),
            f"{IDLE_CLIENTS} idle connections": partial(be_slow, [IDLE], IDLE_CLIENTS),
            f"{UPLOADS} bodies of 100 MB at once": partial(upload, is_chunked=False),
            f"{UPLOADS} chunked bodies of 100 MB at once": partial(upload, is_chunked=True),
            f"{SIGN_INS} sign-ins at once": partial(sign_in, user, SECRET),
        }
        for title, others in rows.items():
            print(f"| {title} | {measured(processes, server, others, seconds)} |", flush=True)


def measured(processes: Executor, server: Server, others: Clients | None, seconds: float) -> str:
    """Send requests at an even rate, as other clients do what they do; return the cells of the table."""
    before = server.megabytes()[1]
    running = others and processes.submit(others, server.port, CONNECT_SECONDS + seconds)
    time.sleep(CONNECT_SECONDS if others else 0)
    request = Request(request_bytes("GET", f"{API_PREFIX}/posts?limit=25"))
    requests = processes.submit(
        load, server.port, [request], connections=CONNECTIONS, seconds=seconds, rate=RATE
    )
    sizes = [before]
    while not (requests.done() and (running is None or running.done())):
        sizes.append(server.megabytes()[1])
        time.sleep(0.5)
    outcome = requests.result()
    cells = [*milliseconds(outcome.latencies, 50, 99), str(outcome.failures.total())]
    return " | ".join([*cells, f"{before:.0f} to {max(sizes):.0f}", running.result() if running else ""])


def be_slow(kinds: Sequence[Kind], clients: int, port: int, seconds: float) -> str:
    """Keep so many clients of each kind connected for some seconds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    end = time.monotonic() + seconds
    each = [kind for kind in kinds for _ in range(clients)]
    sockets = [kind.connect(port) for kind in each]
    while time.monotonic() < end:
        time.sleep(1)
        for place, kind in enumerate(each):
            if not goes_on(sockets[place], kind):
                sockets[place].close()
                with suppress(OSError):
                    sockets[place] = kind.connect(port)
    for client in sockets:
        client.close()
    return ""


def goes_on(client: socket.socket, kind: Kind) -> bool:
    """Send and read what a client does each second. False if the server closed the connection."""
    try:
        client.send(kind.then)
        return client.recv(kind.reads) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def upload(port: int, seconds: float, *, is_chunked: bool) -> str:
    """Send large bodies at once for some seconds; return what they got, after how much."""
    end = time.monotonic() + seconds
    outcomes = Counter[str]()
    largest = 0
    with ThreadPoolExecutor(UPLOADS) as threads:
        while time.monotonic() < end:
            for outcome, sent in threads.map(upload_once, UPLOADS * [port], UPLOADS * [is_chunked]):
                outcomes[outcome] += 1
                largest = max(largest, sent)
    got = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    return f"{got}; after at most {largest / 1e6:.1f} MB"


def upload_once(port: int, is_chunked: bool) -> tuple[str, int]:
    """Send a large body until there is a response or the connection breaks; return which, and the bytes."""
    size = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {UPLOAD_BYTES}"
    block = BLOCK_BYTES * b" "
    block = b"%x\r\n%b\r\n" % (len(block), block) if is_chunked else block
    sent, outcome = 0, b""
    with socket.create_connection(("127.0.0.1", port)) as client, suppress(OSError):
        client.sendall(f"{POST}{size}\r\n\r\n".encode())
        while sent < UPLOAD_BYTES and not select.select([client], [], [], 0)[0]:
            client.sendall(block)
            sent += BLOCK_BYTES
        outcome = client.recv(12)[9:]
    return outcome.decode() or "broken connection", sent


def sign_in(username: str, password: str, port: int, seconds: float) -> str:
    """Have so many sign-ins run at once for some seconds; return what they got."""
    credentials = b64encode(f"{username}:{password}".encode()).decode()
    content = request_bytes("POST", f"{API_PREFIX}/tokens", [f"Authorization: Basic {credentials}"])
    outcome = load(port, [Request(content, name="sign-in")], connections=SIGN_INS, seconds=seconds)
    p50, p99, _ = milliseconds(outcome.latencies, 50, 99)
    return f"{len(outcome.latencies)}, p50 {p50} ms, p99 {p99} ms; failed: {dict(outcome.failures) or 'none'}"


if __name__ == "__main__":
    main()
