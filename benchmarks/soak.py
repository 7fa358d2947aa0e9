"""Loads the service for ten minutes with the requests of a social network, at 70 % of its capacity.

Run: .venv/bin/python -m benchmarks.soak [sqlite|postgresql] [--seconds 600] [--share 0.7] [--picture FILE]

The requests are those of `benchmarks/mix.py`. The capacity is the rate that a closed loop of `CONNECTIONS`
connections reaches first. The load itself is an open loop: requests are due at random times, as those of
independent clients, whether the service responds in time or not, and latency counts from when they are due.
Prints latencies in milliseconds by operation, failures, and the memory of all processes of the service, which
is flat if the line fitted to its last two thirds rises by less than `FLAT_PERCENT`.

With --picture, Prometheus scrapes the service meanwhile, and the panels of the Grafana dashboard are drawn
from it. This needs prometheus, and matplotlib, which .venv-bench has.
"""

import secrets
import time
from collections import defaultdict
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression
from tempfile import TemporaryDirectory

import click

from benchmarks.dashboard import draw, running_prometheus
from benchmarks.load import Load, load, milliseconds
from benchmarks.mix import OPERATIONS, make_mix
from benchmarks.servers import DATABASES, Server, running_service

CONNECTIONS = 16
# More than are ever busy, unless the service stalls.
CONNECTIONS_MAXIMUM = 900
SAMPLES = 120
FLAT_PERCENT = 2

Samples = list[tuple[float, float]]


@click.command()
@click.argument("kind", default="sqlite", type=click.Choice(list(DATABASES)))
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--share", default=0.7, show_default=True, help="Share of the capacity.")
@click.option("--posts", default=20_000, show_default=True, help="Posts in the database at first.")
@click.option("--workers", default=2, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the dashboard into this file.")
def main(kind: str, seconds: float, share: float, posts: int, workers: int, picture: Path | None) -> None:
    """Start the service, and measure it."""
    token = secrets.token_hex()
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as loads:
        metrics = Path(folder, "metrics")
        metrics.mkdir()
        settings = {"METRICS_TOKEN": token, "METRICS_FOLDER": str(metrics)}
        with running_service(kind, posts=posts, workers=workers, **settings) as server:
            scraped = running_prometheus(server.port, token, Path(folder)) if picture else nullcontext()
            with scraped as prometheus:
                soak(server, loads, seconds, share)
                if prometheus and picture:
                    print(f"Alerts: {', '.join(prometheus.alerts()) or 'none'}.")
                    draw(prometheus, picture)


def soak(server: Server, loads: Executor, seconds: float, share: float) -> None:
    """Find the capacity of a server with a seeded database, run the load, and print the tables."""
    mix = make_mix(server)
    for _ in range(2):  # The workers compile their queries in the first round.
        closed = loads.submit(load, server.port, mix, connections=CONNECTIONS, seconds=seconds / 30)
        capacity = closed.result().rate
    rate = share * capacity
    print(f"Capacity: {capacity:.0f} requests a second. Load: {rate:.0f} a second.", flush=True)
    running = loads.submit(
        load,
        server.port,
        mix,
        connections=CONNECTIONS_MAXIMUM,
        seconds=seconds,
        rate=rate,
        at_random=True,
    )
    samples = memory(server, running, seconds / SAMPLES)
    print(f"\n{latencies(running.result())}\n\n{growth(samples)}")


def memory(server: Server, running: Future[Load], pause: float) -> Samples:
    """Return the memory of all processes of a server in MB, by the time in seconds, while a load runs."""
    began, samples = time.monotonic(), []
    while not running.done():
        samples.append((time.monotonic() - began, server.megabytes()[1]))
        time.sleep(pause)
    return samples


def growth(samples: Samples) -> str:
    """Return sentences on the memory of the service over time."""
    last = samples[len(samples) // 3 :]
    slope, intercept = linear_regression(*zip(*last, strict=True))
    first, end = (intercept + slope * at for at in (last[0][0], last[-1][0]))
    percent = 100 * (end - first) / first
    verdict = "flat" if percent < FLAT_PERCENT else "not flat"
    return (
        f"Memory: {samples[0][1]:.1f} MB at first, {max(size for _, size in samples):.1f} MB at most. "
        f"Line through the last two thirds: from {first:.1f} to {end:.1f} MB ({percent:+.1f} %, {verdict})."
    )


def latencies(outcome: Load) -> str:
    """Return a table of latencies by operation, and the failures."""
    by_name = defaultdict(list)
    for name, latency in zip(outcome.names, outcome.latencies, strict=True):
        by_name[name].append(latency)
    lines = ["| operation | share | requests | p50 | p99 | p99.9 | slowest |", "| --- |" + " ---: |" * 6]
    groups = {
        "all": OPERATIONS,
        "reads": [one for one in OPERATIONS if one.is_read],
        "writes": [one for one in OPERATIONS if not one.is_read],
        **{one.name: [one] for one in OPERATIONS},
    }
    for title, operations in groups.items():
        if found := [latency for one in operations for latency in by_name[one.name]]:
            cells = [f"{sum(one.share for one in operations):g} %", str(len(found))]
            lines.append(f"| {' | '.join([title, *cells, *milliseconds(found, 50, 99, 99.9)])} |")
    failures = ", ".join(f"{count} {what}" for what, count in outcome.failures.items())
    return "\n".join([*lines, "", f"Failures: {failures or 'none'}."])


if __name__ == "__main__":
    main()
