"""`make demo` as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.config import ROOT
from examples.demo import origins
from tests.support.contract import PREFIX
from tests.support.server import Server, free_port
from tests.support.wait import TIMEOUT_SECONDS, wait_until


@dataclass(frozen=True)
class Demo:
    """A running demo."""

    app: str
    service: Server
    process: subprocess.Popen[bytes]

    @property
    def api(self) -> str:
        """The URL of the API."""
        return f"{self.service.url}{PREFIX}"


@contextmanager
def running_demo(folder: Path, **settings: str) -> Iterator[Demo]:
    """Start the demo with a database in a folder, and stop it as Ctrl-C does."""
    port = free_port()
    log = folder / "output.log"
    environment = {
        **os.environ,
        "PORT": str(port),
        "STOP_SECONDS": "1",
        "PASSWORD_HASH_MEMORY": "8",
        "PASSWORD_HASH_TIME": "1",
        **settings,
    }
    command = [sys.executable, "-m", "examples.demo", str(folder / "demo.db")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    demo = Demo(origins(port + 1)[0], Server("127.0.0.1", port, log, process), process)

    def ready() -> None:
        assert process.poll() is None, demo.service.output()
        assert "Stop with Ctrl-C." in demo.service.output()
        socket.create_connection(("127.0.0.1", port + 1)).close()

    try:
        wait_until(ready, (AssertionError, OSError))
        yield demo
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # A terminal sends it to all processes.
        process.wait(TIMEOUT_SECONDS)
