"""A Redis server for tests."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server import free_port, wait_until_open

needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")


class RedisServer:
    """A Redis server on a free port, which can be started and stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[None]:  # pragma: no cover -- needs redis-server
        """Start the server, and stop it afterwards."""
        options = {"port": self._port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        command = [
            "redis-server",
            *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                wait_until_open(self._port)
                yield
            finally:
                process.terminate()
