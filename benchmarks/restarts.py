"""Counts requests that are lost when the service stops, and when it is restarted behind nginx, under load.

Run: .venv/bin/python -m benchmarks.restarts [sqlite|postgresql] [--rounds 20] [--seconds 120] [--rate 100]

Reads and writes are due at an even rate, over connections that stay open and over new ones. First the service
stops in each round (SIGTERM to its first process), as the load goes on. A request has begun if the service
logged it, or stored what it sent. Then nginx, with the site in `deploy/`, passes the load to two instances of
the service, which are restarted in turn until the time is over.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import orjson
from sqlalchemy import create_engine, text

from api.config import API_PREFIX
from benchmarks.load import Load, Request, load, milliseconds, request_bytes
from benchmarks.servers import (
    DATABASES,
    SECRET,
    SERVE,
    Server,
    free_port,
    run_flask,
    running_database,
    running_server,
)
from tests.support.nginx import SITE, running_nginx

CONNECTIONS = 64
STOP_AFTER_SECONDS = 1.0
REQUEST_ID = "under-load"


@click.command()
@click.argument("kind", default="sqlite", type=click.Choice(list(DATABASES)))
@click.option("--rounds", default=20, show_default=True, help="Stops.")
@click.option("--seconds", default=120.0, show_default=True, help="Time for restarts behind nginx.")
@click.option("--rate", default=100.0, show_default=True, help="Requests a second, a third of them writes.")
def main(kind: str, rounds: int, seconds: float, rate: float) -> None:
    """Run both, and print what became of the requests."""
    with running_database(kind) as database, ProcessPoolExecutor(1, get_context("spawn")) as loads:
        url = database.create("seeded")
        run_flask(url, "db", "upgrade")
        run_flask(url, "seed", "--users=100", "--posts=1000", "--password", SECRET)
        responses, lost, failures = 0, 0, Counter[str]()
        for _ in range(rounds):
            before = posts_in(url)
            with running_server("service", SERVE, url, WORKERS="2") as server:
                outcome, logged = stop_under_load(loads, server, rate)
            responses += len(outcome.latencies)
            lost += logged - len(outcome.latencies)
            lost += posts_in(url) - before - outcome.names.count("POST")
            failures += outcome.failures
        print(f"{rounds} stops: {responses} responses, {lost} requests begun without one; {dict(failures)}")
        outcome, restarts = restart_in_turn(loads, url, seconds, rate)
        figures = milliseconds(outcome.latencies, 50, 99, 99.9)
        print(
            f"{restarts} restarts: {len(outcome.latencies)} responses; {dict(outcome.failures)}; "
            f"p50, p99, p99.9, slowest: {', '.join(figures)} ms"
        )


def requests_to(server: Server) -> list[Request]:
    """Return reads and writes by a seeded user, over connections that stay open and over new ones."""
    username = server.send("GET", "/users?limit=1").json["items"][0]["username"]
    return requests_by(server.sign_in(username))


def requests_by(token: str) -> list[Request]:
    """Return reads and writes with an access token, over connections that stay open and over new ones.

    A third of them are writes.
    """
    requests = []
    for connection in ("keep-alive", "close"):
        headers = [
            f"Authorization: Bearer {token}",
            f"Connection: {connection}",
            f"X-Request-Id: {REQUEST_ID}",
        ]
        body = orjson.dumps({"body": "The first snowdrops are out. #garden"})
        read = request_bytes("GET", f"{API_PREFIX}/posts?limit=25", headers)
        write = request_bytes("POST", f"{API_PREFIX}/posts", headers, body)
        requests += [Request(read, 200, "GET"), Request(read, 200, "GET"), Request(write, 201, "POST")]
    return requests


def stop_under_load(loads: Executor, server: Server, rate: float) -> tuple[Load, int]:
    """Stop a server in the middle of a load; return its outcome, and how many requests the server began."""
    running = loads.submit(
        load,
        server.port,
        requests_to(server),
        connections=CONNECTIONS,
        seconds=2 * STOP_AFTER_SECONDS,
        rate=rate,
    )
    time.sleep(STOP_AFTER_SECONDS)
    server.stop()
    return running.result(), begun(server.log.read_text().splitlines())


def posts_in(database_url: str) -> int:
    """Return how many posts a database has."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        found: int = connection.execute(text("SELECT count(*) FROM posts")).scalar_one()
    engine.dispose()
    return found


def begun(lines: Iterable[str]) -> int:
    """Return how many requests of a load are in the log of the service."""
    return sum(f'"{REQUEST_ID}"' in line for line in lines)


def restart_in_turn(loads: Executor, database_url: str, seconds: float, rate: float) -> tuple[Load, int]:
    """Restart two instances behind nginx in turn; return the outcome of the load, and how many restarts."""
    ports, nginx_port = [free_port(), free_port()], free_port()
    with TemporaryDirectory() as folder, ExitStack() as stack:

        def start(port: int) -> Server:
            server = running_server("service", SERVE, database_url, PORT=str(port), TRUSTED_PROXIES="1")
            return stack.enter_context(server)

        servers = {port: start(port) for port in ports}
        stack.enter_context(running_nginx(Path(folder), nginx_port, site(nginx_port, ports)))
        requests = requests_to(servers[ports[0]])
        running = loads.submit(
            load, nginx_port, requests, connections=CONNECTIONS, seconds=seconds, rate=rate
        )
        restarts = 0
        while not running.done():
            for port in ports:
                servers[port].stop()
                servers[port] = start(port)
                restarts += 1
        return running.result(), restarts


def site(port: int, service_ports: Iterable[int]) -> str:
    """Return the site in `deploy/` for nginx, without TLS, before two instances of the service."""
    http = (SITE / "upstream-two.conf").read_text("utf-8") + (SITE / "microblog.conf").read_text("utf-8")
    for deployed, actual in zip(("8000", "8001"), service_ports, strict=True):
        http = http.replace(f"127.0.0.1:{deployed}", f"127.0.0.1:{actual}")
    beginning, _, server = http.split("server {\n")
    server = re.sub(r"(listen|ssl_\w+) .*;", "", server)
    return f"{beginning}server {{\nlisten 127.0.0.1:{port};\n{server}"


if __name__ == "__main__":
    main()
