"""Counts the processor instructions of requests in the service on SQLite, in one process, without a server.

Unlike times, the counts hardly depend on what else the machine does. They are those of user space, in
thousands, and need Linux and a processor that counts. Arguments name functions, of which those of a request
are counted too, with all that they call:

Run: .venv-bench/bin/python -m benchmarks.instructions api.db.driver:DriverStatement.rows
"""

import ctypes
import importlib
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import create_engine, text
from werkzeug.test import Client, EnvironBuilder

from api.config import API_PREFIX
from benchmarks.servers import SECRET, SETTINGS, SQLite, run_flask

REQUESTS = 100
POSTS = 20_000
PERF_EVENT_OPEN = 298  # The number of the system call on x86-64.
EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR = 1 << 5, 1 << 6


class Counter:
    """The number of instructions that this thread has executed (man 2 perf_event_open)."""

    def __init__(self) -> None:
        flags = EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR
        # The type, size and config of the event (instructions), three fields without a value, and the flags.
        attributes = struct.pack("IIQQQQQ", 0, 128, 1, 0, 0, 0, flags).ljust(128, b"\0")
        self._file = ctypes.CDLL(None, use_errno=True).syscall(PERF_EVENT_OPEN, attributes, 0, -1, -1, 0)
        if self._file < 0:
            raise SystemExit(f"perf_event_open: {os.strerror(ctypes.get_errno())}")

    def read(self) -> int:
        """Return the number."""
        return int.from_bytes(os.read(self._file, 8), sys.byteorder)


def main() -> None:
    """Print the count of each request, and those of the functions."""
    counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        database = SQLite(Path(folder))
        url = database.create("seeded")
        run_flask(url, "db", "upgrade")
        run_flask(url, "seed", "--posts", str(POSTS), "--password", SECRET)
        with create_engine(url).connect() as connection:
            author = connection.scalar(text("SELECT username FROM users ORDER BY post_count DESC, id"))
            caller = connection.scalar(text("SELECT username FROM users ORDER BY following_count DESC, id"))
            post_id = connection.scalar(text("SELECT max(post_id) FROM entities"))
        os.environ |= {**SETTINGS, "DATABASE_URL": url}
        from wsgi import app  # With these settings.

        output = sys.stdout
        with Path(os.devnull).open("w") as log, patch("sys.stdout", log):
            token = Client(app).post(f"{API_PREFIX}/tokens", auth=(caller, SECRET)).get_json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            post = {"body": f"The first snowdrops are out, @{author}. #garden"}
            requests: dict[str, dict[str, Any]] = {
                "one post": {"path": f"/posts/{post_id}"},
                "list of 25": {"path": "/posts?limit=25"},
                "list of 25, with a token": {"path": "/posts?limit=25", "headers": bearer},
                "list of 100": {"path": "/posts?limit=100"},
                "a user's posts, 25": {"path": f"/users/{author}/posts?limit=25"},
                "feed, 25": {"path": "/feed?limit=25", "headers": bearer},
                "publish": {"path": "/posts", "method": "POST", "json": post, "headers": bearer},
            }
            for name, request in requests.items():
                request["path"] = API_PREFIX + request["path"]
                send(app, request, counter)  # To fill the caches.
                print(f"{name}: {send(app, request, counter) / 1000:.0f}", file=output)
                for function in sys.argv[1:]:
                    with counted(function, counter) as total:
                        send(app, request, counter)
                    print(f"    {function}: {sum(total) / REQUESTS / 1000:.0f}", file=output)


def send(app: Any, request: dict[str, Any], counter: Counter) -> float:
    """Send a request many times; return the instructions of one."""
    environs = [EnvironBuilder(**request).get_environ() for _ in range(REQUESTS)]
    before = counter.read()
    for environ in environs:
        body = app(environ, lambda *_: lambda _: None)
        b"".join(body)
        body.close()
    return (counter.read() - before) / REQUESTS


@contextmanager
def counted(name: str, counter: Counter) -> Iterator[list[int]]:
    """Count the instructions of each call of a function; `name` is `module:class.function`."""
    module, _, path = name.partition(":")
    *owners, attribute = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    function = getattr(owner, attribute)
    counts: list[int] = []

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        before = counter.read()
        try:
            return function(*args, **kwargs)
        finally:
            counts.append(counter.read() - before)

    with patch.object(owner, attribute, wrapper):
        yield counts


if __name__ == "__main__":
    main()
