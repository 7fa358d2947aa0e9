"""Compares the cost of lists in databases of several sizes, for the first page and for a deep one.

Run: .venv/bin/python -m benchmarks.lists [sqlite|postgresql] [--sizes 10000,100000,1000000]

A size is a number of posts; there are a tenth as many users (at least 2,000), and as many follows and
likes. The requests pass through the whole application in one process, without a server.

Prints a table with a row for each list. A cell has the median time of a request in milliseconds, and its
work in the database: on PostgreSQL the rows and index entries that the request's statements read, on SQLite
the instructions of its virtual machine. Work does not depend on the speed of the machine. The deep page is
the one after 10,000 items, or, marked with ~, the one in the middle of a shorter list.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
from sqlalchemy import event, func, insert, select, update

from api.app import create_app
from api.config import Config
from api.db import db, utc_now
from api.models import Entity, Follow, Post, User
from benchmarks.servers import API_PREFIX, DATABASES, SETTINGS, running_database
from tests.support.statements import recorded_statements

ROUNDS = 40
WARM_UP = 15  # PostgreSQL chooses between generic and custom plans after five executions.
DEPTH = 10_000
PASSWORD = "9 green horses"  # noqa: S105 -- signs in to a database that is deleted at the end.
# A reader with few follows follows users who have few posts; the others follow random users.
FEW_FOLLOWS = 5
FOLLOWS = [FEW_FOLLOWS, 100, 1_000]


@dataclass
class Page:
    """The request for a page, and its cost."""

    url: str
    headers: dict[str, str]
    is_shallow: bool = False
    times: list[float] = field(default_factory=list)
    work: float = 0

    def __str__(self) -> str:
        return f"{'~' * self.is_shallow}{self.milliseconds:.1f} ms, {self.work:,.0f}"

    @property
    def milliseconds(self) -> float:
        """The median time."""
        return 1000 * median(self.times[WARM_UP:])


class Service:
    """The application on a database of one size, and the pages to measure."""

    def __init__(self, database_url: str, size: int) -> None:
        settings = {"DATABASE_URL": database_url, "DATABASE_TIMEOUT_SECONDS": "3600"}
        self.app = create_app(Config.from_environment({**SETTINGS, **settings}))
        self.client = self.app.test_client()
        self._flask("db", "upgrade")
        users = max(2_000, size // 10)
        self._flask("seed", f"--users={users}", f"--posts={size}", f"--follows={size}", f"--likes={size}")
        with self.app.app_context():
            author = _first(select(User.username).order_by(User.post_count.desc()))
            followed = _first(select(User.username).order_by(User.follower_count.desc()))
            liked = _first(select(Post.id).order_by(Post.like_count.desc()))
            tag = _first(
                select(Entity.tag)
                .where(Entity.tag.is_not(None))
                .group_by(Entity.tag)
                .order_by(func.count().desc())
            )
            # A fiftieth of all posts are replies to one post.
            replies = update(Post).where(Post.id % 50 == 0, Post.id != liked)
            db.session.execute(replies.values(is_reply=True, in_reply_to_id=liked))
            db.session.commit()
        self._flask("counters", "check", "--repair")
        readers = {follows: self._reader(follows) for follows in FOLLOWS}
        with self.app.app_context(), db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            is_postgresql = connection.dialect.name == "postgresql"
            connection.exec_driver_sql("VACUUM ANALYZE" if is_postgresql else "ANALYZE")
        lists: dict[str, tuple[str, dict[str, str]]] = {
            "posts": ("/posts?", {}),
            "a user's posts": (f"/users/{author}/posts?", {}),
            **{f"feed of {follows:,}": ("/feed?", headers) for follows, headers in readers.items()},
            "replies": (f"/posts/{liked}/replies?", {}),
            "likes": (f"/posts/{liked}/likes?", {}),
            "followers": (f"/users/{followed}/followers?", {}),
            "search, rare word": ("/posts?q=zeppelin&", {}),
            "search, common word": ("/posts?q=the&", {}),
            "tag": (f"/posts?tag={tag}&", {}),
        }
        self.pages = {name: self._pages(*address) for name, address in lists.items()}

    def get(self, url: str, headers: dict[str, str]) -> dict[str, Any]:
        """Return the JSON at a URL."""
        response = self.client.get(API_PREFIX + url, headers=headers)
        if response.status_code != 200:
            raise SystemExit(response.text)
        content: dict[str, Any] = response.get_json()
        return content

    def measure_time(self, page: Page) -> None:
        """Request a page once, and record the time."""
        begin = perf_counter()
        self.get(page.url, page.headers)
        page.times.append(perf_counter() - begin)

    def measure_work(self, page: Page) -> None:
        """Request a page once, and record the work of the database."""
        with self.app.app_context():
            engine = db.engine
        page.work = (
            self._instructions(engine, page)
            if engine.dialect.name == "sqlite"
            else self._rows_read(engine, page)
        )

    def _instructions(self, engine: Any, page: Page) -> int:
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
        self.get(page.url, page.headers)
        event.remove(engine, "checkout", watch)
        event.remove(engine, "checkin", unwatch)
        return count

    def _rows_read(self, engine: Any, page: Page) -> float:
        with recorded_statements(self.app) as statements:
            self.get(page.url, page.headers)
        explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)"
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            plans = [driver.execute(f"{explain} {one.text}", one.parameters) for one in statements]
            return sum(_rows_read_by(plan.fetchone()[0][0]["Plan"]) for plan in plans)

    def _flask(self, *arguments: str) -> None:
        result = self.app.test_cli_runner().invoke(args=arguments)
        if result.exit_code:
            raise SystemExit(result.output) from result.exception

    def _reader(self, follows: int) -> dict[str, str]:
        """Register a user with this many follows; return the headers of the user's requests."""
        name = f"reader{follows}"
        sent = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        user: Any = self.client.post(f"{API_PREFIX}/users", json=sent).get_json()
        tokens: Any = self.client.post(f"{API_PREFIX}/tokens", auth=(name, PASSWORD)).get_json()
        if follows == FEW_FOLLOWS:
            followed = select(User.id).where(User.post_count.between(4, 6))
        else:
            followed = select(Follow.followed_id).group_by(Follow.followed_id).order_by(func.min(Follow.id))
        with self.app.app_context():
            followed_ids = db.session.scalars(followed.limit(follows)).all()
            rows = [
                {"follower_id": user["id"], "followed_id": followed_id, "created_at": utc_now()}
                for followed_id in followed_ids
            ]
            db.session.execute(insert(Follow), rows)
            db.session.commit()
        return {"Authorization": f"Bearer {tokens['access_token']}"}

    def _pages(self, url: str, headers: dict[str, str]) -> tuple[Page, Page]:
        """Return the first page of a list, and a deep one."""
        cursors: list[str] = []
        for limit in (100, 10):
            if len(cursors) < 2:
                cursors = list(self._cursors(url, headers, limit))
        is_shallow = 100 * len(cursors) < DEPTH
        cursor = cursors[(len(cursors) - 1) // 2] if is_shallow else cursors[-1]
        return Page(url, headers), Page(f"{url}cursor={cursor}", headers, is_shallow)

    def _cursors(self, url: str, headers: dict[str, str], limit: int) -> Iterator[str]:
        """Follow the pages of a list down to DEPTH, and yield their cursors."""
        page = self.get(f"{url}limit={limit}", headers)
        for _ in range(DEPTH // limit):
            if page["next_cursor"] is None:
                return
            yield page["next_cursor"]
            page = self.get(f"{url}limit={limit}&cursor={page['next_cursor']}", headers)


@click.command()
@click.argument("kind", type=click.Choice(list(DATABASES)), default="sqlite")
@click.option("--sizes", default="10000,100000,1000000", show_default=True)
def main(kind: str, sizes: str) -> None:
    """Create a database of each size, then measure each list on all of them in turn."""
    logging.disable()
    with running_database(kind) as database, Path(os.devnull).open("w") as nowhere:
        services: dict[int, Service] = {}
        for size in map(int, sizes.split(",")):
            click.echo(f"Inserting {size:,} posts.", err=True)
            with redirect_stdout(nowhere):
                services[size] = Service(database.create(f"posts_{size}"), size)
        with redirect_stdout(nowhere):
            # Each page is measured on all databases in turn, so that other load on the machine affects all.
            for name, number in product(next(iter(services.values())).pages, (0, 1)):
                for _ in range(WARM_UP + ROUNDS):
                    for service in services.values():
                        service.measure_time(service.pages[name][number])
                for service in services.values():
                    service.measure_work(service.pages[name][number])
        for service in services.values():
            with service.app.app_context():
                db.engine.dispose()
    print(_table({size: service.pages for size, service in services.items()}))


def _first(statement: Any) -> Any:
    return db.session.scalars(statement.limit(1)).one()


def _rows_read_by(plan: dict[str, Any]) -> float:
    """Return the rows and index entries that a plan and its children read, including those filtered out."""
    read = sum(_rows_read_by(child) for child in plan.get("Plans", ()))
    if "Relation Name" in plan or "Index Name" in plan:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        read += (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return read


def _table(pages: dict[int, dict[str, tuple[Page, Page]]]) -> str:
    """Return a table in Markdown."""
    smallest, largest = min(pages), max(pages)
    titles = ["list"]
    titles += [f"{size:,} posts: {which}" for size in pages for which in ("first", "deep")]
    titles += ["growth of time, first/deep", "growth of work, first/deep"]
    lines = [titles, ["---"] * len(titles)]
    for name in pages[smallest]:
        cells = [str(page) for lists in pages.values() for page in lists[name]]
        ends = list(zip(pages[smallest][name], pages[largest][name], strict=True))
        times = [large.milliseconds / small.milliseconds for small, large in ends]
        works = [large.work / small.work for small, large in ends]
        growths = [" / ".join(f"{ratio:.2f}" for ratio in ratios) for ratios in (times, works)]
        lines.append([name, *cells, *growths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
