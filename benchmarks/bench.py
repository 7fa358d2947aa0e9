"""How fast the service is, beside others that answer the same JSON of the same rows: `make bench`.

All servers run at once, one worker each, each on its own copy of one database, and are asked in turn.
"Processor time" is that of all processes of a server, per answer, in a closed loop; it and the rate are
medians of rounds. Latency is measured in an open loop at half the rate that the slowest can bear; its
percentiles are of all rounds together. Memory is the proportional set size of the largest process at the end,
and of all.

Run: make bench, or .venv-bench/bin/python -m benchmarks.bench --quick, to try
"""

import argparse
import base64
import difflib
import hmac
import os
import platform
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import orjson
import psutil

from api.app import API_PREFIX, create_app
from api.config import ROOT, Config
from benchmarks import UNLIMITED, silent
from benchmarks.load import Load, load, request_bytes
from tests.server import free_port

CONNECTIONS = 4
OPEN_LOOP_CONNECTIONS = 32
PATIENCE_SECONDS = 60
FLOOR, SERVICE = "floor", "Microblog"
COMMANDS = {
    FLOOR: (
        "granian --interface wsgi --workers 1 --blocking-threads 8 --host 127.0.0.1 --port {port}"
        " --log-level warning benchmarks.compare.floor:app"
    ),
    SERVICE: "flask serve",
    "FastAPI tuned": (
        "uvicorn --workers 1 --port {port} --no-access-log benchmarks.compare.fastapi_tuned:app"
    ),
    "FastAPI + SQLModel": "uvicorn --workers 1 --port {port} benchmarks.compare.fastapi_sqlmodel:app",
    "Django REST framework": (
        "gunicorn --workers 1 --worker-class gthread --threads 8 --keep-alive 75"
        " --bind 127.0.0.1:{port} benchmarks.compare.drf:application"
    ),
}
PACKAGES = (
    "granian uvicorn gunicorn flask marshmallow sqlalchemy fastapi sqlmodel django djangorestframework orjson"
)
NOTES = """
All write with synchronous=FULL. Tokens are signed, and each request reads session and user in one statement;
neither FastAPI's documentation (JWT, user) nor Django REST framework's (a row, no signature) does both, so
they were given it. FastAPI + SQLModel loads relations eagerly, which its tutorial does not. The feed's select
is the plain one; in those written by hand (the floor, FastAPI tuned) it is told to walk from the newest post.
Only Microblog refuses unknown parameters, signs cursors, and names and logs each answer.
""".strip()


@dataclass(frozen=True)
class Workload:
    """What is asked for."""

    name: str
    path: str
    method: str = "GET"
    body: bytes = b""
    status: int = 200
    has_token: bool = False
    is_conditional: bool = False


@dataclass
class Server:
    """A running server; the token is of the kind that it takes."""

    name: str
    port: int
    token: str
    process: psutil.Process

    def ask(self, workload: Workload) -> tuple[int, str | None, Any]:
        """Return status, entity tag and JSON of one answer."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            headers = dict(line.split(": ") for line in self.headers(workload))
            if workload.body:
                headers["Content-Type"] = "application/json"
            connection.request(workload.method, API_PREFIX + workload.path, workload.body or None, headers)
            response = connection.getresponse()
            sent = response.read()
            if response.status >= 400:
                raise SystemExit(f"{self.name}, {workload.name}: {response.status} {sent.decode()}")
            return response.status, response.headers["ETag"], orjson.loads(sent or "null")

    def headers(self, workload: Workload, etag: str | None = None) -> list[str]:
        """Return the headers of a request."""
        token = [f"Authorization: Bearer {self.token}"] if workload.has_token else []
        return token + ([f"If-None-Match: {etag}"] if etag else [])

    def processes(self) -> list[psutil.Process]:
        """Return the process that was started and all that it started."""
        return [self.process, *self.process.children(recursive=True)]

    def processor_seconds(self) -> float:
        """Return the time that its processes have computed so far, in the kernel or not."""
        times = [process.cpu_times() for process in self.processes()]
        return sum(float(spent.user + spent.system) for spent in times)

    def megabytes(self) -> str:
        """Return the memory of its largest process, and of all; of what they share, each has its part."""
        sizes = [float(process.memory_full_info().pss) / 1e6 for process in self.processes()]
        return f"{max(sizes):.0f} / {sum(sizes):.0f}"


@dataclass
class Figures:
    """What was measured of one server under one workload."""

    rates: list[float] = field(default_factory=list)
    processor_times: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return median(self.rates)

    @property
    def processor_time(self) -> float:
        """Seconds per answer."""
        return median(self.processor_times)

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies, in seconds."""
        return quantiles(self.latencies, n=100)[percent - 1]


def main() -> None:
    """Compare, and print the tables."""
    parser = argparse.ArgumentParser(description="Compare the service with others.")
    parser.add_argument("--quick", action="store_true", help="only try; the figures mean little")
    parser.add_argument("--only", default="", help="only workloads whose names contain this")
    parser.add_argument("--servers", help="of them only these, by commas", default=",".join(COMMANDS))
    options = parser.parse_args()
    rounds, seconds = (2, 0.3) if options.quick else (15, 0.4)
    posts = 2_000 if options.quick else 20_000

    os.environ["SECRET_KEY"] = secrets.token_hex()
    os.environ["ACCESS_TOKEN_SECONDS"] = "86400"  # noqa: S105 -- a number.
    os.environ |= UNLIMITED
    # Not in the folder for temporary files, which may be in memory, where durable writing costs nothing.
    with (
        tempfile.TemporaryDirectory(dir=sys.prefix) as folder,
        ProcessPoolExecutor(1, get_context("spawn")) as load_process,
        ExitStack() as running,
    ):
        database = Path(folder) / "seeded.db"
        workloads, caller = seeded(database, posts)
        own_token, token = sign_in(database, caller)
        servers = [
            running.enter_context(
                running_server(name, COMMANDS[name], database, own_token if name == SERVICE else token)
            )
            for name in options.servers.split(",")
        ]
        print(environment(posts, rounds, seconds))
        measured = {}
        for workload in workloads:
            able = agreeing(servers, workload) if options.only in workload.name else []
            if any(server.name != FLOOR for server in able):  # Else there is nothing to compare.
                figures, rate = measure(load_process, able, workload, rounds, seconds)
                print(table(workload, figures, rate), flush=True)
                measured[workload.name] = figures
        print(summary(servers, measured))
        print(f"\n{NOTES}")


def measure(
    load_process: Executor, servers: Sequence[Server], workload: Workload, rounds: int, seconds: float
) -> tuple[dict[str, Figures], float]:
    """Put servers to a workload; return each one's figures, and the rate at which latency was measured."""
    requests = {server.name: request_of(server, workload) for server in servers}
    figures = {server.name: Figures() for server in servers}

    def run(server: Server, connections: int, rate: float | None = None) -> Load:
        outcome = load_process.submit(
            load,
            server.port,
            requests[server.name],
            status=workload.status,
            connections=connections,
            seconds=seconds,
            rate=rate,
        ).result()
        if outcome.failures:
            raise SystemExit(f"{workload.name}: {outcome.failures} answers of {server.name} were failures")
        return outcome

    for server in servers:
        run(server, CONNECTIONS)  # To warm up.
    for _ in range(rounds):
        for server in servers:
            before = server.processor_seconds()
            outcome = run(server, CONNECTIONS)
            spent = server.processor_seconds() - before
            figures[server.name].rates.append(len(outcome.latencies) / outcome.seconds)
            figures[server.name].processor_times.append(spent / len(outcome.latencies))
    rate = min(one.rate for one in figures.values()) / 2
    for _ in range(rounds):
        for server in servers:
            figures[server.name].latencies += run(server, OPEN_LOOP_CONNECTIONS, rate).latencies
    return figures, rate


def seeded(database: Path, posts: int) -> tuple[list[Workload], str]:
    """Make a database; return what to ask of it, and the name of who asks."""
    flask = [sys.executable, "-m", "flask"]
    settings = {**os.environ, "DATABASE_URL": f"sqlite:///{database}"}
    subprocess.run([*flask, "db", "upgrade"], cwd=ROOT, env=settings, check=True, capture_output=True)
    size = ["--posts", str(posts), "--password", os.environ["SECRET_KEY"]]
    subprocess.run([*flask, "seed", *size], cwd=ROOT, env=settings, check=True, capture_output=True)
    with closing(sqlite3.connect(database)) as connection:
        [author] = connection.execute("SELECT username FROM users ORDER BY post_count DESC").fetchone()
        [caller] = connection.execute("SELECT username FROM users ORDER BY following_count DESC").fetchone()
        [post_id] = connection.execute("SELECT max(post_id) FROM entities").fetchone()
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
    return workloads, caller


def sign_in(database: Path, username: str) -> tuple[str, str]:
    """Sign a user in; return the service's token, and a JSON Web Token for the same session."""
    app = create_app(Config.from_environment({**os.environ, "DATABASE_URL": f"sqlite:///{database}"}))
    with silent():
        answer = app.test_client().post(f"{API_PREFIX}/tokens", auth=(username, os.environ["SECRET_KEY"]))
    with closing(sqlite3.connect(database)) as connection:
        [session_id] = connection.execute("SELECT id FROM sessions").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    claims = {"sub": str(session_id), "exp": int(time.time()) + 86_400}
    signed = b".".join(base64url(orjson.dumps(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.digest(os.environ["SECRET_KEY"].encode(), signed, "sha256")
    own_token = orjson.loads(answer.data)["access_token"]
    return own_token, b".".join([signed, base64url(signature)]).decode()


def base64url(text: bytes) -> bytes:
    """Encode as JSON Web Tokens do (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(text).rstrip(b"=")


@contextmanager
def running_server(name: str, command: str, database: Path, token: str) -> Iterator[Server]:
    """Run a server on a copy of a database."""
    own = database.with_name(f"{name}.db")
    shutil.copyfile(database, own)
    port = free_port()
    settings = {"BENCHMARK_DATABASE": str(own), "DATABASE_URL": f"sqlite:///{own}", "PORT": str(port)}
    log = database.with_name(f"{name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.format(port=port).split()],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(name, port, token, psutil.Process(process.pid))
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} does not start:\n{log.read_text('utf-8')}")
            try:
                server.ask(Workload("start", "/posts"))
            except OSError:
                time.sleep(0.1)
            else:
                break
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def agreeing(servers: Sequence[Server], workload: Workload) -> list[Server]:
    """Return those that have what a workload needs; refuse to compare what does not answer the same."""
    able: list[Server] = []
    for server in servers:
        status, etag, shown = server.ask(workload)
        if workload.is_conditional and etag is None:
            continue
        answer = status, comparable(shown, workload)
        if not able:
            expected = answer
        elif answer != expected:
            left, right = (
                orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode().splitlines()
                for shown in (expected, answer)
            )
            difference = difflib.unified_diff(left, right, able[0].name, server.name, lineterm="")
            raise SystemExit("\n".join([f"{workload.name}: the answers differ", *difference]))
        able.append(server)
    return able


def comparable(shown: Any, workload: Workload) -> Any:
    """Return JSON without what may differ: how cursors and tags look, and when a post was written."""
    for post in [shown, *shown.get("items", ())] if shown else []:
        for name in ("next_cursor", "prev_cursor", "etag"):
            if name in post:
                post[name] = type(post[name]).__name__
    if workload.method == "POST":
        shown["timestamp"] = len(shown["timestamp"])
    return shown


def request_of(server: Server, workload: Workload) -> bytes:
    """Return a request as it is sent."""
    etag = server.ask(workload)[1] if workload.is_conditional else None
    return request_bytes(
        workload.method, API_PREFIX + workload.path, server.headers(workload, etag), workload.body
    )


def environment(posts: int, rounds: int, seconds: float) -> str:
    """Say what was measured where."""
    cpu = Path("/proc/cpuinfo")
    model = platform.processor()
    if cpu.exists():
        model = next(line.split(": ")[1] for line in cpu.read_text().splitlines() if "model name" in line)
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES.split())
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; {versions}. One worker each; {posts} posts; {rounds} rounds of "
        f"{seconds:g} s, {CONNECTIONS} connections."
    )


def table(workload: Workload, figures: Mapping[str, Figures], rate: float) -> str:
    """Return a workload's table in Markdown."""
    lines = [
        f"\n### {workload.name[0].upper()}{workload.name[1:]}\n",
        f"| server | requests/s | to floor | CPU µs/request | to floor | p50 ms at {rate:.0f}/s | p99 ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in figures.items():
        p50, p99 = (f"{1000 * one.percentile(percent):.2f}" for percent in (50, 99))
        rate_ratio, time_ratio = (ratio(figures, name, what) for what in ("rate", "processor_time"))
        times = 1e6 * one.processor_time
        lines.append(
            f"| {name} | {one.rate:.0f} | {rate_ratio} | {times:.0f} | {time_ratio} | {p50} | {p99} |"
        )
    return "\n".join(lines)


def summary(servers: Sequence[Server], measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """Return the table of all workloads: processor time as a multiple of the floor's; and memory."""
    lines = [
        "\n### Processor time per request, the floor's as 1; memory\n",
        f"| | {' | '.join(server.name for server in servers)} |",
        f"| --- |{' ---: |' * len(servers)}",
    ]
    for workload, figures in measured.items():
        ratios = (ratio(figures, server.name, "processor_time") for server in servers)
        lines.append(f"| {workload} | {' | '.join(ratios)} |")
    lines.append(f"| memory, MB | {' | '.join(server.megabytes() for server in servers)} |")
    return "\n".join(lines)


def ratio(figures: Mapping[str, Figures], name: str, what: str) -> str:
    """Return a figure as a multiple of the floor's; a dash where either was not measured."""
    if FLOOR not in figures or name not in figures:
        return "-"
    return f"{getattr(figures[name], what) / getattr(figures[FLOOR], what):.2f}"


if __name__ == "__main__":
    main()
