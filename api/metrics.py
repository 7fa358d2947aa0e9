"""Metrics for Prometheus. Each process records its own; a scrape adds up those of all processes.

The values are in files that the processes map into memory (the multiprocess mode of prometheus-client).
Without the setting `METRICS_TOKEN` nothing is recorded, and the library is not imported.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from itertools import count as numbers_from
from itertools import product
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from flask import Flask, current_app
from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

NAMESPACE = "microblog"
# In seconds. Most requests take a millisecond or two; none waits longer than its timeouts allow.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

EventName = Literal["database_errors", "emails", "problems", "queue_refusals", "rate_limit_refusals"]
# The description and the labels of each counter of events.
EVENTS: dict[EventName, tuple[str, tuple[str, ...]]] = {
    "database_errors": ("Errors of the database, by class of SQLSTATE or code of SQLite.", ("class",)),
    "emails": ("Attempts to send an email.", ("kind", "outcome")),
    "problems": ("Problem documents.", ("code",)),
    "queue_refusals": ("Requests refused because their lane was full for too long.", ("lane",)),
    "rate_limit_refusals": ("Requests refused by a rate limit.", ("policy",)),
}

# The class of SQLSTATEs of connections that fail.
CONNECTION_EXCEPTION = "08"
# The length of a range of bytes that has no end (fcntl(2)).
TO_END = 0


def init_app(app: Flask) -> None:
    """Record metrics if the setting `METRICS_TOKEN` is set."""
    if app.config["METRICS_TOKEN"]:
        app.extensions["metrics"] = Metrics(Path(app.config["METRICS_FOLDER"]))


def count(name: EventName, *labels: str) -> None:
    """Count an event, if metrics are recorded."""
    if metrics := current_app.extensions.get("metrics"):
        metrics.count(name, *labels)


def begin_at_zero(app: Flask, name: EventName, *values: Iterable[str]) -> None:
    """Have counters for all combinations of labels, so that Prometheus sees the first increase of each."""
    if metrics := app.extensions.get("metrics"):
        for labels in product(*values):
            metrics.count(name, *labels, amount=0)


def error_class(error: BaseException) -> str:
    """Return the class of a driver's error: of its SQLSTATE, or else SQLite's primary result code.

    Errors without a code concern the connection.
    """
    if sqlstate := getattr(error, "sqlstate", None):
        return str(sqlstate[:2])
    # The name of an extended code continues that of the primary one: SQLITE_CONSTRAINT_UNIQUE.
    code: str = getattr(error, "sqlite_errorname", "")
    return "_".join(code.split("_")[:2]) or CONNECTION_EXCEPTION


class ProcessNumbers:
    """Numbers the processes that use a folder: each has the lowest number that no other one has.

    A process locks the byte of a file at the position of its number. The system releases the lock when the
    process ends, in whatever way, and a child does not inherit it. The files of a process have its number in
    their names. A new process continues the counters of one that has ended, so that the number of files does
    not grow. Byte 0 is locked while numbers are given or files removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Never closed: closing any descriptor of the file would release the locks (fcntl(2)).
        self._file = os.open(folder / "processes", os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = Lock()
        self._process_id = self._number = 0

    def own(self) -> int:
        """Return the number of this process. One that was forked gets another number than its parent."""
        if self._process_id != os.getpid():
            with self._exclusive():
                self._number, self._process_id = self._take_number(), os.getpid()
        return self._number

    def remove_gauges_of_ended_processes(self) -> None:
        """Remove the gauges of processes that have ended. Their counters and histograms still count."""
        own = self.own()
        with self._exclusive():
            # The names of the files are such as `gauge_livesum_1.db`.
            used = {int(path.stem.rpartition("_")[2]) for path in self._folder.glob("gauge_*.db")}
            for number in used - {own}:
                if self._acquire(number):
                    self._remove_gauges(number)
                    self._release(number)

    def _take_number(self) -> int:
        if self._acquire(1, TO_END):  # No other process: the values are those of a former run.
            for path in self._folder.glob("*.db"):
                path.unlink()
            self._release(2, TO_END)
            return 1
        own = next(number for number in numbers_from(1) if self._acquire(number))
        self._remove_gauges(own)
        return own

    def _remove_gauges(self, number: int) -> None:
        for path in self._folder.glob(f"gauge_*_{number}.db"):
            path.unlink()

    def _acquire(self, number: int, length: int = 1) -> bool:
        with suppress(BlockingIOError, PermissionError):  # POSIX allows either.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, number)
            return True
        return False

    def _release(self, number: int, length: int = 1) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, length, number)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
            try:
                yield
            finally:
                self._release(0)


class Metrics:
    """The metrics of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes = ProcessNumbers(folder)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from prometheus_client import Counter, Gauge, Histogram, values

        values.ValueClass = values.MultiProcessValue(self._processes.own)  # type: ignore[no-untyped-call]
        self._requests = Counter(
            "http_requests", "Requests.", ("method", "route", "status"), NAMESPACE, registry=None
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time from the beginning of a request in the application to its response.",
            ("method", "route"),
            NAMESPACE,
            registry=None,
            buckets=BUCKETS,
        )
        self._waiting = Gauge(
            "queue_waiting_requests",
            "Requests that wait for their lane.",
            ("lane",),
            NAMESPACE,
            registry=None,
            multiprocess_mode="livesum",
        )
        self._connections, self._connections_maximum, self._replicas_left_out = (
            Gauge(name, description, ("server",), NAMESPACE, registry=None, multiprocess_mode="livesum")
            for name, description in (
                ("database_connections_in_use", "Connections that are checked out of the pools."),
                ("database_connections_maximum", "Connections that the pools may open."),
                ("database_replicas_left_out", "Processes that do not read from a replica."),
            )
        )
        self._events = {
            name: Counter(name, description, labels, NAMESPACE, registry=None)
            for name, (description, labels) in EVENTS.items()
        }
        self._recorders = lru_cache(10_000)(self._recorders_of)

    def record_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a request that has a response."""
        counted, observe = self._recorders(method, route, status)
        counted()
        observe(seconds)

    def count(self, name: EventName, *labels: str, amount: int = 1) -> None:
        """Count an event."""
        self._events[name].labels(*labels).inc(amount)

    def waiting(self, lane: str) -> AbstractContextManager[object]:
        """Return a context in which a request waits."""
        return self._waiting.labels(lane).track_inprogress()

    def report_replica(self, server: str, *, is_left_out: bool) -> None:
        """Record whether a replica is left out."""
        self._replicas_left_out.labels(server).set(is_left_out)

    def listen(self, engine: Engine, server: str) -> None:
        """Record the pool and the errors of an engine."""
        connections, maximum = self._connections.labels(server), self._connections_maximum.labels(server)
        # In `record_info`, which survives that the connection is replaced or discarded.
        key = "is_counted_as_in_use"

        @event.listens_for(engine, "connect")
        def connect(_connection: object, _record: object) -> None:
            maximum.set(engine.pool.size())  # type: ignore[attr-defined]

        @event.listens_for(engine, "engine_disposed")  # Before `flask serve` starts its workers.
        def dispose(_engine: object) -> None:
            maximum.set(0)

        @event.listens_for(engine, "checkout")
        def check_out(_connection: object, record: Any, _proxy: object) -> None:
            if not record.record_info.get(key):  # pragma: no branch -- repeated on a replaced connection.
                record.record_info[key] = True
                connections.inc()

        @event.listens_for(engine, "checkin")
        def check_in(_connection: object, record: Any) -> None:
            if record.record_info.pop(key, False):  # pragma: no branch -- if the checkout failed.
                connections.dec()

        @event.listens_for(engine, "handle_error")
        def count_error(context: ExceptionContext) -> None:
            if isinstance(context.sqlalchemy_exception, DBAPIError):
                self.count("database_errors", error_class(context.original_exception))

    def registry(self) -> "CollectorRegistry":
        """Return a registry with the metrics of all processes, added up."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        self._processes.remove_gauges_of_ended_processes()
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        return registry

    def _recorders_of(
        self, method: str, route: str, status: int
    ) -> tuple[Callable[[], None], Callable[[float], None]]:
        """Return functions that count a request and observe its time. They are cached, to save time."""
        counter = self._requests.labels(method, route, str(status))
        return counter.inc, self._seconds.labels(method, route).observe
