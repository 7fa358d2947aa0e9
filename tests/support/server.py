"""The service as processes of its own, and clients that send it bytes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import psutil

from api.config import ROOT
from tests.support.wait import TIMEOUT_SECONDS, wait_until

JSON = {"Content-Type": "application/json"}
SERVE = ("-m", "flask", "serve")


class Server:
    """A running service and its output."""

    def __init__(self, host: str, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.host = host
        self.port = port
        self.process = process
        self.url = f"http://{host}:{port}"
        self._log = log

    def get(self, path: str) -> tuple[int, object]:
        """Return the status and the JSON at a path."""
        status, _, body = self.send("GET", path)
        return status, body

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> tuple[int, Message, Any]:
        """Send a request; return the status, the headers and the JSON of the response.

        Raises OSError or HTTPException if there is none.
        """
        with closing(HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request(method, path, json and orjson.dumps(json), {**JSON, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, orjson.loads(response.read())

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection((self.host, self.port), TIMEOUT_SECONDS)

    def exchange(self, sent: bytes, *, ends: bool = False) -> bytes:
        """Send bytes over a connection, and return what comes until the server closes it.

        A client that `ends` says that nothing more comes from it.
        """
        with self.connect() as connection:
            connection.sendall(sent)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve requests."""
        return list(psutil.Process(self.process.pid).children())

    def output(self) -> list[str]:
        """Return the lines printed."""
        return self._log.read_text("utf-8").splitlines()


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes a connection."""
    received = b""
    while more := connection.recv(65_536):
        received += more
    return received


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    """Wait until a server listens on a port."""
    wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close(), OSError)


@contextmanager
def running_server(
    folder: Path, command: Sequence[str] = SERVE, *, host: str = "127.0.0.1", **settings: str
) -> Iterator[Server]:
    """Migrate a database and serve it on a free port, with its files and log in a folder.

    `command` is what Python runs; `{port}` in it stands for the port. The server has a process group of its
    own, as it has in a terminal.
    """
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{folder}/microblog.db",
        "PORT": str(port),
        **settings,
    }
    subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], cwd=ROOT, env=environment, check=True)
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(word.format(port=port) for word in command)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(host, port, log, process)

    def live() -> None:
        assert process.poll() is None, server.output()
        server.get("/livez")

    try:
        wait_until(live, OSError)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_SECONDS)
