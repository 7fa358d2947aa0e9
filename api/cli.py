"""The `flask` commands of this service."""

import errno
import logging
import secrets
import socket
import unicodedata
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app

from api.auth import passwords
from api.config import ROOT
from api.counters import wrong_counters
from api.database import db, utc_now
from api.openapi import as_yaml, document
from api.seed import analyze, seed


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

    @app.cli.group("counters")
    def counters() -> None:
        """The counters of posts, likes, replies and follows."""

    @counters.command("check")
    @click.option("--repair", is_flag=True, help="Set wrong counters right.")
    def check(repair: bool) -> None:
        """Count everything again, and fail if a counter is wrong."""
        wrong = wrong_counters(repair=repair)
        db.session.commit()
        for counter, rows in wrong.items():
            click.echo(f"{counter}: {rows} wrong")
        if any(wrong.values()) and not repair:
            raise click.exceptions.Exit(1)

    @app.cli.command("seed")
    @click.option("--users", default=1_000, type=click.IntRange(0), show_default=True)
    @click.option("--posts", default=10_000, type=click.IntRange(0), show_default=True)
    @click.option("--follows", default=20_000, type=click.IntRange(0), show_default=True)
    @click.option("--likes", default=20_000, type=click.IntRange(0), show_default=True)
    @click.option("--random-seed", default=1, show_default=True, help="Another number, another story.")
    @click.option("--password", help="What everybody signs in with; without it, nobody can.")
    @click.option("--force", is_flag=True, help="Add to the users who are there already.")
    def seed_command(password: str | None, **options: Any) -> None:
        """Make up users and what they do.

        It happens in the year that ends today, and the same options give the same. All of it is written, or,
        if interrupted, none.
        """
        password_hash = passwords().hash(unicodedata.normalize("NFC", password or secrets.token_urlsafe()))
        today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        seed(password_hash=password_hash, until=today, **options)
        db.session.commit()
        analyze()
        click.echo(
            f"They sign in with {password!r}." if password else "Without --password, none can sign in."
        )

    @app.cli.command("serve")
    def serve() -> None:
        """Answer requests at HOST and PORT, until interrupted."""
        serve_forever(app)


def serve_forever(app: Flask) -> None:
    """Run granian with the application's settings."""
    # Only the process that starts the server needs these.
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    host, port = app.config["HOST"], app.config["PORT"]
    # Threads wait for the database more than they compute; granian's advice on their number is not for that.
    logging.getLogger("_granian").addFilter(lambda record: "Configuration allows" not in record.getMessage())
    server = Granian(
        "wsgi:worker",
        factory=True,
        address=free_address(host, port),
        port=port,
        interface=Interfaces.WSGI,
        # With HTTP/2, one request's compressed headers could unpack to 16 MB and stop all others for seconds.
        http=HTTPModes.http1,
        workers=app.config["WORKERS"],
        blocking_threads=app.config["THREADS"],
        http1_settings=HTTP1Settings(max_buffer_size=16_384),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=app.config["STOP_SECONDS"],
        working_dir=ROOT,
    )
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"Microblog listens on {where}\nIts documentation is at {where}/docs")
    server.serve()


def free_address(host: str, port: int) -> str:
    """Return the IP address of a host; refuse, in one line, one that cannot be listened on."""
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
            reason = f"Port {port} is taken; choose another, for example PORT={port + 1}."
        else:
            reason = f"Cannot listen on {host}, port {port}: {error.strerror}."
        raise click.ClickException(reason) from None
