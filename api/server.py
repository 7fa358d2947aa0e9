"""The HTTP server: granian, and the front between it and the WSGI application.

granian parses HTTP and holds the connections without a thread for each. The front reads each request whole,
under a limit of bytes and of seconds, before it uses a thread. A client that sends or receives slowly
therefore costs a connection and no thread. A request that waits in the database, for a locked table say, does
hold a thread. The front limits how many threads requests of one kind hold.
"""

import asyncio
import errno
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import lru_cache
from io import BytesIO
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import click
from flask import Flask
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotImplemented as MethodNotImplemented

from api.auth.passwords import HASHES_AT_ONCE
from api.config import API_PREFIX, ROOT, threads_of_one_kind
from api.db.transactions import SAFE_METHODS
from api.metrics import Metrics, begin_at_zero
from api.web.json_body import SIZE_MAXIMUM
from api.web.operation import operation_of
from api.web.problems import SERVER_ERROR, Problem, unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HEADERS_MAXIMUM = 16_384
CHUNKS_MAXIMUM = 1024
CONNECTIONS_MAXIMUM = 4096
# Requests that hash a password, running and waiting: a second and a half of work for one processor.
HASHING_MAXIMUM = 64
# Other requests of one kind that wait for a thread. Their bodies have at most 32 MiB together.
WAITING_MAXIMUM = 512
# The event loop of a worker that is not overloaded is never as late as this.
LATE_SECONDS = 1

Headers = list[tuple[str, str]]


class Lane:
    """Requests of one kind: limits how many run at once, how many wait, and how long they wait.

    Its methods run in the thread of the event loop. Metrics have the name of the lane.
    """

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        running: int,
        waiting: int,
        seconds: float,
        name: str = "",
        metrics: Metrics | None = None,
    ) -> None:
        self._threads = threads
        self._free = asyncio.Semaphore(running)
        self._places = waiting
        self._seconds = seconds
        self._metrics = metrics
        self.name = name

    async def run(self, call: Callable[..., object], *arguments: object) -> bool:
        """Call a function in a thread; return False, without a call, if it would have to wait too long."""
        if not await self._acquire():
            return False
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        finally:
            self._free.release()
        return True

    async def _acquire(self) -> bool:
        if not self._free.locked():
            return await self._free.acquire()  # Without waiting.
        if not self._places:
            return False
        self._places -= 1
        try:
            with self._metrics.waiting(self.name) if self._metrics else nullcontext():
                async with asyncio.timeout(self._seconds):
                    return await self._free.acquire()
        except TimeoutError:
            return False
        finally:
            self._places += 1


class EventLoopLane:
    """Requests that run in the thread of the event loop, one after the other; limits how long they wait.

    The event loop works in rounds: each runs the requests that arrived during the one before. So a request
    waits for two rounds at most, and each may last for half the time.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._round_seconds = LATE_SECONDS + seconds / 2
        self._round_ends = float("inf")
        self.name = name

    def begin_round(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that a new round has begun, now and again every second, or later if a round lasts longer."""
        self._round_ends = time.monotonic() + self._round_seconds  # uvloop's time stands still in a round.
        loop.call_later(LATE_SECONDS, self.begin_round, loop)

    async def run(self, call: Callable[..., object], *arguments: object) -> bool:
        """Call a function; return False, without a call, if the round has lasted too long."""
        if time.monotonic() > self._round_ends:
            return False
        call(*arguments)
        return True


class Front:
    """An RSGI application that passes whole requests to a WSGI application (PEP 3333).

    A request runs in the event loop's own thread if nothing in it can wait: it only reads, the database is
    SQLite, and rate limits are counted in memory. All other requests run in threads:

    - Requests that read share `THREADS` threads. Those of one operation hold at most half of them.
    - Requests that write have threads of their own: half as many or, on SQLite, which has one writer at a
      time, one.
    - Requests that hash a password have threads of their own.

    So a table that another session has locked delays only the requests that use it.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app.wsgi_app
        self._seconds: int = app.config["REQUEST_SECONDS"]
        self._urls = app.url_map.bind("")
        self._metrics: Metrics | None = app.extensions.get("metrics")
        begin_at_zero(app, "queue_refusals", ("reads", "writes", "passwords"))
        threads, wait = app.config["THREADS"], app.config["DATABASE_TIMEOUT_SECONDS"]
        running = threads_of_one_kind(threads)
        reading_threads = ThreadPoolExecutor(threads)
        self._reading = defaultdict[str | None, Lane](
            lambda: Lane(reading_threads, running, WAITING_MAXIMUM, wait, "reads", self._metrics)
        )
        is_sqlite = app.config["DATABASE_URL"].startswith("sqlite")
        writing = 1 if is_sqlite else running
        writing_threads = ThreadPoolExecutor(writing)
        self._writing = Lane(writing_threads, writing, WAITING_MAXIMUM, wait, "writes", self._metrics)
        waiting = HASHING_MAXIMUM - HASHES_AT_ONCE
        hashing_threads = ThreadPoolExecutor(HASHES_AT_ONCE)
        self._hashing = Lane(hashing_threads, HASHES_AT_ONCE, waiting, wait, "passwords", self._metrics)
        self._hashing_paths = hashing_paths(app)
        # Hundreds of clients may run into a limit at once. Their refusals take turns with other requests.
        self._refusing = Lane(ThreadPoolExecutor(1), CONNECTIONS_MAXIMUM, 0, 0)
        self._in_loop = EventLoopLane(wait, "reads")
        is_local = is_sqlite and app.config["RATELIMIT_STORAGE_URL"] == "memory://"
        self._methods_in_loop = SAFE_METHODS if is_local else frozenset[str]()
        self._environ: WSGIEnvironment = {
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.input_terminated": True,
            "wsgi.multithread": True,
            "wsgi.multiprocess": app.config["WORKERS"] > 1,
            "wsgi.run_once": False,
        }

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare a worker, after granian installed its signal handlers and before the loop runs."""
        loop.remove_signal_handler(signal.SIGINT)
        ignore_signals_of_terminal()
        loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, {signal.SIGTERM})
        if self._methods_in_loop:
            self._in_loop.begin_round(loop)

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Respond to one request."""
        environ = self._environ | environ_of(scope)
        method: str = environ["REQUEST_METHOD"]
        if fault := fault_of(environ):
            environ[SERVER_ERROR] = fault
        elif method not in SAFE_METHODS and (
            "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ
        ):
            await self._read_body(environ, protocol)
        if SERVER_ERROR not in environ:
            lane = self._lane_of(method, environ["PATH_INFO"])
            if await lane.run(self._respond, environ, protocol):
                return
            if self._metrics:
                self._metrics.count("queue_refusals", lane.name)
            environ[SERVER_ERROR] = unavailable()
        await self._refusing.run(self._respond, environ, protocol)

    def _lane_of(self, method: str, path: str) -> EventLoopLane | Lane:
        """Return the lane of a request. Requests without an operation (404, 405) share one."""
        if method in self._methods_in_loop:
            return self._in_loop
        path = path[max(path.rfind(API_PREFIX), 0) :]  # A proxy may leave a prefix before it.
        if (method, path) in self._hashing_paths:
            return self._hashing
        if method not in SAFE_METHODS:
            return self._writing
        try:
            return self._reading[self._urls.match(path, method)[0]]
        except HTTPException:
            return self._reading[None]

    async def _read_body(self, environ: "WSGIEnvironment", protocol: HTTPProtocol) -> None:
        """Read the body into `wsgi.input`. One that is too long is left for the application to refuse."""
        length = environ.get("CONTENT_LENGTH")
        if length and int(length) > SIZE_MAXIMUM:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(deadline):
                body = await (protocol() if length else read_chunks(protocol))
                environ["wsgi.input"] = BytesIO(body)
        except TimeoutError:
            # If the loop itself is late, because too many requests run in it, the client may be in time.
            is_overloaded = loop.time() > deadline + LATE_SECONDS
            environ[SERVER_ERROR] = unavailable() if is_overloaded else Problem("request_timeout")
        except ProtocolClosed:
            environ[SERVER_ERROR] = Problem("incomplete_body")

    def _respond(self, environ: "WSGIEnvironment", protocol: HTTPProtocol) -> None:
        """Run the application and send its response."""
        status = 500
        headers: Headers = []

        def start_response(line: str, fields: Headers, _exc_info: object = None) -> Any:
            nonlocal status, headers
            status, headers = int(line[:3]), fields  # Without PEP 3333's `write`, which Flask does not use.

        body: Iterable[bytes] = self._app(environ, start_response)
        try:
            content = b"".join(body)
            protocol.response_bytes(status, headers, content)
        finally:
            if close := getattr(body, "close", None):  # pragma: no branch -- of PEP 3333, optional.
                close()


def environ_of(scope: Scope) -> "WSGIEnvironment":
    """Return the WSGI environ of a request (PEP 3333; RFC 3875 for the variables of CGI).

    A header that is repeated is joined with commas (RFC 9110, section 5.3). One whose value is not ASCII,
    which granian does not pass on, is empty rather than absent.
    """
    path, query, headers = scope.path, scope.query_string, scope.headers
    server, _, port = scope.server.rpartition(":")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope.method,
        # PEP 3333 has bytes as Latin-1. RSGI has decoded the path as UTF-8, with U+FFFD for other bytes.
        "PATH_INFO": path if path.isascii() else path.encode().decode("latin-1"),
        "QUERY_STRING": query if query.isascii() else query.encode().decode("latin-1"),
        "SERVER_NAME": server.strip("[]"),
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1" if scope.http_version == "1.1" else "HTTP/1.0",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(),
    }
    fields = headers.items()
    if len(fields) != len(headers):  # type: ignore[arg-type]  # Its stub has no __len__.
        fields += [(name, "") for name in set(headers.keys()).difference(name for name, _ in fields)]
    for name, value in fields:
        key = environ_key(name)
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ.pop("", None)
    return environ


@lru_cache(maxsize=256)
def environ_key(header: str) -> str:
    """Return the key of a header in the environ.

    It is "" for a name with an underscore, which would have the key of the name with a dash.
    """
    if "_" in header:
        return ""
    key = header.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def fault_of(environ: "WSGIEnvironment") -> Exception | None:
    """Return the error of a request that is invalid HTTP although granian accepts it; None if it is valid."""
    host = environ.get("HTTP_HOST", "")
    if "," in host or not (host or environ["SERVER_PROTOCOL"] == "HTTP/1.0"):
        return Problem("bad_request")  # RFC 9112, section 3.2.
    # Werkzeug would take `get` for GET, but methods are case-sensitive (RFC 9110, section 9.1).
    return None if environ["REQUEST_METHOD"].isupper() else MethodNotImplemented()


async def read_chunks(protocol: HTTPProtocol) -> bytes:
    """Read a chunked body, or as much of it as is too much. Raises ProtocolClosed if it is broken."""
    chunks: list[bytes] = []
    size = ends = 0
    async for chunk in protocol:
        chunks.append(chunk)
        size += len(chunk)
        # granian gives an empty chunk at the end, and another one before it for an error (or for trailers).
        ends += not chunk
        if ends > 1 or len(chunks) > CHUNKS_MAXIMUM:
            raise ProtocolClosed
        if size > SIZE_MAXIMUM:
            break
    return b"".join(chunks)


def hashing_paths(app: Flask) -> set[tuple[str, str]]:
    """Return the method and path of each operation that takes a password, and so hashes one."""
    found = set()
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        fields = operation.body.fields.values() if operation.body else ()
        has_password = any(field.metadata.get("format") == "password" for field in fields)
        if has_password or operation.security == "basicAuth":
            found |= {(method, rule.rule) for method in rule.methods or () if method != "OPTIONS"}
    return found


def serve_forever(config: Mapping[str, Any]) -> None:
    """Run granian with the settings of the application."""
    host, port = config["HOST"], config["PORT"]
    server = Granian(
        "wsgi:front",
        factory=True,
        address=free_address(host, port),
        port=port,
        interface=Interfaces.RSGI,
        # With HTTP/2, one request's compressed headers could unpack to 16 MB and stop all others for seconds.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(max_buffer_size=HEADERS_MAXIMUM),
        websockets=False,
        workers=config["WORKERS"],
        backpressure=connections_maximum(),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=config["STOP_SECONDS"],
        working_dir=ROOT,
    )
    gc.freeze()  # Workers share the memory of all objects so far, and no collection walks them.
    os.register_at_fork(after_in_child=leave_signals_to_parent)
    # granian would respawn the workers, and go on without its terminal.
    server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
    server.main_loop_interrupt = SignalSafeEvent()
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"Microblog listens on {url}\nIts documentation is at {url}/docs")
    server.serve()


class SignalSafeEvent(Event):
    """An event that handlers of signals may set. `Event.set` hangs if it interrupts code of the event.

    Waiting resets it, as granian does after each wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_unset = Lock()
        self._is_unset.acquire()

    def set(self) -> None:
        """Let `wait` return, now or when it is called."""
        with suppress(RuntimeError):  # It is set already.
            self._is_unset.release()

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 -- granian waits without one.
        """Wait until the event is set, without a timeout."""
        while not self._is_unset.acquire(timeout=1):
            pass  # The handlers of signals that arrived just before have run.
        return True


def leave_signals_to_parent() -> None:  # pragma: no cover -- runs before a new process is measured.
    """Prepare a new worker: the parent decides when it stops, and tells it by SIGTERM.

    SIGTERM is blocked until the event loop runs: uvloop loses signals that arrive earlier.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ignore_signals_of_terminal()


def ignore_signals_of_terminal() -> None:
    """Ignore what a terminal sends to all processes of a group: on Ctrl-C, and when it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def connections_maximum() -> int:
    """Return how many connections a worker holds; raise the limit of open files to twice as many.

    The database needs files too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_MAXIMUM
    soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(CONNECTIONS_MAXIMUM, soft // 2)


def free_address(host: str, port: int) -> str:
    """Return the IP address of a host. Raises ClickException if the server cannot listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        return str(address[0])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} is in use; choose another, for example PORT={port + 1}."
        else:
            reason = f"Cannot listen on {host}, port {port}: {error.strerror}."
        raise click.ClickException(reason) from None
