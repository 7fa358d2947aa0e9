"""`make demo` as a process of its own."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.demo import origins
from tests.support.contract import PREFIX
from tests.support.processes import ModuleProcess
from tests.support.server import Server, free_port
from tests.support.wait import wait_until


@dataclass(frozen=True)
class Demo:
    """A running demo."""

    app: str
    service: Server

    @property
    def api(self) -> str:
        """The URL of the API."""
        return f"{self.service.url}{PREFIX}"


@contextmanager
def running_demo(folder: Path, **settings: str) -> Iterator[Demo]:
    """Start the demo with a database in a folder, and stop it as Ctrl-C does."""
    port = free_port(2)
    environment = {
        **os.environ,
        "PORT": str(port),
        "STOP_SECONDS": "1",
        "PASSWORD_HASH_MEMORY": "8",
        "PASSWORD_HASH_TIME": "1",
        **settings,
    }
    process = ModuleProcess(
        "examples.demo", str(folder / "demo.db"), environment=environment, log=folder / "output.log"
    )
    process.start()
    demo = Demo(origins(port + 1)[0], Server("127.0.0.1", port, process))

    def ready() -> None:
        assert process.is_alive(), process.lines()
        assert "Stop with Ctrl-C." in process.lines()
        socket.create_connection(("127.0.0.1", port + 1)).close()

    try:
        wait_until(ready, (AssertionError, OSError))
        yield demo
    finally:
        if process.is_alive():
            os.killpg(demo.service.pid, signal.SIGINT)  # A terminal sends it to all processes.
        process.end()
