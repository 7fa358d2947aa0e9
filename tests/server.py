"""The service as people run it: processes of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson

from api.config import ROOT
from tests.patience import PATIENCE_SECONDS, patiently

JSON = {"Content-Type": "application/json"}
SERVE = ("-m", "flask", "serve")


class Server:
    """A running service, and what it printed."""

    def __init__(self, port: int, log: Path, process_id: int) -> None:
        self.port = port
        self.process_id = process_id
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def get(self, path: str) -> tuple[int, object]:
        """Return the status and the JSON at a path."""
        status, _, answer = self.send("GET", path)
        return status, answer

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> tuple[int, Message, Any]:
        """Send a request; return the status, the headers and the JSON of the answer.

        Raises OSError or HTTPException if there is none.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, json and orjson.dumps(json), {**JSON, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, orjson.loads(response.read())
        finally:
            connection.close()

    def output(self) -> list[str]:
        """Return the lines printed."""
        return self._log.read_text("utf-8").splitlines()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    """Wait until somebody listens on a port."""
    patiently(lambda: socket.create_connection(("127.0.0.1", port)).close(), OSError)


@contextmanager
def running_server(folder: Path, command: Sequence[str] = SERVE, **settings: str) -> Iterator[Server]:
    """Migrate a database and serve it on a free port, with its files and log in a folder.

    `command` is what Python is to run; `{port}` in it stands for the port.
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
        serve = [sys.executable, *(word.format(port=port) for word in command)]
        process = subprocess.Popen(serve, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    server = Server(port, log, process.pid)

    def live() -> None:
        assert process.poll() is None, server.output()
        server.get("/livez")

    try:
        patiently(live, OSError)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
