"""Simulates the feed of ten million users: computed on read, written for each follower, or both.

Run: .venv/bin/python -m benchmarks.feeds [--users 10000000] [--reads-per-post 65] [--folder FOLDER]

Draws the users of one day, and adds up what their posts and feed reads cost. The distributions are those of
published measurements:

- A tenth of the users post much, the others little. Posts a month, followed users, followers (medians), and
  the share who visit daily are those of Pew Research Center, "Sizing Up Twitter Users" (2019): 138, 456, 387
  and 81 %; 2, 74, 19 and 47 %. The tenth writes four fifths of all posts.
- Followers and followed users have a power law with the exponent 2.276 (Kwak, Lee, Park and Moon: "What is
  Twitter, a Social Network or a News Media?", WWW 2010).
- There are 65 feed reads for each post, and the busiest time has 2.6 times the mean (R. Krikorian, "Timelines
  at Scale", 2012: 300,000 reads, 4,600 posts, at most 12,000 posts a second).

Since every follow has two ends, followers are scaled until there are as many as followed users. Posts have a
log-normal distribution. With a folder of `benchmarks.lists`, the costs of rows are measured in the largest of
its databases on PostgreSQL; the default values were measured with a million posts.
"""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from random import Random
from typing import NamedTuple

import click
import psycopg

from benchmarks.servers import running_database

RANDOM_SEED = 1
EXPONENT = 2.276
# The largest share of all users that follow one user, before followers are scaled, and the most follows.
FOLLOWERS_SHARE, FOLLOWING_MAXIMUM = 0.1, 10_000
PEAK = 2.6
DAY, MONTH = 86_400, 30
PAGE = 21  # The posts of a page, and the one that tells whether others follow.
SCANNED = 1_000  # See `api.follows.queries`.
THRESHOLDS = [100, 1_000, 10_000, 100_000]
# To measure the costs of rows: their number, and how often. The least time is the one without other load.
SAMPLE, ROUNDS = 1_000, 200


class Group(NamedTuple):
    """Users who post much or little. Posts a month, follows and followers are medians."""

    share: float
    posts: float
    posts_sigma: float
    following: float
    followers: float
    visits: float


# The widths are chosen so that the first group writes four fifths of the posts.
GROUPS = [Group(0.1, 138, 0.7, 456, 387, 0.81), Group(0.9, 2, 1.3, 74, 19, 0.47)]


class Costs(NamedTuple):
    """The cost of a row in PostgreSQL: microseconds, and bytes that are read or written."""

    scanned: float = 0.26  # A row that is read next to the one before.
    found: float = 4.1  # The first row of an index range.
    written: float = 3.7  # A row of a stored feed with its index entry.
    bytes_scanned: float = 391
    bytes_found: float = 8_192  # A page of the index.
    bytes_written: float = 229  # In the write-ahead log.
    bytes_stored: float = 86


def measured_costs(url: str) -> Costs:
    """Measure the costs of rows in a database, which is left as it was."""
    newest = "SELECT id FROM posts WHERE user_id = chosen.id ORDER BY user_id DESC, id DESC LIMIT 1"
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction(force_rollback=True):

        def number(statement: str) -> float:
            return float(connection.execute(statement).fetchall()[0][0])

        def microseconds(statement: str) -> float:
            [(explained,)] = connection.execute(
                f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
            ).fetchall()
            return float(explained[0]["Execution Time"]) * 1_000 / SAMPLE

        def least(*statements: str) -> float:
            return min(map(microseconds, statements))

        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        connection.execute("SET LOCAL random_page_cost = 1")
        users = number("SELECT max(id) FROM users")
        every = max(1, int(users) // SAMPLE)
        chosen = f"SELECT id FROM users WHERE id % {every} = 0 LIMIT {SAMPLE}"
        connection.execute(f"CREATE TABLE chosen AS {chosen}")
        connection.execute(
            "CREATE TABLE stored (user_id bigint, post_id bigint, PRIMARY KEY (user_id, post_id))"
        )
        scan = f"SELECT sum(user_id) FROM (SELECT user_id FROM posts ORDER BY id DESC LIMIT {SAMPLE}) newest"
        look_up = f"SELECT count(newest.id) FROM chosen LEFT JOIN LATERAL ({newest}) newest ON true"
        scanned, found = least(*[scan] * ROUNDS), least(*[look_up] * ROUNDS)
        position = number("SELECT pg_current_wal_insert_lsn() - '0/0'")
        store = "INSERT INTO stored SELECT id, {} FROM chosen"
        written = least(*(store.format(post_id) for post_id in range(ROUNDS)))
        logged = number("SELECT pg_current_wal_insert_lsn() - '0/0'") - position
        return Costs(
            scanned=scanned,
            found=found,
            written=written,
            bytes_scanned=number(
                "SELECT pg_relation_size(oid) / reltuples FROM pg_class WHERE oid = 'posts'::regclass"
            ),
            bytes_written=logged / ROUNDS / SAMPLE,
            bytes_stored=number("SELECT pg_total_relation_size('stored')") / ROUNDS / SAMPLE,
        )


@dataclass
class Load:
    """The rows of one day."""

    scanned: float = 0
    found: float = 0
    written: float = 0

    def processors(self, costs: Costs) -> float:
        """Return how many processors are busy on average."""
        microseconds = self.scanned * costs.scanned + self.found * costs.found + self.written * costs.written
        return microseconds / 1e6 / DAY


class Users:
    """Users, and what they do on one day."""

    def __init__(self, users: int, reads_per_post: float) -> None:
        random = Random(RANDOM_SEED)
        self.following, self.followers = array("d"), array("d")
        self.posts, self.reads = array("d"), array("d")
        tail = -1 / (EXPONENT - 1)
        # The median of a power law, relative to its minimum.
        median = 2**-tail
        most_followers = FOLLOWERS_SHARE * users
        for _ in range(users):
            group = GROUPS[random.random() >= GROUPS[0].share]
            following = group.following / median * (1 - random.random()) ** tail
            followers = group.followers / median * (1 - random.random()) ** tail
            self.following.append(min(following, FOLLOWING_MAXIMUM, users - 1))
            self.followers.append(min(followers, most_followers))
            self.posts.append(group.posts / MONTH * math.exp(random.gauss(0, group.posts_sigma)))
            self.reads.append(random.expovariate(1) if random.random() < group.visits else 0.0)
        self.post_count = sum(self.posts)
        self.follow_count = sum(self.following)
        self.followers = _scaled(self.followers, self.follow_count)
        self.reads = _scaled(self.reads, reads_per_post * self.post_count)
        self.read_count = sum(self.reads)
        # Stored entries of one day, and how many of them a user receives for each followed user.
        self.entries = self._entries(math.inf)
        self.entries_per_follow = self.entries / self.follow_count

    def _entries(self, threshold: float) -> float:
        """Return for how many followers posts are stored, of authors with few followers."""
        pairs = zip(self.posts, self.followers, strict=True)
        return sum(posts * followers for posts, followers in pairs if followers <= threshold)

    def computed_on_read(self) -> Load:
        """Return the rows of the feed as the service computes it."""
        load = Load()
        for following, reads in zip(self.following, self.reads, strict=True):
            share = following * self.entries_per_follow / self.post_count
            is_filled = share * SCANNED > PAGE
            load.scanned += reads * (following + (PAGE / share if is_filled else SCANNED))
            load.found += reads * (2 * PAGE + (0 if is_filled else following + PAGE))
        return load

    def stored(self, threshold: float = math.inf) -> Load:
        """Return the rows if posts are stored for each follower of an author who has at most so many.

        The posts of other authors are found when the feed is read.
        """
        popular = sum(followers for followers in self.followers if followers > threshold)
        looked_up = sum(map(mul, self.following, self.reads)) * popular / self.follow_count
        return Load(
            scanned=self.read_count * PAGE + looked_up,
            found=self.read_count * 2 * PAGE + looked_up,
            written=self._entries(threshold),
        )

    def share_never_read(self) -> float:
        """Return the share of stored entries that are on none of the pages that their reader requests."""
        pairs = zip(self.following, self.reads, strict=True)
        unread = (
            max(0, following * self.entries_per_follow - (PAGE - 1) * reads) for following, reads in pairs
        )
        return sum(unread) / self.entries

    def followers_above(self, threshold: float) -> tuple[int, float]:
        """Return how many users have more followers, and their share of all follows."""
        above = [followers for followers in self.followers if followers > threshold]
        return len(above), sum(above) / self.follow_count


def crossing(users: Users, costs: Costs) -> float:
    """Return the reads per post from which a stored feed takes less processor time than a computed one."""
    computed, stored = users.computed_on_read(), users.stored()
    saved = computed.processors(costs) - (
        stored.processors(costs) - Load(written=stored.written).processors(costs)
    )
    return Load(written=stored.written).processors(costs) / (saved / users.read_count) / users.post_count


def _scaled(values: Iterable[float], total: float) -> "array[float]":
    values = array("d", values)
    factor = total / sum(values)
    return array("d", (value * factor for value in values))


@click.command()
@click.option("--users", "number", default=10_000_000, show_default=True)
@click.option("--reads-per-post", default=65.0, show_default=True)
@click.option("--folder", type=click.Path(exists=True, path_type=Path), help="Measure in a database here.")
@click.option("--size", default=10_000_000, show_default=True, help="The number of posts of that database.")
def main(number: int, reads_per_post: float, folder: Path | None, size: int) -> None:
    """Print the tables of docs/scaling.md."""
    costs = Costs()
    if folder:
        with running_database("postgresql", folder) as database:
            costs = measured_costs(database.url(f"posts_{size}").replace("+psycopg", ""))
    print(f"{costs}\n")
    users = Users(number, reads_per_post)
    per_second = [users.post_count / DAY, users.read_count / DAY, users.entries / DAY]
    print(f"| of {number:,} users | a day | a second | at most |\n| --- | ---: | ---: | ---: |")
    for name, rate in zip(("posts", "feed reads", "entries of stored feeds"), per_second, strict=True):
        print(f"| {name} | {rate * DAY:,.0f} | {rate:,.0f} | {rate * PEAK:,.0f} |")
    print(f"\nFollows: {users.follow_count:,.0f}. Most followers: {max(users.followers):,.0f}.")
    print(f"Stored entries take {users.entries * costs.bytes_stored / 1e9:,.0f} GB a day.")
    print(f"Entries that are never read: {users.share_never_read():.0%}.")
    print(f"Stored takes less time from {crossing(users, costs):.1f} reads per post.\n")
    print("| feed | authors above | rows read | rows written | TB read | TB written | processors |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(_row("computed on read", "", users.computed_on_read(), costs))
    print(_row("stored", "", users.stored(), costs))
    for threshold in THRESHOLDS:
        authors, share = users.followers_above(threshold)
        name = f"stored up to {threshold:,} followers"
        print(_row(name, f"{authors:,} ({share:.0%} of follows)", users.stored(threshold), costs))


def _row(name: str, authors: str, load: Load, costs: Costs) -> str:
    read = (load.scanned * costs.bytes_scanned + load.found * costs.bytes_found) / 1e12
    written = load.written * costs.bytes_written / 1e12
    rows = f"{(load.scanned + load.found) / 1e9:,.1f} bn | {load.written / 1e9:,.2f} bn"
    processors = load.processors(costs)
    return f"| {name} | {authors} | {rows} | {read:,.0f} | {written:,.2f} | {processors:,.1f} |"


if __name__ == "__main__":
    main()
