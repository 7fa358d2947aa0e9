"""The `flask` commands of this service."""

import errno
import socket
from pathlib import Path

import click
from flask import Flask, current_app

from api.config import ROOT
from api.openapi import as_yaml, document


def init_app(app: Flask, prefix: str) -> None:
    """Add the commands. (Flask-SQLAlchemy gives `flask shell` the database and the models.)"""

    @app.cli.command("openapi")
    @click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
    def openapi(output: Path | None) -> None:
        """Print the OpenAPI document as YAML, or write it to a file."""
        contract = as_yaml(document(current_app, prefix))
        if output:
            output.write_text(contract, "utf-8")
        else:
            click.echo(contract, nl=False)

    @app.cli.command("serve")
    def serve() -> None:
        """Answer requests at HOST and PORT, until interrupted."""
        serve_forever(app)


def serve_forever(app: Flask) -> None:
    """Run granian with the application's settings."""
    # Only the process that starts the server needs these.
    from granian import Granian
    from granian.constants import Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    host, port = app.config["HOST"], app.config["PORT"]
    ensure_free(host, port)
    server = Granian(
        "wsgi:app",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=app.config["WORKERS"],
        blocking_threads=app.config["THREADS"],
        http1_settings=HTTP1Settings(max_buffer_size=16_384),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        working_dir=ROOT,
    )
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"Microblog listens on {where}\nIts documentation is at {where}/docs")
    server.serve()


def ensure_free(host: str, port: int) -> None:
    """Refuse, in one line, an address that cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} is taken; choose another, for example PORT={port + 1}."
        else:
            reason = f"Cannot listen on {host}, port {port}: {error.strerror}."
        raise click.ClickException(reason) from None
