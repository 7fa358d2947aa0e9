"""Notices that the file of an SQLite database was deleted, replaced or truncated while the service runs.

SQLite continues to use the file that it has open, even if the path names another one: changes would be lost.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.exc import DisconnectionError, OperationalError

from api.db.transactions import is_safe_request

# Device and inode; None for a file that does not exist.
Identity: TypeAlias = tuple[int, int] | None


class DriverConnection(sqlite3.Connection):
    """A connection that can have weak references."""


class SQLiteFile:
    """The file of a database, with its write-ahead log and the index of that.

    All open connections of this process use the same three files. If a path names another file now, or none,
    the connections are closed before a new one is opened.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = Path(str(engine.url.database))
        self._paths = tuple(f"{self._path}{suffix}" for suffix in ("", "-wal", "-shm"))
        self._connections = WeakSet[DriverConnection]()
        self._opened: tuple[Identity, ...] = ()
        self._size = 0
        self._is_log_empty = False
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "checkout", self._ensure_same_on_checkout)
        event.listen(engine, "commit", self._ensure_same_on_commit)
        event.listen(engine, "close", self._checkpoint_before_close)

    def register(self, connection: DriverConnection) -> None:
        """Register a new connection. It has opened its write-ahead log."""
        if not self._connections:
            self._opened = tuple(identity_of(path) for path in self._paths)
            self._size = 0
            self._is_log_empty = False
        self._connections.add(connection)

    def _connect(self, dialect: Dialect, _record: Any, _arguments: Any, options: dict[str, Any]) -> Any:
        """Connect to the file, if it has any content. By default, SQLite would create it."""
        try:
            size = self._path.stat().st_size
        except OSError:
            size = 0
        if not size:
            reason = (
                f"the database file {self._path} does not exist or is empty; `flask db upgrade` creates it"
            )
            raise sqlite3.OperationalError(reason)
        if not self._is_same():
            self._engine.pool.dispose()  # Closes the connections that no thread uses.
            if self._connections:
                raise sqlite3.OperationalError("the former database file is still in use")
            self._remove_leftovers()
        return dialect.connect(
            f"{self._path.as_uri()}?mode=rw", **options, uri=True, factory=DriverConnection
        )

    def _ensure_same_on_checkout(self, _connection: Any, _record: Any, _proxy: Any) -> None:
        """Have the pool replace a connection to another file. Reads look at the database file alone."""
        if not (self._is_same_database() if is_safe_request() else self._is_same()):
            raise DisconnectionError("The database file was deleted, replaced or truncated.")

    def _ensure_same_on_commit(self, _connection: Connection) -> None:
        """Refuse to commit to another file."""
        if not self._is_same():
            reason = sqlite3.OperationalError("the database file was deleted, replaced or truncated")
            raise OperationalError("COMMIT", None, reason)

    def _checkpoint_before_close(self, connection: DriverConnection, _record: Any) -> None:
        """Write the log back before a connection to a replaced file is closed.

        A database file that was moved then has all that was committed, and a log that was left in its place
        is not applied to the file that replaces it.
        """
        self._connections.discard(connection)
        if self._is_same():
            return  # SQLite does that itself.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA busy_timeout = 0")
            [is_busy, _, _] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._is_log_empty = not is_busy

    def _remove_leftovers(self) -> None:
        """Remove the write-ahead log of the former file, and its index, unless changes would be lost."""
        now = [identity_of(path) for path in self._paths]
        if now[0] != self._opened[0] or self._is_log_empty:
            for path, identity, opened in zip(self._paths[1:], now[1:], self._opened[1:], strict=True):
                if identity == opened:
                    Path(path).unlink(missing_ok=True)

    def _is_same(self) -> bool:
        """Whether the paths name the files that connections use, and the database was not truncated."""
        if not self._opened:
            return True  # There was no connection yet.
        others = zip(self._paths[1:], self._opened[1:], strict=True)
        return self._is_same_database() and all(identity_of(path) == opened for path, opened in others)

    def _is_same_database(self) -> bool:
        try:
            status = os.stat(self._paths[0])  # noqa: PTH116 -- twice as fast.
        except OSError:
            return False
        largest, self._size = self._size, max(self._size, status.st_size)
        return status.st_size >= largest and (status.st_dev, status.st_ino) == self._opened[0]


def identity_of(path: str) -> Identity:
    """Return the device and inode of a file, or None."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino
