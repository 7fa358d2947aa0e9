"""Kills the service under write load, and compares the database with the acknowledged writes.

Run: .venv/bin/python -m benchmarks.durability [sqlite|postgresql] [--rounds 50]

Eight writers publish, edit, delete, like and follow. At a random time SIGKILL ends all processes of the
service, on PostgreSQL in turn also those of the database, or those of the database alone. After the restart
each writer repeats the request that was not answered; a request that publishes has an `Idempotency-Key`. Then
every acknowledged write must be in the database, once, and the counters and the integrity checks must be
right. Prints a table with the sums of the rounds, and exits with 1 if a round has a fault.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from signal import SIGKILL
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from uuid import uuid4

import click
from sqlalchemy import (
    Connection,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
    create_engine,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.orm import aliased
from werkzeug.datastructures import Authorization

from api.config import API_PREFIX
from api.db import db
from api.models import Follow, Like, Post, User
from benchmarks.servers import DATABASES, SETTINGS, Database, PostgreSQL, running_database
from tests.support.factories import PASSWORD
from tests.support.processes import ModuleProcess
from tests.support.server import Server, migrate, running_server
from tests.support.wait import wait_until

SERVICE, DATABASE = "service", "database"
# The processes that are killed, in turn.
VICTIMS = {
    "sqlite": [{SERVICE}],
    "postgresql": [{SERVICE}, {SERVICE, DATABASE}, {DATABASE}],
}
WRITERS = 8
# How many writes are acknowledged before the processes are killed.
WRITES = 20, 200
# Hashing a password, which happens before the first round only, need not cost much.
SERVICE_SETTINGS = {**SETTINGS, "WORKERS": "2", "PASSWORD_HASH_MEMORY": "8", "PASSWORD_HASH_TIME": "1"}
Follower = aliased(User)


class UnansweredError(Exception):
    """A request got no response, or one that asks to repeat it."""


@dataclass
class Write:
    """A request that writes, the status of its response, and its effect on what the writer remembers."""

    method: str
    path: str
    status: int
    remember: Callable[[Any], object]
    json: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    is_repeated: bool = False


class Writer:
    """A user who sends one write after the other, and remembers those that were acknowledged."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self.posts: dict[int, str] = {}
        self.liked: set[int] = set()
        self.followed: set[str] = set()
        # The number of acknowledged writes, and of repetitions that found that the first request had taken
        # effect.
        self.acknowledged = self.replayed = 0
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        server.send("POST", f"{API_PREFIX}/users", json=account)
        basic = Authorization("basic", {"username": name, "password": PASSWORD}).to_header()
        _, _, tokens = server.send("POST", f"{API_PREFIX}/tokens", {"Authorization": basic})
        self._bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        self._pending: Write | None = self._publish()
        self.send_pending(server)
        # All writers like this post and reply to it; it is not deleted.
        [self.pinned_id] = self.posts

    def write(self, server: Server, writers: Sequence["Writer"]) -> None:
        """Write until a request is not answered, which is then pending."""
        try:
            while True:
                self._pending = self._next(random.choice(writers))
                self.send_pending(server)
        except UnansweredError:
            return

    def send_pending(self, server: Server) -> None:
        """Send the pending write, if there is one. Raises UnansweredError."""
        write = self._pending
        if write is None:
            return
        was_sent, write.is_repeated = write.is_repeated, True
        try:
            status, headers, content = server.send(
                write.method, write.path, self._bearer | write.headers, write.json
            )
        except (OSError, HTTPException) as error:
            raise UnansweredError from error
        if status == 503 or (status == 409 and content["code"] == "in_progress"):
            raise UnansweredError(content)
        was_deleted = was_sent and write.method == "DELETE" and status == 404
        if status != write.status and not was_deleted:
            raise RuntimeError(f"{write.method} {write.path}: {status} {content}")
        write.remember(content)
        self.acknowledged += 1
        self.replayed += was_deleted or "Idempotency-Replayed" in headers
        self._pending = None

    def _next(self, other: "Writer") -> Write:
        """Choose a write at random, which may concern another writer."""
        kinds: list[Callable[[], Write]] = [
            self._publish,
            lambda: self._publish(other.pinned_id),
            lambda: self._toggle(self.liked, other.pinned_id, f"/me/likes/{other.pinned_id}"),
        ]
        if other is not self:
            kinds.append(lambda: self._toggle(self.followed, other.name, f"/me/following/{other.name}"))
        if own := self.posts.keys() - {self.pinned_id}:
            post_id = random.choice(list(own))
            kinds += [lambda: self._edit(post_id), lambda: self._delete(post_id)]
        return random.choice(kinds)()

    def _publish(self, in_reply_to_id: int | None = None) -> Write:
        body = f"{uuid4()} by @{self.name} #garden"
        reply = {"in_reply_to_id": in_reply_to_id} if in_reply_to_id else {}
        return Write(
            "POST",
            f"{API_PREFIX}/posts",
            201,
            lambda post: self.posts.update({post["id"]: body}),
            {"body": body, **reply},
            {"Idempotency-Key": str(uuid4())},
        )

    def _edit(self, post_id: int) -> Write:
        body = f"{uuid4()} #snow"
        path = f"{API_PREFIX}/posts/{post_id}"
        return Write("PATCH", path, 200, lambda _: self.posts.update({post_id: body}), {"body": body})

    def _delete(self, post_id: int) -> Write:
        return Write("DELETE", f"{API_PREFIX}/posts/{post_id}", 204, lambda _: self.posts.pop(post_id))

    def _toggle(self, members: set[Any], member: object, path: str) -> Write:
        """Like or follow or, if the writer does so already, stop it."""
        if member in members:
            return Write("DELETE", API_PREFIX + path, 204, lambda _: members.remove(member))
        return Write("PUT", API_PREFIX + path, 204, lambda _: members.add(member))


@dataclass(frozen=True)
class Round:
    """The outcome of a round."""

    acknowledged: int
    replayed: int
    # From the start of the service or, if it was running, of the database, to the first write.
    seconds: float
    faults: list[str]


class Trial:
    """The running service, its database, and writers who write to it in each round."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self.url = database.create("durability")
        migrate(self.url)
        self._running = ExitStack()
        self._start()
        self._writers = [Writer(self._server, f"writer{number}") for number in range(WRITERS)]

    def run(self, victims: set[str]) -> Round:
        """Write, kill processes, start them again, repeat what was not answered, and look for faults."""
        replayed = self._sum("replayed")
        acknowledged = self._write(victims)
        if isinstance(self._database, PostgreSQL) and DATABASE in victims:
            self._database.start()
        began = perf_counter()
        if SERVICE in victims:
            self.close()
            self._start()
        seconds = []
        for writer in self._writers:
            wait_until(partial(writer.send_pending, self._server), UnansweredError)
            seconds.append(perf_counter() - began)
        replayed = self._sum("replayed") - replayed
        return Round(acknowledged, replayed, seconds[0], list(self.faults()))

    def close(self) -> None:
        """Stop the service."""
        self._running.close()

    def _start(self) -> None:
        service = running_server(self._folder, DATABASE_URL=self.url, **SERVICE_SETTINGS)
        self._server = self._running.enter_context(service)

    def _sum(self, name: str) -> int:
        return sum(getattr(writer, name) for writer in self._writers)

    def _write(self, victims: set[str]) -> int:
        """Write until the victims are killed; return how many writes were acknowledged."""
        before = self._sum("acknowledged")
        enough = before + random.randint(*WRITES)

        def assert_enough() -> None:
            assert self._sum("acknowledged") >= enough or any(one.done() for one in writing)

        with ThreadPoolExecutor(WRITERS) as threads:
            writing = [threads.submit(writer.write, self._server, self._writers) for writer in self._writers]
            wait_until(assert_enough)
            if SERVICE in victims:
                os.killpg(self._server.pid, SIGKILL)
            if isinstance(self._database, PostgreSQL) and DATABASE in victims:
                self._database.kill()
        for one in writing:
            one.result()
        return self._sum("acknowledged") - before

    def faults(self) -> Iterator[str]:
        """Compare the database with what the writers remember, and check its integrity."""
        engine = create_engine(self.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            yield from differences(connection, self._writers)
            yield from violations(connection)
        engine.dispose()
        environment = {**os.environ, **SERVICE_SETTINGS, "DATABASE_URL": self.url}
        counters = ModuleProcess(
            "flask", "counters", "check", environment=environment, log=self._folder / "counters.log"
        )
        counters.start()
        if counters.end():
            yield from (line for line in counters.lines() if not line.endswith(": 0 wrong"))


def differences(connection: Connection, writers: Sequence[Writer]) -> Iterator[str]:
    """Compare the rows with what the writers remember."""
    posts = select(User.username, Post.id, Post.body).join(Post, Post.user_id == User.id)
    likes = select(User.username, Like.post_id).join(Like, Like.user_id == User.id)
    follows = (
        select(Follower.username, User.username)
        .join(Follow, Follow.follower_id == Follower.id)
        .join(User, Follow.followed_id == User.id)
    )
    for query, remembered in (
        (posts, [(writer.name, *post) for writer in writers for post in writer.posts.items()]),
        (likes, [(writer.name, post_id) for writer in writers for post_id in writer.liked]),
        (follows, [(writer.name, name) for writer in writers for name in writer.followed]),
    ):
        found, expected = Counter(map(tuple, connection.execute(query))), Counter(remembered)
        yield from (f"lost: {row}" for row in expected - found)
        yield from (f"not acknowledged: {row}" for row in found - expected)


def violations(connection: Connection) -> Iterator[str]:
    """Check the integrity of the database.

    On PostgreSQL, whose extension amcheck the embedded server lacks, keys are compared without indexes, as an
    index may be what is damaged. Reading a table verifies the checksums of its pages.
    """
    if connection.dialect.name == "sqlite":
        for check, good in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
            found = [tuple(row) for row in connection.execute(text(f"PRAGMA {check}"))]
            yield from (f"{check}: {row}" for row in found if found != good)
        return
    for scan in ("indexscan", "indexonlyscan", "bitmapscan"):
        connection.execute(text(f"SET enable_{scan} = off"))
    for table in db.metadata.sorted_tables:
        for constraint in table.constraints:
            columns = list(getattr(constraint, "columns", ()))
            rows = select(*columns).where(*(column.is_not(None) for column in columns))
            if isinstance(constraint, ForeignKeyConstraint):
                [key] = constraint.elements
                parent = key.column.table.alias()
                rows = rows.where(~exists().where(parent.c[key.column.name] == key.parent))
            elif isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
                rows = rows.group_by(*columns).having(func.count() > 1)
            else:
                continue
            yield from (f"{constraint.name}: {tuple(row)}" for row in connection.execute(rows))


@click.command()
@click.argument("kind", default="sqlite", type=click.Choice(list(DATABASES)))
@click.option("--rounds", default=50, show_default=True)
def main(kind: str, rounds: int) -> None:
    """Run the rounds, and print the table."""
    outcomes: dict[str, list[Round]] = {}
    with (
        running_database(kind) as database,
        TemporaryDirectory() as folder,
        closing(Trial(database, Path(folder))) as trial,
    ):
        for number in range(rounds):
            victims = VICTIMS[kind][number % len(VICTIMS[kind])]
            outcome = trial.run(victims)
            outcomes.setdefault(" and ".join(sorted(victims, reverse=True)), []).append(outcome)
            for fault in outcome.faults:
                print(f"Round {number + 1}: {fault}", flush=True)
    print(
        "| killed | rounds | acknowledged writes | repeated | had taken effect | faults | seconds | at most |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, some in outcomes.items():
        sums = [len(some), sum(one.acknowledged for one in some), len(some) * WRITERS]
        sums += [sum(one.replayed for one in some), sum(len(one.faults) for one in some)]
        seconds = [one.seconds for one in some]
        cells = [name, *map(str, sums), f"{median(seconds):.1f}", f"{max(seconds):.1f}"]
        print(f"| {' | '.join(cells)} |")
    raise SystemExit(any(one.faults for some in outcomes.values() for one in some))


if __name__ == "__main__":
    main()
