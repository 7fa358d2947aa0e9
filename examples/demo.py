"""`make demo`: the API with a database of its own, and the single-page app on the next port.

The app has another origin than the API, as it usually has in production: a server for files serves the app,
and the API allows its origin in `CORS_ORIGINS`.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import flask_migrate

from api.app import create_app
from api.config import ROOT, SETTINGS, Config
from examples.demo_data import DEMO_PASSWORD, DEMO_USER, insert_demo_data

APP = Path(__file__).parent / "app"
DATABASE = ROOT / "instance" / "demo.db"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {api}; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class AppHandler(SimpleHTTPRequestHandler):
    """Serves the files of the app, with the port of the API in `config.js`."""

    def __init__(self, *args: Any, port: int) -> None:
        self._port = port
        super().__init__(*args, directory=str(APP))

    def do_GET(self) -> None:
        """Serve `config.js`, or a file."""
        if self.path != "/config.js":
            super().do_GET()
            return
        script = (APP / "config.js").read_bytes().replace(b":8000", b":%d" % self._port)
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.send_header("Content-Length", str(len(script)))
        self.end_headers()
        self.wfile.write(script)

    def end_headers(self) -> None:
        """Add the headers that protect the page, as a server in production should."""
        self.send_header("Content-Security-Policy", POLICY.format(api=" ".join(origins(self._port))))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_message: object) -> None:
        """Log nothing."""


def origins(port: int) -> list[str]:
    """Return the two origins of a port on this machine."""
    return [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]


def demo_settings(database: Path, port: int) -> dict[str, str]:
    """Return the environment of the service.

    `.env` does not apply: the demo must not use the user's database or mail server.
    """
    ignored = dict.fromkeys(SETTINGS, "")  # An empty value counts as not set.
    own = {
        "DATABASE_URL": f"sqlite:///{database}",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "CORS_ORIGINS": ",".join(origins(port + 1)),
    }
    return {**ignored, **os.environ, **own}


def prepare_database(environment: dict[str, str]) -> None:
    """Migrate the database, and insert the demo data if it has no users."""
    app = create_app(Config.from_environment(environment))
    with app.app_context():
        flask_migrate.upgrade()
        insert_demo_data()


def wait_until_live(service: subprocess.Popen[bytes], api: str) -> bool:
    """Wait until the service responds, and return True; return False if it has ended."""
    while service.poll() is None:
        try:
            urlopen(f"{api}/livez", timeout=5).close()  # noqa: S310 -- http on this machine.
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def wait_for_end(service: subprocess.Popen[bytes]) -> None:
    """Wait until the service ends. A signal that arrives just before a wait is handled within a second."""
    while service.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            service.wait(1)


def main() -> None:
    """Serve until interrupted. The first argument, if any, is the file of another database."""
    database = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DATABASE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = int(os.environ.get("PORT") or 8000)
    api, app = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    environment = demo_settings(database, port)
    prepare_database(environment)
    log = database.with_suffix(".log")
    try:
        pages = ThreadingHTTPServer(("127.0.0.1", port + 1), partial(AppHandler, port=port))
    except OSError as error:
        sys.exit(
            f"Cannot serve the app on port {port + 1}: {error.strerror}. Choose another: PORT={port + 10}."
        )
    with pages, log.open("wb") as output:
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "serve"]
        service = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output)
        try:
            Thread(target=pages.serve_forever, daemon=True).start()
            if wait_until_live(service, api):
                print(f"The app is at      {app}")
                print(f"The API is at      {api}/api/v1, its documentation at {api}/docs")
                print(f"Sign in as         {DEMO_USER} with the password {DEMO_PASSWORD}")
                print(f"The log is in      {log}")
                print("Stop with Ctrl-C.", flush=True)
            wait_for_end(service)
        except KeyboardInterrupt:
            service.terminate()
        pages.shutdown()
        sys.exit(max(0, service.wait()))


if __name__ == "__main__":
    main()
