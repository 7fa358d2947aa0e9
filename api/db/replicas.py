"""Replicas of PostgreSQL: how much of the primary's history each shows, and which one serves a request.

A position is a number that orders the transactions of the primary: its timeline, which each failover
increases, and the id of a transaction. A session stores the position of its last transaction that wrote.

Every half second, a worker stores a heartbeat in the primary: the time, and the position before which all
transactions have ended. A replica that shows a heartbeat shows these transactions too, because it replays all
transactions in the order in which they were committed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from logging import Logger
from math import inf
from threading import Lock, Thread
from time import perf_counter, sleep
from typing import Any, NamedTuple
from zlib import crc32

import psycopg
from flask import has_request_context
from sqlalchemy import BigInteger, Connection, Engine, event, literal_column, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from api.db.postgresql import OPENED_AT
from api.db.transactions import is_rolled_back, reason_of
from api.metrics import Metrics

INTERVAL_SECONDS = 0.5
# A replica that lags by more is left out.
LAG_SECONDS_MAXIMUM = 5.0
# SQLSTATE of a statement that was cancelled, by `statement_timeout` for example.
QUERY_CANCELED = "57014"

# The name of a file of the write-ahead log begins with the timeline, as eight hexadecimal digits.
TIMELINE = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint << 48"
# The position of the current transaction, and whether it has one: it has none if it changed nothing.
POSITION = literal_column(f"{TIMELINE} | txid_current()", BigInteger)
HAS_POSITION = text("txid_current_if_assigned() IS NOT NULL")
# The position of a caller who wrote nothing, and of one whose last write is unknown.
NOTHING, UNKNOWN = -1, inf

# Does nothing if another worker has just stored one. That of a former primary may be in the future.
STORE_HEARTBEAT = text(f"""
    INSERT INTO heartbeats (id, position, written_at)
    SELECT 1, {TIMELINE} | txid_snapshot_xmin(txid_current_snapshot()), clock_timestamp()
    WHERE NOT EXISTS (
        SELECT FROM heartbeats
        WHERE written_at BETWEEN clock_timestamp() - INTERVAL '0.4 seconds' AND clock_timestamp()
    )
    ON CONFLICT (id) DO UPDATE SET position = excluded.position, written_at = excluded.written_at
""")  # noqa: S608 -- a constant
# Waits for the disk of the primary, and not for a synchronous replica.
COMMIT_LOCALLY = text("SET LOCAL synchronous_commit TO local")
CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")
HEARTBEAT = text("SELECT position, extract(epoch FROM written_at)::float8 FROM heartbeats")


class NewConnectionError(psycopg.OperationalError):
    """A connection is newer than what is known of the replica."""


class State(NamedTuple):
    """The result of a poll, and until when the replica may be used; times are of `perf_counter`."""

    position: int
    polled_at: float
    until: float


NOT_POLLED = State(NOTHING, -inf, -inf)


class Replica:
    """A replica, and what this process knows of it. `report` is called when it is left out or used again."""

    def __init__(self, name: str, engine: Engine, report: Callable[[str, str | None], None]) -> None:
        self.name = name
        self.engine = engine
        self._state = NOT_POLLED
        self._report = report
        self._is_left_out: bool | None = None
        event.listen(engine, "begin", self._ensure_known)

    def serves(self, last_write: float) -> bool:
        """Whether the replica may be used, and shows all transactions up to a position."""
        state = self._state
        return last_write < state.position and perf_counter() < state.until

    def ensure_known(self, info: Mapping[Any, Any]) -> None:
        """Raise OperationalError if a connection, given its `info`, was opened after the last poll.

        The server may have restarted in between, and not yet have replayed what it showed before. A
        connection that is older and works leads to the server that was polled.
        """
        if info[OPENED_AT] > self._state.polled_at:
            raise OperationalError(None, None, NewConnectionError())

    def has_failed(self, error: DBAPIError) -> bool:
        """Whether the primary may succeed after an error. A replica that does not work is left out."""
        if getattr(error.orig, "sqlstate", None) == QUERY_CANCELED:
            return False
        if not (isinstance(error.orig, NewConnectionError) or is_rolled_back(error)):
            self.leave_out(reason_of(error))
        return True

    def read(self, clock: float) -> float:
        """Read the heartbeat; return by how many seconds the replica lags, at most.

        `clock` is the difference between the clock of the primary and `perf_counter`. Raises SQLAlchemyError.
        """
        with self.engine.connect() as connection:
            polled_at = perf_counter()
            position, written_at = connection.execute(HEARTBEAT).one()
        lag: float = polled_at + clock - written_at
        self._state = State(position, polled_at, polled_at + LAG_SECONDS_MAXIMUM - lag)
        return lag

    def poll(self, clock: float) -> None:
        """Find out whether the replica can be used, and how much it shows."""
        try:
            lag = self.read(clock)
        except SQLAlchemyError as error:
            self.leave_out(reason_of(error))
            return
        if lag > LAG_SECONDS_MAXIMUM:
            self._change(f"it lags by more than {LAG_SECONDS_MAXIMUM:.0f} s")
        else:
            self._change(None)

    def leave_out(self, reason: str) -> None:
        """Use the replica no more until a poll succeeds."""
        self._state = NOT_POLLED
        self._change(reason)

    def _change(self, reason: str | None) -> None:
        """Report whether the replica is left out, if that has changed."""
        if self._is_left_out is not (reason is not None):
            self._is_left_out = reason is not None
            self._report(self.name, reason)

    def _ensure_known(self, connection: Connection) -> None:
        if has_request_context():
            self.ensure_known(connection.info)


class Replicas:
    """The replicas of an application, in the order of the setting."""

    def __init__(
        self, primary: Engine, engines: Mapping[str, Engine], logger: Logger, metrics: Metrics | None
    ) -> None:
        self._primary = primary
        self._logger = logger
        self._metrics = metrics
        self._replicas = [Replica(name, engine, self._report) for name, engine in engines.items()]
        self._clock: float | None = None
        self._lock = Lock()
        self._threads: list[Thread] = []

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas)

    def choose(self, last_write: float, caller: object, other_than: Replica | None) -> Replica | None:
        """Return a replica that shows the caller's last write, if there is one.

        A caller, known by session or address, gets the same replica while that can be used.
        """
        self.start()
        first = crc32(str(caller).encode()) % len(self._replicas)
        in_order = self._replicas[first:] + self._replicas[:first]
        usable = (each for each in in_order if each.serves(last_write) and each is not other_than)
        return next(usable, None)

    def start(self) -> None:
        """Start the threads, if this is the first read of the process.

        Each server has a thread of its own, so that one that hangs does not delay what is known of others.
        """
        with self._lock:
            if self._threads:
                return
            tasks = [self.beat, *(partial(self._poll, replica) for replica in self._replicas)]
            self._threads = [
                Thread(target=self._repeat, args=(task,), name="replicas", daemon=True) for task in tasks
            ]
            for thread in self._threads:
                thread.start()

    def beat(self) -> float:
        """Store a heartbeat in the primary; return the difference of its clock. Raises SQLAlchemyError."""
        with self._primary.begin() as connection:
            connection.execute(COMMIT_LOCALLY)
            connection.execute(STORE_HEARTBEAT)
            now: float = connection.execute(CLOCK).scalar_one()
            self._clock = now - perf_counter()
        return self._clock

    def _poll(self, replica: Replica) -> None:
        # Without the clock of the primary, the lag is not known. If the primary fails later, lags grow.
        if self._clock is not None:
            replica.poll(self._clock)

    def _repeat(self, task: Callable[[], object]) -> None:
        while True:
            with suppress(SQLAlchemyError):  # Requests and /readyz report that the primary does not work.
                task()
            sleep(INTERVAL_SECONDS)

    def _report(self, name: str, reason: str | None) -> None:
        if self._metrics:
            self._metrics.report_replica(name, is_left_out=reason is not None)
        if reason is None:
            self._logger.warning("%s is used.", name)
        else:
            self._logger.warning("%s is left out: %s.", name, reason)
