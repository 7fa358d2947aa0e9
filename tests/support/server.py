"""The service as processes of its own, and clients that send it bytes."""

import os
import socket
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from email.message import Message
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import flask_migrate
import orjson
import psutil

from api.app import create_app
from api.config import SETTINGS, Config
from api.db import db
from tests.support.contract import PREFIX
from tests.support.factories import PASSWORD
from tests.support.processes import ModuleProcess
from tests.support.wait import TIMEOUT_SECONDS, wait_until

JSON = {"Content-Type": "application/json"}
SERVE = ("flask", "serve")
UNLIMITED = {name: "1000000/second" for name in SETTINGS if name.startswith("RATE_LIMIT_")}
CHEAP_PASSWORDS = {"PASSWORD_HASH_MEMORY": "8", "PASSWORD_HASH_TIME": "1"}
# For tests of what hashing costs.
COSTLY_PASSWORDS = {name: str(SETTINGS[name].load_default) for name in CHEAP_PASSWORDS}


class Service:
    """A service that listens at a port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.url = f"http://{host}:{port}"

    def get(self, path: str) -> tuple[int, object]:
        """Return the status and the JSON at a path."""
        status, _, body = self.send("GET", path)
        return status, body

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> tuple[int, Message, Any]:
        """Send a request; return the status, the headers and the JSON of the response, None without a body.

        Raises OSError or HTTPException if there is no response.
        """
        with closing(HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request(method, path, json and orjson.dumps(json), {**JSON, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, orjson.loads(response.read() or b"null")

    def sign_up(self, username: str) -> str:
        """Register a user, and return an access token."""
        user = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
        self.send("POST", f"{PREFIX}/users", json=user)
        basic = "Basic " + b64encode(f"{username}:{PASSWORD}".encode()).decode()
        token: str = self.send("POST", f"{PREFIX}/tokens", {"Authorization": basic})[2]["access_token"]
        return token

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection((self.host, self.port), TIMEOUT_SECONDS)

    def exchange(self, sent: bytes, *, ends: bool = False) -> bytes:
        """Send bytes over a connection, and return what comes until the server closes it.

        A client that `ends` says that nothing more comes from it.
        """
        with self.connect() as connection:
            connection.sendall(sent)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)


class Server(Service):
    """A running service of this checkout."""

    def __init__(self, host: str, port: int, process: ModuleProcess) -> None:
        super().__init__(host, port)
        self.process = process

    @property
    def pid(self) -> int:
        """The id of the first process, which is that of its group."""
        assert self.process.pid
        return self.process.pid

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve requests."""
        return list(psutil.Process(self.pid).children())


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes a connection."""
    received = b""
    while more := connection.recv(65_536):
        received += more
    return received


def free_port(number: int = 1) -> int:
    """Return a port that is not in use, the first of a number of such ports in a row."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe, ExitStack() as others:
            port: int = probe.getsockname()[1]
            with suppress(OSError):
                for other in range(port + 1, port + number):
                    others.enter_context(socket.create_server(("127.0.0.1", other)))
                return port


def wait_until_open(port: int) -> None:
    """Wait until a server listens on a port."""
    wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close(), OSError)


@contextmanager
def running_server(
    folder: Path,
    command: Sequence[str] = SERVE,
    *,
    host: str = "127.0.0.1",
    **settings: str,
) -> Iterator[Server]:
    """Serve a database, by default on a free port, with the log in a folder.

    The database must have the tables of the service. A file of SQLite is created with them if it does not
    exist. Hashing a password costs little unless the settings say otherwise.
    `command` is the module that runs and its arguments; `{port}` in them stands for the port.
    """
    settings = {**CHEAP_PASSWORDS, **settings}
    port = int(settings.setdefault("PORT", str(free_port())))
    database_url = settings.setdefault("DATABASE_URL", f"sqlite:///{folder}/microblog.db")
    if database_url.startswith("sqlite"):
        file = Path(database_url.removeprefix("sqlite:///"))
        if not file.exists():
            file.write_bytes(migrated_file())
    process = ModuleProcess(
        *(word.format(port=port) for word in command),
        environment={**os.environ, **settings},
        log=folder / "server.log",
    )
    process.start()
    server = Server(host, port, process)

    def live() -> None:
        assert process.is_alive(), process.lines()
        server.get("/livez")

    try:
        wait_until(live, OSError)
        yield server
    finally:
        process.terminate()
        process.end()


def migrate(database_url: str) -> None:
    """Create the tables of the service in a database."""
    app = create_app(Config(DATABASE_URL=database_url))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()


@cache
def migrated_file() -> bytes:
    """Return the content of a SQLite database that has all tables of the service."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "microblog.db"
        migrate(f"sqlite:///{file}")
        return file.read_bytes()
