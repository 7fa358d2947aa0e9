"""Compares the cost of lists and other requests in databases of several sizes.

Run: .venv/bin/python -m benchmarks.lists [sqlite|postgresql] [--sizes 10000,100000,1000000] [--folder FOLDER]

A size is a number of posts; there are a tenth as many users (at least 2,000), and as many follows and
likes; one user has all others as followers. The requests pass through the whole application in one process,
without a server. With a folder, the databases are kept there, and used again by the next run.

Prints tables with a row for each request, and the growth from the smallest database. Milliseconds are the
median of the rounds. Work does not depend on the speed of the machine: on PostgreSQL it is the number of rows
and index entries that the request's statements read, on SQLite the number of instructions of its virtual
machine. Pages are those of PostgreSQL's tables and indexes, each as often as it is read. A deep page is the
one after 10,000 items or, marked with ~, the one in the middle of a shorter list. Further tables have the
indexes that are used, and the sizes of tables and indexes.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import psycopg
from sqlalchemy import event, func, select

from api.app import create_app
from api.config import API_PREFIX, Config
from api.db import db
from api.models import Entity, User
from benchmarks.large_databases import (
    RARE_WORD,
    add_extremes,
    bytes_of_relations,
    fill,
    follow,
    most_followed,
    most_liked,
)
from benchmarks.servers import DATABASES, SETTINGS, Database, running_database
from tests.support.statements import Statement, recorded_statements

ROUNDS = 20
WARM_UP = 10  # PostgreSQL chooses between generic and custom plans after five executions.
DEPTH = 10_000
PASSWORD = "9 green horses"  # noqa: S105 -- signs in to a database that is deleted at the end.
FOLLOWS = [10, 100, 1_000]
# The tables and indexes in the nodes of a plan.
INDEX = re.compile(
    r"(?:INDEX|Index Scan|Index Only Scan|Bitmap Index Scan|Seq Scan) (\w+)|(\w+) INTEGER PRIMARY KEY"
)
PLACEHOLDER = re.compile(r"%\((\w+)\)s")

Headers = dict[str, str]


@dataclass
class Request:
    """A request and its cost; `undo` is a method and a path for the state before it."""

    path: str
    headers: Headers
    method: str = "GET"
    body: dict[str, str] | None = None
    undo: str | None = None
    is_shallow: bool = False
    times: list[float] = field(default_factory=list)
    work: float = 0
    pages: int = 0
    plan: list[str] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        """The median time."""
        return 1000 * median(self.times[WARM_UP:])


class Service:
    """The application on a database of one size, and the requests to measure."""

    def __init__(self, database_url: str) -> None:
        settings = {"DATABASE_URL": database_url, "DATABASE_TIMEOUT_SECONDS": "3600"}
        self.app = create_app(Config.from_environment({**SETTINGS, **settings}))
        self.client = self.app.test_client()
        self.requests: dict[str, Request] = {}
        self.seconds = 0.0  # Of filling the database.

    def add_readers(self) -> None:
        """Register users who follow few and many others, of both kinds."""
        for amount, kind in product(FOLLOWS, ("active", "seldom")):
            name = f"{kind}{amount}"
            body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
            user: Any = self.client.post(f"{API_PREFIX}/users", json=body).get_json()
            follow(self.app, user["id"], amount, seldom=kind == "seldom")

    def prepare(self) -> None:
        """Sign in, and find the pages and rows to request."""
        with self.app.app_context():
            author = _first(select(User.username).order_by(User.post_count.desc()))
            celebrity, post_id = _first(most_followed()).username, _first(most_liked()).id
            tags = select(Entity.tag).where(Entity.tag.is_not(None)).limit(100_000).subquery()
            tag = _first(select(tags.c.tag).group_by(tags.c.tag).order_by(func.count().desc()))
        readers = {
            f"feed of {amount:,}, {kind}": self._sign_in(f"{kind}{amount}")
            for amount, kind in product(FOLLOWS, ("active", "seldom"))
        }
        lists: dict[str, tuple[str, Headers]] = {
            "posts": ("/posts?", {}),
            "a user's posts": (f"/users/{author}/posts?", {}),
            **{name: ("/feed?", headers) for name, headers in readers.items()},
            "replies": (f"/posts/{post_id}/replies?", {}),
            "likes": (f"/posts/{post_id}/likes?", {}),
            "followers of the celebrity": (f"/users/{celebrity}/followers?", {}),
            "search, rare word": (f"/posts?q={RARE_WORD}&", {}),
            "search, common word": ("/posts?q=the&", {}),
            "tag": (f"/posts?tag={tag}&", {}),
        }
        for name, (url, headers) in lists.items():
            self.requests[name] = Request(url, headers)
            self.requests[f"{name}, deep"] = self._deep_page(url, headers)
        caller = readers["feed of 10, active"]
        following = f"/me/following/{celebrity}"
        self.send("DELETE", following, caller)
        self.requests["one post"] = Request(f"/posts/{post_id}?expand=counts", {})
        self.requests["profile of the celebrity"] = Request(f"/users/{celebrity}?expand=counts", {})
        self.requests["follow the celebrity"] = Request(following, caller, "PUT", undo="DELETE")
        self.requests["unfollow the celebrity"] = Request(following, caller, "DELETE", undo="PUT")
        self.requests["publish"] = Request("/posts", caller, "POST", {"body": f"Good #{tag}, @{author}"})

    def send(self, method: str, path: str, headers: Headers, body: Any = None) -> Any:
        """Send a request; return the JSON of the response."""
        response = self.client.open(API_PREFIX + path, method=method, headers=headers, json=body)
        if response.status_code >= 400:
            raise SystemExit(response.text)
        return response.get_json(silent=True)

    def measure_time(self, request: Request) -> None:
        """Send a request once, record the time, and undo what it did."""
        began = perf_counter()
        self.send(request.method, request.path, request.headers, request.body)
        request.times.append(perf_counter() - began)
        if request.undo:
            self.send(request.undo, request.path, request.headers)

    def measure_work(self, request: Request) -> None:
        """Send a request once, and record the work of the database and the plans."""
        with self.app.app_context():
            engine = db.engine
        send = partial(self.send, request.method, request.path, request.headers, request.body)
        is_sqlite = engine.dialect.name == "sqlite"
        with recorded_statements(self.app) as statements:
            if is_sqlite:
                request.work = _instructions(engine, send)
            else:
                send()
        explain = _explain_on_sqlite if is_sqlite else _explain_on_postgresql
        with engine.connect() as connection:
            for statement in map(_first_execution, statements):
                if statement.text.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
                    explain(connection.connection.driver_connection, statement, request)
        if request.undo:
            self.send(request.undo, request.path, request.headers)

    def close(self) -> None:
        """Close the connections to the database."""
        with self.app.app_context():
            db.engine.dispose()

    def _sign_in(self, name: str) -> Headers:
        response = self.client.post(f"{API_PREFIX}/tokens", auth=(name, PASSWORD))
        return {"Authorization": f"Bearer {response.get_json()['access_token']}"}

    def _deep_page(self, path: str, headers: Headers) -> Request:
        cursors: list[str] = []
        for limit in (100, 10):
            if len(cursors) < 2:
                cursors = list(self._cursors(path, headers, limit))
        is_shallow = 100 * len(cursors) < DEPTH
        if not cursors:  # The list has one page.
            return Request(path, headers, is_shallow=is_shallow)
        cursor = cursors[(len(cursors) - 1) // 2] if is_shallow else cursors[-1]
        return Request(f"{path}cursor={cursor}", headers, is_shallow=is_shallow)

    def _cursors(self, path: str, headers: Headers, limit: int) -> Iterator[str]:
        """Follow the pages of a list down to DEPTH, and yield their cursors."""
        page = self.send("GET", f"{path}limit={limit}", headers)
        for _ in range(DEPTH // limit):
            if page["next_cursor"] is None:
                return
            yield page["next_cursor"]
            page = self.send("GET", f"{path}limit={limit}&cursor={page['next_cursor']}", headers)


@click.command()
@click.argument("kind", type=click.Choice(list(DATABASES)), default="sqlite")
@click.option("--sizes", default="10000,100000,1000000", show_default=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Keep the databases here.")
@click.option("--only-fill", is_flag=True, help="Measure nothing.")
def main(kind: str, sizes: str, folder: Path | None, *, only_fill: bool) -> None:
    """Create a database of each size, then measure each request on all of them in turn."""
    logging.disable()
    with running_database(kind, folder) as database:
        services = filled_services(database, sorted(map(int, sizes.split(","))), folder)
        if not only_fill:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                for service in services.values():
                    service.prepare()
                measure(list(services.values()))
            figures: list[tuple[str, Callable[[Request], float], int]] = [
                ("Milliseconds", lambda request: request.milliseconds, 1),
                ("Work", lambda request: request.work, 0),
            ]
            if kind == "postgresql":
                figures.append(("Pages", lambda request: request.pages, 0))
            for title, figure, decimals in figures:
                print(f"{title}:\n\n{figures_table(services, figure, decimals)}\n")
            print(f"{plans_table(services)}\n\n{sizes_table(services)}")
        for service in services.values():
            service.close()


def filled_services(database: Database, sizes: list[int], folder: Path | None) -> dict[int, Service]:
    """Return the service on a database of each size; create those that the folder does not have."""
    services: dict[int, Service] = {}
    seconds: dict[int, float] = {}
    marks = {size: (folder or Path(os.devnull)) / f"{database.kind}-{size}.seconds" for size in sizes}
    for size, mark in marks.items():
        if mark.exists():
            services[size] = Service(database.url(f"posts_{size}"))
        else:
            click.echo(f"Inserting {size:,} posts.", err=True)
            services[size] = Service(database.create(f"posts_{size}"))
            urls = {smaller: services[smaller].app.config["DATABASE_URL"] for smaller in services}
            began = perf_counter()
            fill(services[size].app, size, urls)
            seconds[size] = perf_counter() - began
    for size in seconds:
        add_extremes(services[size].app)
        services[size].add_readers()
        if folder:
            marks[size].write_text(f"{seconds[size]:.0f}\n")
    for size, service in services.items():
        service.seconds = seconds[size] if size in seconds else float(marks[size].read_text())
    return services


def measure(services: list[Service]) -> None:
    """Measure each request on all databases in turn, so that other load on the machine affects all."""
    for name in services[0].requests:
        for _ in range(WARM_UP + ROUNDS):
            for service in services:
                service.measure_time(service.requests[name])
        for service in services:
            service.measure_work(service.requests[name])


def _first(statement: Any) -> Any:
    return db.session.scalars(statement.limit(1)).one()


def _instructions(engine: Any, send: Callable[[], object]) -> int:
    """Return the number of instructions of SQLite's virtual machine that a request takes."""
    count = 0

    def increment() -> None:
        nonlocal count
        count += 1

    def watch(connection: Any, *_others: Any) -> None:
        connection.set_progress_handler(increment, 1)

    def unwatch(connection: Any, *_others: Any) -> None:
        connection.set_progress_handler(None, 1)

    event.listen(engine, "checkout", watch)
    event.listen(engine, "checkin", unwatch)
    send()
    event.remove(engine, "checkout", watch)
    event.remove(engine, "checkin", unwatch)
    return count


def _first_execution(statement: Statement) -> Statement:
    """Return a statement with the parameters of one execution, if it has those of several."""
    text, parameters = statement
    return Statement(text, parameters[0] if isinstance(parameters, list) else parameters)


def _explain_on_sqlite(connection: Any, statement: Statement, request: Request) -> None:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters)
    request.plan += [re.sub(r" \(.*| USING", "", row[3]) for row in rows]


def _explain_on_postgresql(connection: Any, statement: Statement, request: Request) -> None:
    """Execute a statement with the plan that a request gets, and roll back."""
    text, parameters = statement
    # An INSERT, whose row exists already, is not executed.
    options = "FORMAT JSON" if text.startswith("INSERT") else "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON"
    cursor = psycopg.ClientCursor(connection)  # Passes values as text, as for statements with a custom plan.
    with connection.transaction(force_rollback=True):
        if not is_planned_with_values(text):
            names = list(dict.fromkeys(PLACEHOLDER.findall(text)))
            numbered = PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
            connection.execute(f"PREPARE explained AS {numbered.replace('%%', '%')}")
            text = (
                f"EXECUTE explained ({', '.join(f'%({name})s' for name in names)})"
                if names
                else "EXECUTE explained"
            )
        [(explained,)] = cursor.execute(f"EXPLAIN ({options}) {text}", parameters).fetchall()
        connection.execute("DEALLOCATE ALL")
    plan = explained[0]["Plan"]
    request.work += _rows_read_by(plan)
    request.pages += plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
    request.plan += list(_nodes_of(plan))


def is_planned_with_values(statement: str) -> bool:
    """Whether PostgreSQL plans a statement with its values (see `api.db.driver.CUSTOM_PLAN`)."""
    return "@@" in statement


def _rows_read_by(plan: dict[str, Any]) -> float:
    """Return the rows and index entries that a plan and its children read, including those filtered out."""
    read = sum(_rows_read_by(child) for child in plan.get("Plans", ()))
    if "Relation Name" in plan or "Index Name" in plan:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        read += (plan.get("Actual Rows", 0) + removed) * plan.get("Actual Loops", 0)
    return read


def _nodes_of(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the nodes of a plan, with the names of their indexes or tables."""
    yield " ".join([plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", ""))]).strip()
    for child in plan.get("Plans", ()):
        yield from _nodes_of(child)


def figures_table(services: dict[int, Service], of: Callable[[Request], float], decimals: int) -> str:
    """Return a table of a figure of each request, with its growth from the smallest database."""
    rows = []
    smallest, *larger = services
    for name in services[smallest].requests:
        requests = [service.requests[name] for service in services.values()]
        cells = [f"{'~' * one.is_shallow}{of(one):,.{decimals}f}" for one in requests]
        growths = [f"{of(one) / (of(requests[0]) or 1):.2f}" for one in requests[1:]]
        changed = [f"{size:,}" for size in larger if services[size].requests[name].plan != requests[0].plan]
        rows.append([name, *cells, *growths, f"other with {', '.join(changed)}" if changed else "same"])
    sizes = [f"{size:,} posts" for size in services]
    return _table(["request", *sizes, *(f"growth to {size:,}" for size in larger), "plans"], rows)


def plans_table(services: dict[int, Service]) -> str:
    """Return a table of the tables and indexes that a request reads in the largest database."""
    requests = services[max(services)].requests
    used = {name: _indexes(one.plan) for name, one in requests.items()}
    return _table(["request", "indexes"], [[name, ", ".join(indexes)] for name, indexes in used.items()])


def _indexes(plan: list[str]) -> list[str]:
    found = [match for node in plan if (match := INDEX.search(node))]
    return sorted({match[1] or f"{match[2]} by id" for match in found})


def sizes_table(services: dict[int, Service]) -> str:
    """Return a table of the seconds that filling the databases took, and the sizes of their relations."""
    sizes = {size: bytes_of_relations(service.app) for size, service in services.items()}
    rows = [
        ["seconds to fill", *(f"{service.seconds:,.0f}" for service in services.values()), ""],
        ["MB", *(f"{sum(each.values()) / 1e6:,.0f}" for each in sizes.values()), ""],
    ]
    largest = max(sizes)
    for name, length in sorted(sizes[largest].items(), key=lambda item: -item[1]):
        if length < largest / 10:
            continue
        megabytes = [f"{each.get(name, 0) / 1e6:,.1f}" for each in sizes.values()]
        rows.append([name, *megabytes, f"{length / largest:.1f}"])
    return _table(["", *(f"{size:,} posts" for size in sizes), "bytes a post"], rows)


def _table(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
