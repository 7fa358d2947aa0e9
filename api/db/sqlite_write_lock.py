"""The lock that serializes the write transactions of this process on SQLite."""

import sqlite3
from threading import Lock
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

BEGIN = "BEGIN IMMEDIATE"
# Interval between attempts while another process holds SQLite's write lock.
RETRY_SECONDS = 0.001


def is_busy(error: BaseException | None) -> bool:
    """Whether a driver's error means that another process holds SQLite's write lock.

    See https://sqlite.org/rescode.html#busy.
    """
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY


class SQLiteWriteLock:
    """Begins write transactions, one at a time.

    SQLite's own busy handler sleeps for growing intervals, so that some threads wait for a second while
    others overtake them. This lock between the threads is fair. Locks of other processes
    are polled.
    """

    def __init__(self, seconds: float) -> None:
        self._lock = Lock()
        self._seconds = seconds

    def begin(self, connection: Connection) -> None:
        """Begin a transaction with SQLite's write lock.

        A transaction that reads first and then writes cannot wait for another writer: it fails at once with
        "database is locked", whatever the timeout (https://sqlite.org/lang_transaction.html).
        """
        # Held until the connection returns to the pool. After the timeout, only SQLite's lock applies.
        if not connection.info.get("has_write_lock"):
            connection.info["has_write_lock"] = self._lock.acquire(timeout=self._seconds)
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            self._wait_for_other_processes(driver)
        finally:
            driver.execute(f"PRAGMA busy_timeout = {1000 * self._seconds:.0f}")

    def release(self, _connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
        """Release the lock, when a connection returns to the pool."""
        if record.info.pop("has_write_lock", False):
            self._lock.release()

    def _wait_for_other_processes(self, driver: sqlite3.Connection) -> None:
        """Begin a transaction, by the driver: this takes a tenth of the time of SQLAlchemy's Connection."""
        deadline = monotonic() + self._seconds
        while True:
            try:
                driver.execute(BEGIN)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or monotonic() > deadline:
                    raise OperationalError(BEGIN, None, error) from error
                sleep(RETRY_SECONDS)
            else:
                return
