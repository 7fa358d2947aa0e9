"""PgBouncer, a connection pooler, for tests."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.support.server import free_port, wait_until_open

needs_pgbouncer = pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed")

# Two connections to the server for all clients, so that each client's transactions run in both sessions.
CONFIGURATION = """
[databases]
* = host={socket} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
default_pool_size = {size}
"""


@contextmanager
def running_pgbouncer(
    folder: Path, database_url: str, pool_mode: str, size: int = 2
) -> Iterator[str]:  # pragma: no cover -- needs pgbouncer
    """Start a pooler in front of a server, and yield the URL of the database through it."""
    url = make_url(database_url)
    socket, port = Path(str(url.query["host"])), free_port()
    file = folder / "pgbouncer.ini"
    configuration = CONFIGURATION.format(
        socket=socket, user=url.username, port=port, pool_mode=pool_mode, size=size
    )
    file.write_text(configuration, "utf-8")
    # PgBouncer does not run as root. The owner of the socket's folder may use the socket.
    user = ["-u", socket.owner()] if os.geteuid() == 0 else []
    with subprocess.Popen([str(shutil.which("pgbouncer")), "-q", *user, str(file)]) as process:
        try:
            wait_until_open(port)
            yield url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        finally:
            process.kill()
