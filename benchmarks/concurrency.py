"""Compares numbers of processes and threads of the service under 1, 8, 64 and 256 connections.

Run: .venv/bin/python -m benchmarks.concurrency [sqlite|postgresql] [--settings 1x8,2x4]

A setting is `WORKERS` x `THREADS`. Prints a table of responses per second, the median and the 99th
percentile of latency in milliseconds, and the number of responses with an unexpected status: for reads only
(a list of 25 posts), then with a tenth of the connections publishing at the same time, whose figures follow
after a `+`. The load comes from the same machine and takes its share of the processors.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

import click
import orjson

from api.config import API_PREFIX
from benchmarks.load import Load, Request, load, milliseconds, request_bytes
from benchmarks.servers import DATABASES, SECRET, SERVE, Server, run_flask, running_database, running_server

CONNECTIONS = (1, 8, 64, 256)
SECONDS = 3.0


@click.command()
@click.argument("kind", default="sqlite", type=click.Choice(list(DATABASES)))
@click.option("--settings", default="1x1,1x2,1x4,1x8,1x16,2x2,2x4,2x8", help="WORKERSxTHREADS, ...")
def main(kind: str, settings: str) -> None:
    """Measure each setting, and print the table."""
    print("| processes x threads | connections | requests/s | p50 | p99 | unexpected |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with ProcessPoolExecutor(2, get_context("spawn")) as processes, running_database(kind) as database:
        url = database.create("seeded")
        run_flask(url, "db", "upgrade")
        run_flask(url, "seed", "--users=100", "--posts=1000", "--password", SECRET)
        for setting in settings.split(","):
            workers, threads = setting.split("x")
            database_url = database.copy("seeded", f"copy_{setting}")
            with running_server(setting, SERVE, database_url, WORKERS=workers, THREADS=threads) as server:
                read, publish = requests_to(server)
                publishing = [(connections, max(1, connections // 10)) for connections in CONNECTIONS[1:]]
                for connections, writers in [*product(CONNECTIONS, [0]), *publishing]:
                    mix = [(read, connections - writers), (publish, writers)]
                    outcomes = measure(processes, server.port, [part for part in mix if part[1]])
                    print(f"| {setting} | {connections} | {cells(outcomes)} |", flush=True)


def requests_to(server: Server) -> tuple[Request, Request]:
    """Return a request that reads and one that publishes."""
    author = server.send("GET", "/users?limit=1").json["items"][0]["username"]
    headers = [f"Authorization: Bearer {server.sign_in(author)}"]
    body = orjson.dumps({"body": "The first snowdrops are out. #garden"})
    return (
        Request(request_bytes("GET", f"{API_PREFIX}/posts?limit=25")),
        Request(request_bytes("POST", f"{API_PREFIX}/posts", headers, body), 201),
    )


def measure(processes: Executor, port: int, mix: Sequence[tuple[Request, int]]) -> list[Load]:
    """Send several kinds of requests at the same time, each over its number of connections."""
    running = [
        processes.submit(load, port, [request], connections=connections, seconds=SECONDS)
        for request, connections in mix
    ]
    return [one.result() for one in running]


def cells(outcomes: Sequence[Load]) -> str:
    """Return the figures of simultaneous loads as cells of a table."""
    columns = []
    for outcome in outcomes:
        p50, p99, _ = milliseconds(outcome.latencies, 50, 99)
        columns.append([f"{outcome.rate:.0f}", p50, p99, str(outcome.failures.total())])
    return " | ".join(" + ".join(figures) for figures in zip(*columns, strict=True))


if __name__ == "__main__":
    main()
