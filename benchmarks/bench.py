"""Compares the service with other servers that return the same JSON for the same rows: `make bench`.

All servers run at the same time with one worker process each, each on its own copy of one database, first on
SQLite, then on PostgreSQL. They are loaded in turn. Processor time is that of all processes of a server, per
response, in a closed loop; it and the rate are medians of rounds. The processor time of PostgreSQL's
processes is stated separately. Latency is measured in an open loop at half the rate of the slowest server;
its percentiles are those of all rounds together. Memory is the proportional set size of the largest process
of a server, and of all.

Run: make bench
Options: .venv-bench/bin/python -m benchmarks.bench --quick --database sqlite --baseline FOLDER
"""

import argparse
import difflib
import os
import platform
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import jwt
import orjson
from sqlalchemy import create_engine, text

from api.config import API_PREFIX
from benchmarks.load import Load, Request, load, request_bytes
from benchmarks.servers import (
    DATABASES,
    SECRET,
    SERVE,
    Database,
    Response,
    Server,
    run_flask,
    running_database,
    running_server,
)

CONNECTIONS = 4
OPEN_LOOP_CONNECTIONS = 32
FLOOR, SERVICE, BASELINE = "floor", "Microblog", "baseline"
FASTAPI_IN_LOOP, FASTAPI_ASYNCPG, FASTIFY = "FastAPI in its loop", "FastAPI + asyncpg", "Fastify"
GRANIAN = (
    "python -m granian --interface wsgi --workers 1 --blocking-threads 1 --host 127.0.0.1 --port {port}"
    " --log-level warning benchmarks.compare"
)
UVICORN = "python -m uvicorn --workers 1 --port {port} --no-access-log benchmarks.compare"
GUNICORN = (
    "python -m gunicorn --workers 1 --worker-class gthread --threads 8 --keep-alive 75"
    " --bind 127.0.0.1:{port} benchmarks.compare"
)
FASTIFY_FOLDER = Path(__file__).parent / "compare" / "fastify"
COMMANDS = {
    FLOOR: f"{GRANIAN}.floor:app",
    SERVICE: SERVE,
    FASTAPI_IN_LOOP: f"{UVICORN}.fastapi_in_loop:app",
    FASTAPI_ASYNCPG: f"{UVICORN}.fastapi_asyncpg:app",
    "Falcon": f"{GRANIAN}.falcon_orjson:app",
    FASTIFY: f"node {FASTIFY_FOLDER}/server.js",
    "FastAPI tuned": f"{UVICORN}.fastapi_tuned:app",
    "FastAPI + SQLModel": f"{UVICORN}.fastapi_sqlmodel:app",
    "Django REST framework": f"{GUNICORN}.drf:application",
}
ONLY_ON = {
    FASTAPI_ASYNCPG: "PostgreSQL",
    **dict.fromkeys([FASTAPI_IN_LOOP, FASTIFY, "FastAPI + SQLModel", "Django REST framework"], "SQLite"),
}
# The strongest server in the same language, of which the service must not be far behind.
RIVALS = {"SQLite": FASTAPI_IN_LOOP, "PostgreSQL": FASTAPI_ASYNCPG}
PACKAGES = """
    granian uvicorn gunicorn flask marshmallow sqlalchemy psycopg asyncpg falcon fastapi sqlmodel django
    djangorestframework orjson
""".split()
NOTES = """
Commits wait for the disk: `synchronous=FULL` on SQLite, the defaults on PostgreSQL.
Tokens are signed, and a request with a token reads session and user in one statement.
(In FastAPI's documentation a token is signed and names a user; in that of Django REST framework it is a row.)
FastAPI + SQLModel loads relations eagerly, unlike its tutorial.
All but Microblog and those two force the feed to be read from the newest post on.
Fastify finds words, hashtags and mentions by simpler rules, and no URLs.
Only Microblog rejects unknown parameters, signs cursors, limits rates, and writes an access log.
""".strip()


@dataclass(frozen=True)
class Workload:
    """A request that is repeated."""

    name: str
    path: str
    method: str = "GET"
    body: bytes = b""
    status: int = 200
    has_token: bool = False
    is_conditional: bool = False

    def headers(self, server: Server, etag: str | None = None) -> dict[str, str]:
        """Return the headers of the request to a server."""
        headers = {"Authorization": f"Bearer {server.token}"} if self.has_token else {}
        return headers | ({"If-None-Match": etag} if etag else {})

    def send(self, server: Server) -> Response:
        """Send the request once, without its condition."""
        return server.send(self.method, self.path, self.headers(server), self.body)


@dataclass
class Figures:
    """The measurements of one server under one workload."""

    rates: list[float] = field(default_factory=list)
    server_times: list[float] = field(default_factory=list)
    database_times: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Responses per second."""
        return median(self.rates)

    @property
    def server_time(self) -> float:
        """Seconds of processor time per response."""
        return median(self.server_times)

    @property
    def database_time(self) -> float:
        """Seconds of processor time per response in PostgreSQL's processes."""
        return median(self.database_times)

    @property
    def total_time(self) -> float:
        """Seconds of processor time per response in all processes."""
        return self.server_time + self.database_time

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies, in seconds."""
        return quantiles(self.latencies, n=100)[percent - 1]


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    databases: list[str]
    servers: list[str]
    baseline: Path | None
    only: str
    posts: int
    rounds: int
    seconds: float


def main() -> None:
    """Run the comparison, and print the tables."""
    options = parse_options()
    print(environment(options))
    for kind in options.databases:
        with (
            running_database(kind) as database,
            ProcessPoolExecutor(1, get_context("spawn")) as load_process,
            ExitStack() as running,
        ):
            workloads, caller = seed(database, options.posts)
            servers = start_servers(database, caller, options, running)
            print(f"\n## {database.kind}\n\n{database.version}.", flush=True)
            measured = {}
            for workload in workloads:
                able = compare_responses(servers, workload) if options.only in workload.name else []
                if any(server.name != FLOOR for server in able):
                    figures, rate = measure(load_process, able, database, workload, options)
                    print(workload_table(workload, figures, rate, database), flush=True)
                    measured[workload.name] = figures
            print(summary(servers, measured, database), flush=True)
    print(f"\n{NOTES}")


def parse_options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare the service with other servers.")
    parser.add_argument("--quick", action="store_true", help="a trial of a minute; its figures mean little")
    parser.add_argument("--database", choices=DATABASES, help="only this one instead of both")
    parser.add_argument(
        "--servers", default=",".join(COMMANDS), help="only these, separated by commas: %(default)s"
    )
    parser.add_argument("--only", default="", help="only workloads whose names contain this")
    parser.add_argument(
        "--baseline", type=Path, metavar="FOLDER", help="a checkout of another commit of the service"
    )
    given = parser.parse_args()
    rounds, seconds, posts = (2, 0.3, 2_000) if given.quick else (11, 0.4, 20_000)
    servers = given.servers.split(",")
    if unknown := set(servers).difference(COMMANDS):
        parser.error(f"there is no server {', '.join(unknown)}")
    return Options(
        databases=[given.database] if given.database else list(DATABASES),
        servers=servers,
        baseline=given.baseline and given.baseline.resolve(),
        only=given.only,
        posts=posts,
        rounds=rounds,
        seconds=seconds,
    )


def seed(database: Database, posts: int) -> tuple[list[Workload], str]:
    """Create the database `seeded`, with one session; return the workloads and the caller's username."""
    url = database.create("seeded")
    run_flask(url, "db", "upgrade")
    run_flask(url, "seed", "--posts", str(posts), "--password", SECRET)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        author = connection.scalar(text("SELECT username FROM users ORDER BY post_count DESC, id"))
        caller = connection.scalar(text("SELECT username FROM users ORDER BY following_count DESC, id"))
        post_id = connection.scalar(text("SELECT max(post_id) FROM entities"))
    engine.dispose()
    body = orjson.dumps({"body": f"The first snowdrops are out, @{author}. #garden"})
    workloads = [
        Workload("one post", f"/posts/{post_id}"),
        Workload("list of 25", "/posts?limit=25"),
        Workload("list of 25, with a token", "/posts?limit=25", has_token=True),
        Workload("list of 100", "/posts?limit=100"),
        Workload("a user's posts, 25", f"/users/{author}/posts?limit=25"),
        Workload("feed, 25", "/feed?limit=25", has_token=True),
        Workload("one post, 304", f"/posts/{post_id}", status=304, is_conditional=True),
        Workload("list of 25, 304", "/posts?limit=25", status=304, is_conditional=True),
        Workload("publish", "/posts", "POST", body, 201, has_token=True),
    ]
    with running_server(SERVICE, SERVE, url) as server:
        server.sign_in(caller)
    return workloads, caller


def start_servers(database: Database, caller: str, options: Options, running: ExitStack) -> list[Server]:
    """Start each server on its own copy of the database, with a token of the caller."""
    token = jwt.encode({"sub": "1", "exp": int(time.time()) + 86_400}, SECRET)  # Of the session of seed().
    names = [name for name in options.servers if ONLY_ON.get(name, database.kind) == database.kind]
    if FASTIFY in names and not (FASTIFY_FOLDER / "node_modules").exists():
        names.remove(FASTIFY)
        print("\nFastify is left out: `make bench` installs it where there is npm.")
    servers = []
    for number, name in enumerate(names):
        url = database.copy("seeded", f"copy_{number}")
        servers.append(running.enter_context(running_server(name, COMMANDS[name], url, WORKERS="1")))
    if options.baseline:
        url = database.copy("seeded", "baseline")
        # An earlier commit has earlier migrations; only the current checkout can undo the later ones.
        [revision, *_] = run_flask(url, "db", "heads", checkout=options.baseline).split()
        run_flask(url, "db", "downgrade", revision)
        baseline = running_server(BASELINE, SERVE, url, checkout=options.baseline, WORKERS="1")
        servers.append(running.enter_context(baseline))
    for server in servers:
        server.token = server.sign_in(caller) if server.name in (SERVICE, BASELINE) else token
    return servers


def compare_responses(servers: Sequence[Server], workload: Workload) -> list[Server]:
    """Return the servers that support a workload; exit if their responses differ."""
    able: list[Server] = []
    for server in servers:
        status, etag, content = workload.send(server)
        if workload.is_conditional and etag is None:
            continue
        response = status, comparable(content, workload)
        if not able:
            expected = response
        if server.name == BASELINE:  # It is the last one.
            remove_urls(expected[1])
            remove_urls(content)
        if response != expected:
            left, right = (
                orjson.dumps(one, option=orjson.OPT_INDENT_2).decode().splitlines()
                for one in (expected, response)
            )
            difference = difflib.unified_diff(left, right, able[0].name, server.name, lineterm="")
            raise SystemExit("\n".join([f"{workload.name}: the responses differ", *difference]))
        able.append(server)
    return able


def comparable(content: Any, workload: Workload) -> Any:
    """Return JSON without the values that may differ: cursors, tags, and the time of a new post."""
    for post in [content, *content.get("items", ())] if content else []:
        for name in ("next_cursor", "prev_cursor", "etag"):
            if name in post:
                post[name] = type(post[name]).__name__
    if workload.method == "POST":
        content["timestamp"] = len(content["timestamp"])
    return content


def remove_urls(content: Any) -> None:
    """Remove the URLs of a post, or of those in a list; those of earlier commits have none."""
    for post in content.get("items", [content]) if content else []:
        post.pop("urls", None)


def measure(
    load_process: Executor,
    servers: Sequence[Server],
    database: Database,
    workload: Workload,
    options: Options,
) -> tuple[dict[str, Figures], float]:
    """Measure servers under a workload; return the figures by server, and the rate of the open loop."""
    requests = {}
    for server in servers:
        etag = workload.send(server).etag if workload.is_conditional else None
        headers = [f"{name}: {value}" for name, value in workload.headers(server, etag).items()]
        path = API_PREFIX + workload.path
        content = request_bytes(workload.method, path, headers, workload.body)
        requests[server.name] = Request(content, workload.status)

    def run(server: Server, connections: int, rate: float | None = None) -> Load:
        loading = load_process.submit(
            load,
            server.port,
            [requests[server.name]],
            connections=connections,
            seconds=options.seconds,
            rate=rate,
        )
        outcome = loading.result()
        if outcome.failures:
            raise SystemExit(f"{workload.name}: {server.name}: {dict(outcome.failures)}")
        return outcome

    figures = {server.name: Figures() for server in servers}
    for server in servers:
        run(server, CONNECTIONS)  # To warm up.
    for _ in range(options.rounds):
        for server in servers:
            server_time, database_time = server.processor_seconds(), database.processor_seconds()
            outcome = run(server, CONNECTIONS)
            server_time = server.processor_seconds() - server_time
            database_time = database.processor_seconds() - database_time
            one = figures[server.name]
            one.rates.append(outcome.rate)
            one.server_times.append(server_time / len(outcome.latencies))
            one.database_times.append(database_time / len(outcome.latencies))
    rate = min(one.rate for one in figures.values()) / 2
    for _ in range(options.rounds):
        for server in servers:
            figures[server.name].latencies += run(server, OPEN_LOOP_CONNECTIONS, rate).latencies
    return figures, rate


def environment(options: Options) -> str:
    """Describe the machine, the versions and the measurement."""
    cpu = Path("/proc/cpuinfo")
    model = platform.processor()
    if cpu.exists():
        model = next(line.split(": ")[1] for line in cpu.read_text().splitlines() if "model name" in line)
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}; "
        f"{versions}.\nOne worker process each; {options.posts} posts; {options.rounds} rounds of "
        f"{options.seconds:g} s, {CONNECTIONS} connections."
    )


def workload_table(
    workload: Workload, figures: Mapping[str, Figures], rate: float, database: Database
) -> str:
    """Return the table of a workload, in Markdown."""
    titles = ["server", "requests/s", "to floor", "CPU µs/request"]
    titles += ["PostgreSQL µs/request", "both to floor"] if database.kind == "PostgreSQL" else ["to floor"]
    titles += [f"p50 ms at {rate:.0f}/s", "p99 ms"]
    rows = []
    for name, one in figures.items():
        row = [name, f"{one.rate:.0f}", ratio(figures, name, FLOOR, "rate"), f"{1e6 * one.server_time:.0f}"]
        row += [f"{1e6 * one.database_time:.0f}"] if database.kind == "PostgreSQL" else []
        row += [ratio(figures, name, FLOOR, "total_time")]
        rows.append([*row, *(f"{1000 * one.percentile(percent):.2f}" for percent in (50, 99))])
    return f"\n### {workload.name[0].upper()}{workload.name[1:]}\n\n{markdown(titles, rows)}"


def summary(
    servers: Sequence[Server], measured: Mapping[str, Mapping[str, Figures]], database: Database
) -> str:
    """Return the table of all workloads: processor time relative to the floor's, and to others'; memory."""
    titles = ["", *(server.name for server in servers)]
    compared = {}
    for other in (RIVALS[database.kind], BASELINE):
        if any(server.name == other for server in servers):
            compared[f"{SERVICE} to {other}"] = other, "total_time"
            compared[f"its requests/s to {other}'s"] = other, "rate"
    rows = []
    for workload, figures in measured.items():
        row = [workload, *(ratio(figures, server.name, FLOOR, "total_time") for server in servers)]
        rows.append([*row, *(ratio(figures, SERVICE, *which) for which in compared.values())])
    sizes = (server.megabytes() for server in servers)
    memory = [f"{largest:.0f} / {total:.0f}" for largest, total in sizes]
    rows.append(["memory, MB", *memory, *([""] * len(compared))])
    included = ", PostgreSQL's included" if database.kind == "PostgreSQL" else ""
    title = f"Processor time per request{included}, relative to the floor's; memory"
    return f"\n### {title}\n\n{markdown([*titles, *compared], rows)}"


def ratio(figures: Mapping[str, Figures], name: str, reference: str, which: str) -> str:
    """Return a figure of a server as a multiple of another's; a dash if either was not measured."""
    if name not in figures or reference not in figures:
        return "-"
    return f"{getattr(figures[name], which) / getattr(figures[reference], which):.2f}"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns but the first are aligned to the right."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
