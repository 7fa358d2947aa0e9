"""Measures a failover of PostgreSQL while clients read and write.

Run: .venv/bin/python -m benchmarks.failover [--rounds 5]

In each round the standby receives nothing for half a second, then the primary is killed, the standby is
promoted, and the former primary returns as the standby of the new one (pg_rewind). The service has two
workers; both servers are in `DATABASE_URL`, and both are replicas. Four clients publish, four read with a
token and four without one, each on a connection of its own, as fast as they get responses; after a 503 they
pause for 20 ms.

Prints a table with a row for each round, with synchronous replication and without: the seconds from the first
503 to the last for each kind of request, the number of 503s and how many of them had no `Retry-After`, other
errors, requests without a response, acknowledged posts that are missing afterwards, and workers that were
replaced.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import count
from threading import Event

import click
import orjson
import psycopg
from psycopg.rows import scalar_row

from api.config import API_PREFIX
from benchmarks.servers import SECRET, SERVE, Server, running_server
from tests.support.server import migrate
from tests.support.standby import Cluster, running_cluster

CLIENTS_OF_A_KIND = 4
PAUSE_SECONDS = 0.02
# Before the primary is killed. On one machine, a standby has each write within a millisecond otherwise.
CUT_OFF_SECONDS = 0.5
KINDS = ("publish", "feed", "posts")


@dataclass
class Responses:
    """The responses to the requests of one kind."""

    succeeded: int = 0
    # The times of the responses 503.
    unavailable: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    other_statuses: int = 0
    lost: int = 0
    # The bodies of posts whose publication was acknowledged.
    published: list[str] = field(default_factory=list)

    def add(self, others: "Responses") -> None:
        """Add the responses to other requests of the kind."""
        self.succeeded += others.succeeded
        self.unavailable = sorted(self.unavailable + others.unavailable)
        self.without_retry_after += others.without_retry_after
        self.other_statuses += others.other_statuses
        self.lost += others.lost
        self.published += others.published

    @property
    def seconds_unavailable(self) -> float:
        """The time from the first 503 to the last."""
        return self.unavailable[-1] - self.unavailable[0] if self.unavailable else 0.0


@dataclass
class Outcome:
    """The responses by kind, the acknowledged posts that are missing, and the workers that were replaced."""

    responses: dict[str, Responses]
    missing: int
    workers_replaced: int

    def total(self, count_of: Callable[[Responses], int]) -> int:
        """Return a sum over all kinds."""
        return sum(count_of(one) for one in self.responses.values())

    def cells(self) -> str:
        """Return the cells of the table."""
        seconds = [f"{self.responses[kind].seconds_unavailable:.1f}" for kind in KINDS]
        counts = [
            self.total(lambda one: one.succeeded),
            self.total(lambda one: len(one.unavailable)),
            self.total(lambda one: one.without_retry_after),
            self.total(lambda one: one.other_statuses),
            self.total(lambda one: one.lost),
            len(self.responses["publish"].published),
            self.missing,
            self.workers_replaced,
        ]
        return " | ".join([*seconds, *map(str, counts)])


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    """Fail over a number of times in each mode, and print the table."""
    print(
        "| replication | 503 for writes (s) | with a token (s) | anonymous (s) | succeeded | 503 "
        "| without Retry-After | other errors | lost requests | acknowledged posts | missing "
        "| workers replaced |"
    )
    print("| --- |" + " ---: |" * 11)
    for is_synchronous in (True, False):
        mode = "synchronous" if is_synchronous else "asynchronous"
        for _ in range(rounds):
            print(f"| {mode} | {fail_over(is_synchronous=is_synchronous).cells()} |", flush=True)


def fail_over(*, is_synchronous: bool, seconds: float = 4.0, **settings: str) -> Outcome:
    """Fail over once; the load lasts for some seconds before, between and after the two steps.

    `settings` are those of PostgreSQL.
    """
    with running_cluster(**settings) as cluster:
        primary, standby = cluster.primary_socket, cluster.standby_socket
        url = f"{cluster.url(standby, primary)}&target_session_attrs=read-write"
        migrate(url)
        if is_synchronous:
            make_synchronous(cluster)
        replicas = f"{cluster.url(standby)} {cluster.url(primary)}"
        with running_server("service", SERVE, url, WORKERS="2", DATABASE_REPLICA_URLS=replicas) as server:
            workers = server.process.children()
            responses = responses_during(
                server, [partial(fail_over_by_crash, cluster), cluster.return_primary], seconds
            )
            replaced = len(set(workers) - set(server.process.children()))
        with psycopg.connect(cluster.url(standby), row_factory=scalar_row) as connection:
            stored = set(connection.execute("SELECT body FROM posts"))
        published = responses["publish"].published
        return Outcome(responses, len(set(published) - stored), replaced)


def fail_over_by_crash(cluster: Cluster) -> None:
    """Cut off the standby from the primary, kill the primary, and promote the standby."""
    cluster.cut_off()
    time.sleep(CUT_OFF_SECONDS)
    cluster.kill_primary()
    cluster.control(cluster.standby_socket, "promote")


def make_synchronous(cluster: Cluster) -> None:
    """Have commits wait until the standby has stored them."""
    cluster.configure(cluster.primary_socket, "synchronous_standby_names", "*")
    state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
    while not cluster.execute(cluster.primary_socket, state):
        time.sleep(0.01)


def responses_during(
    server: Server, steps: Sequence[Callable[[], None]], seconds: float
) -> dict[str, Responses]:
    """Run clients during some steps, and for some seconds before, between and after them."""
    account = {"username": "ann", "email": "ann@example.com", "password": SECRET}
    server.send("POST", "/users", body=orjson.dumps(account))
    token = server.sign_in("ann")
    stop = Event()
    found = {kind: Responses() for kind in KINDS}
    with ThreadPoolExecutor(CLIENTS_OF_A_KIND * len(KINDS)) as threads:
        running = [
            (kind, threads.submit(be_client, server, kind, f"{kind} {number}", token, stop))
            for kind in KINDS
            for number in range(CLIENTS_OF_A_KIND)
        ]
        try:
            for step in steps:
                time.sleep(seconds)
                step()
            time.sleep(seconds)
        finally:
            stop.set()
        for kind, client in running:
            found[kind].add(client.result())
    return found


def be_client(server: Server, kind: str, name: str, token: str, stop: Event) -> Responses:
    """Repeat a request until told to stop."""
    found = Responses()
    headers = {"Content-Type": "application/json"}
    if kind != "posts":
        headers["Authorization"] = f"Bearer {token}"
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        numbers = count()
        while not stop.is_set():
            text = f"{name}, {next(numbers)}"
            try:
                if kind == "publish":
                    connection.request("POST", f"{API_PREFIX}/posts", orjson.dumps({"body": text}), headers)
                else:
                    connection.request("GET", f"{API_PREFIX}/{kind}", headers=headers)
                response = connection.getresponse()
                response.read()
            except (OSError, HTTPException):
                found.lost += 1
                connection.close()
                continue
            if response.status < 300:
                found.succeeded += 1
                found.published += [text] * (kind == "publish")
            elif response.status == 503:
                found.unavailable.append(time.monotonic())
                found.without_retry_after += "Retry-After" not in response.headers
                time.sleep(PAUSE_SECONDS)
            else:
                found.other_statuses += 1
    return found


if __name__ == "__main__":
    main()
