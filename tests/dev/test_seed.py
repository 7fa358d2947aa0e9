"""`flask seed` inserts rows in bulk that equal those that requests insert."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Select, delete, select, text

from api.db import db, utc_now
from api.db.search_text import words_of
from api.dev.seed import analyze, seed
from api.models import Entity, Follow, Like, Post, User
from api.posts.entities import entities_in
from api.posts.schemas import PostCreateSchema
from api.users.schemas import UserCreateSchema
from tests.conftest import DATABASES
from tests.support.contract import ContractClient
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.factories import PASSWORD, Factory
from tests.support.pagination import read_both_ways
from tests.support.wait import wait_until

SMALL = {"users": 30, "posts": 250, "follows": 80, "likes": 300}
NOTHING = {"users": 0, "posts": 0, "follows": 0, "likes": 0}
AMOUNTS = [
    pytest.param(SMALL, id="some"),
    pytest.param(NOTHING, id="nothing"),
    pytest.param({**SMALL, "posts": 0, "likes": 0}, id="no posts"),
    pytest.param({**SMALL, "follows": 0}, id="no follows"),
    pytest.param({**SMALL, "likes": 0}, id="no likes"),
    pytest.param({**NOTHING, "users": 1, "posts": 3, "likes": 3}, id="one user"),
    pytest.param({**NOTHING, "users": 1, "posts": 1}, id="one post"),
    pytest.param({"users": 5, "posts": 7, "follows": 20, "likes": 35}, id="as many as possible"),
    pytest.param(
        {"users": 60, "posts": 60, "follows": 3_540, "likes": 3_600}, id="as many as possible of many"
    ),
]
DEFAULTS = [
    pytest.param(30, 40, {"follows": 435, "likes": 80}, id="many"),
    pytest.param(50, 20, {"follows": 1_000, "likes": 40}, id="more users"),
    pytest.param(2, 5, {"follows": 1, "likes": 5}, id="few"),
    pytest.param(1, 1, {"follows": 0, "likes": 0}, id="one"),
    pytest.param(1, 200, {"follows": 0, "likes": 100}, id="one with posts"),
    pytest.param(3, 0, {"follows": 3, "likes": 0}, id="no posts"),
    pytest.param(0, 0, {"follows": 0, "likes": 0}, id="none"),
]
# The number of posts that the query planner assumes.
PLANNER_STATISTICS = {
    "sqlite": "SELECT DISTINCT CAST(stat AS integer) FROM sqlite_stat1 WHERE tbl = 'posts'",
    "postgresql": "SELECT CAST(reltuples AS integer) FROM pg_class WHERE relname = 'posts'",
}
IMPOSSIBLE = [
    pytest.param({"users": 3, "follows": 7}, "3 users cannot follow each other 7 times.", id="follows"),
    pytest.param(
        {"users": 0, "follows": 1}, "0 users cannot follow each other 1 times.", id="follows without users"
    ),
    pytest.param({"users": 0, "posts": 1}, "Posts need at least one user.", id="posts without users"),
    pytest.param({"users": 3, "posts": 5, "likes": 16}, "3 users cannot like 5 posts 16 times.", id="likes"),
]


@pytest.fixture(scope="module", params=DATABASES)
def migrated_app(
    request: pytest.FixtureRequest, shared_app: Callable[..., Flask], new_migrated_database_url: Any
) -> Flask:
    """An application on a separate database, because the planner's statistics outlive the rows."""
    return shared_app(new_migrated_database_url(request.param))


@pytest.fixture
def seeded(app: Flask) -> Flask:
    """The application on a small seeded database."""
    assert run(app, SMALL).exit_code == 0
    return app


def rows_of(app: Flask, statement: Select[*tuple[Any, ...]]) -> list[Any]:
    """Return the rows that a statement selects."""
    with app.app_context():
        return list(db.session.execute(statement).all())


def run(app: Flask, amounts: dict[str, int], *options: str) -> Result:
    """Run `flask seed`."""
    numbers = [f"--{name}={number}" for name, number in {**NOTHING, **amounts}.items()]
    return app.test_cli_runner().invoke(args=["seed", *numbers, *options])


def amounts_in(app: Flask) -> dict[str, int]:
    """Count the rows of each table that is seeded."""
    with app.app_context():
        models: list[Any] = [User, Post, Follow, Like]
        return {model.__tablename__: len(db.session.scalars(select(model.id)).all()) for model in models}


def counters_are_right(app: Flask) -> bool:
    """Run `flask counters check`."""
    return app.test_cli_runner().invoke(args=["counters", "check"]).exit_code == 0


def delete_users(app: Flask) -> None:
    """Delete all users, and with them everything else."""
    with app.app_context():
        db.session.execute(delete(User))
        db.session.commit()


def content_of(app: Flask) -> list[Any]:
    """Return the contents of each table, without ids and password hashes."""
    with app.app_context():
        users = {user.id: user for user in db.session.scalars(select(User).order_by(User.id))}
        posts = {post.id: post for post in db.session.scalars(select(Post).order_by(Post.id))}
        follows = db.session.scalars(select(Follow).order_by(Follow.id)).all()
        likes = db.session.scalars(select(Like).order_by(Like.id)).all()
        return [
            [(user.username, user.email, user.about, user.created_at) for user in users.values()],
            [
                (post.body, post.timestamp, users[post.user_id].username, post.in_reply_to_id is None)
                for post in posts.values()
            ],
            [
                posts[post.in_reply_to_id].timestamp
                for post in posts.values()
                if post.in_reply_to_id is not None
            ],
            [
                (users[follow.follower_id].username, users[follow.followed_id].username, follow.created_at)
                for follow in follows
            ],
            [
                (users[like.user_id].username, posts[like.post_id].timestamp, like.created_at)
                for like in likes
            ],
        ]


def listed(client: ContractClient, path: str, **query: str) -> list[Any]:
    """Return all items of a list."""
    forth, _ = read_both_ways(client, path, 100, {}, **query)
    return [item for page in forth for item in page["items"]]


class TestSeed:
    @pytest.mark.parametrize("amounts", AMOUNTS)
    def test_inserts_the_given_numbers_of_rows_and_correct_counters(
        self, app: Flask, amounts: dict[str, int]
    ) -> None:
        result = run(app, amounts)

        assert result.exit_code == 0
        assert amounts_in(app) == amounts
        assert counters_are_right(app)

    @on_sqlite
    @pytest.mark.parametrize(("users", "posts", "expected"), DEFAULTS)
    def test_derives_follows_and_likes_from_users_and_posts(
        self, app: Flask, users: int, posts: int, expected: dict[str, int]
    ) -> None:
        result = app.test_cli_runner().invoke(args=["seed", f"--users={users}", f"--posts={posts}"])

        assert result.exit_code == 0
        assert amounts_in(app) == {"users": users, "posts": posts, **expected}

    def test_inserts_the_same_rows_for_the_same_options(self, app: Flask) -> None:
        contents = []
        for options in ([], ["--random-seed=1"], ["--random-seed=2"]):
            run(app, SMALL, *options)
            contents.append(content_of(app))
            delete_users(app)

        first, same, other = contents
        assert same == first
        assert all(table != other_table for table, other_table in zip(first, other, strict=True))

    def test_inserts_users_that_the_api_accepts(self, seeded: Flask, client: ContractClient) -> None:
        for name, email, about in rows_of(seeded, select(User.username, User.email, User.about)):
            sent = {"username": name, "email": email, "about": about, "password": PASSWORD}
            assert UserCreateSchema().load(sent) == sent

        assert len(listed(client, "/users")) == SMALL["users"]

    @pytest.mark.usefixtures("seeded")
    def test_inserts_posts_that_the_api_accepts(self, client: ContractClient) -> None:
        posts = listed(client, "/posts")

        assert len(posts) == SMALL["posts"]
        for post in posts:
            assert PostCreateSchema().load({"body": post["body"]}) == {"body": post["body"]}

    def test_dates_rows_in_the_past_year_in_the_order_of_their_ids(self, seeded: Flask) -> None:
        users, posts, follows, likes = (
            [time for (time,) in rows_of(seeded, select(time).order_by(model.id))]
            for model, time in (
                (User, User.created_at),
                (Post, Post.timestamp),
                (Follow, Follow.created_at),
                (Like, Like.created_at),
            )
        )

        assert utc_now() - timedelta(days=367) < users[0] < users[-1] < min(posts[0], follows[0])
        for times in (users, posts, follows, likes):
            assert times == sorted(times)
            assert times[-1] < utc_now()
        too_early = select(Like.id).join(Like.post).where(Like.created_at < Post.timestamp)
        assert rows_of(seeded, too_early) == []

    def test_inserts_replies_to_earlier_posts(self, seeded: Flask) -> None:
        posts = rows_of(seeded, select(Post.id, Post.is_reply, Post.in_reply_to_id).order_by(Post.id))

        first, _, _ = posts[0]
        replies = [post for post in posts if post.is_reply]
        assert 0 < len(replies) < len(posts) / 2
        assert all(first <= reply.in_reply_to_id < reply.id for reply in replies)
        assert {post.in_reply_to_id for post in posts if not post.is_reply} == {None}

    @pytest.mark.parametrize("counter", [User.post_count, User.follower_count, Post.like_count], ids=str)
    def test_distributes_posts_follows_and_likes_unevenly(self, seeded: Flask, counter: Any) -> None:
        counts = [count for (count,) in rows_of(seeded, select(counter))]

        assert max(counts) > 4 * sum(counts) / len(counts)

    def test_extracts_words_hashtags_and_mentions_like_requests(self, seeded: Flask) -> None:
        user_ids = {name: user_id for user_id, name in rows_of(seeded, select(User.id, User.username))}
        all_entities: list[dict[str, Any]] = []
        for post_id, body in rows_of(seeded, select(Post.id, Post.body)):
            columns = select(
                Entity.start, Entity.end, Entity.tag, Entity.user_id, Entity.url, Entity.is_repeat
            )
            stored = rows_of(seeded, columns.where(Entity.post_id == post_id).order_by(Entity.start))
            entities = [row._asdict() for row in stored]
            assert entities == entities_in(body, user_ids)
            same_words = select(Post.id).where(Post.id == post_id, Post.words == words_of(body))
            assert rows_of(seeded, same_words) == [(post_id,)]
            all_entities += entities

        kinds = {(entity["tag"] is None, entity["is_repeat"]) for entity in all_entities}
        assert kinds >= {(True, False), (False, False)}

    @pytest.mark.usefixtures("seeded")
    def test_inserts_a_rare_word(self, client: ContractClient) -> None:
        found = listed(client, "/posts", q="zeppelin")

        assert len(found) == 30
        assert all("zeppelin" in post["body"] for post in found)

    def test_enables_triggers_and_search_again(
        self, seeded: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("Ann-Marie")
        parent: Any = client.get("/posts?expand=counts").json["items"][0]
        sent = {"body": "Antidisestablishmentarianism", "in_reply_to_id": parent["id"]}

        reply: Any = client.post("/posts", json=sent, headers=ann.signed_in).json
        client.put(f"/me/likes/{parent['id']}", headers=ann.signed_in)
        client.put(f"/me/following/{parent['author']['username']}", headers=ann.signed_in)

        found = listed(client, "/posts", q="antidisestablishmentarianism")
        counts: Any = client.get(f"/posts/{parent['id']}?expand=counts").json["counts"]
        assert [post["id"] for post in found] == [reply["id"]]
        assert counts["like_count"] == parent["counts"]["like_count"] + 1
        assert counts["reply_count"] == parent["counts"]["reply_count"] + 1
        assert counters_are_right(seeded)

    def test_updates_the_planner_statistics(self, seeded: Flask) -> None:
        with seeded.app_context():
            statistics = text(PLANNER_STATISTICS[db.engine.dialect.name])
            known = db.session.execute(statistics).scalar_one()

        assert known == SMALL["posts"]

    def test_restores_triggers_on_rollback(self, app: Flask, make: Factory) -> None:
        post_id = make.post(make.user("ann"))
        options: Any = {**SMALL, "password_hash": "", "until": utc_now(), "random_seed": 1, "force": True}

        with app.app_context():
            seed(**options)
            db.session.rollback()

        make.like(make.user(), post_id)
        assert amounts_in(app) == {"users": 2, "posts": 1, "follows": 0, "likes": 1}
        with app.app_context():
            assert db.session.scalars(select(Post.like_count)).one() == 1

    def test_refuses_a_database_with_users(self, app: Flask, make: Factory) -> None:
        make.user()

        result = run(app, SMALL)

        assert result.exit_code == 1
        assert result.output == "Error: The database already has users. Use --force to add to them.\n"
        assert amounts_in(app) == {**NOTHING, "users": 1}

    def test_adds_other_users_with_force(self, app: Flask, make: Factory) -> None:
        run(app, SMALL)
        usernames = [username for (username,) in rows_of(app, select(User.username).order_by(User.id))]
        delete_users(app)
        for username in usernames[::2]:
            make.user(username.title())
        for username in usernames[1::2]:
            make.user(email=f"{username.upper()}@EXAMPLE.COM")

        results = [run(app, SMALL, "--force").exit_code for _ in range(2)]

        assert results == [0, 0]
        expected = {name: 2 * number for name, number in SMALL.items()}
        assert amounts_in(app) == {**expected, "users": 3 * SMALL["users"]}
        assert counters_are_right(app)

    @on_sqlite
    @pytest.mark.parametrize(("amounts", "reason"), IMPOSSIBLE)
    def test_refuses_impossible_numbers(self, app: Flask, amounts: dict[str, int], reason: str) -> None:
        result = run(app, amounts)

        assert (result.exit_code, result.output) == (1, f"Error: {reason}\n")
        assert amounts_in(app) == NOTHING

    @on_sqlite
    @pytest.mark.parametrize("name", NOTHING)
    @pytest.mark.parametrize("number", [-1, 10**7 + 1, 10**30])
    def test_refuses_numbers_out_of_range(self, app: Flask, name: str, number: int) -> None:
        result = run(app, {name: number})

        assert result.exit_code == 2
        assert result.output.endswith(f"{number} is not in the range 0<=x<=10000000.\n")

    @on_sqlite
    def test_refuses_posts_by_default_without_users(self, app: Flask) -> None:
        result = app.test_cli_runner().invoke(args=["seed", "--users=0"])

        assert (result.exit_code, result.output) == (1, "Error: Posts need at least one user.\n")

    @pytest.mark.parametrize("password", ["x", "cafe\u0301"], ids=["short", "decomposed"])
    def test_gives_all_users_the_password_option(
        self, app: Flask, client: ContractClient, password: str
    ) -> None:
        result = run(app, SMALL, "--password", password)

        assert result.output.splitlines()[-1] == f"All users have the password {password!r}."
        for user in listed(client, "/users")[:2]:
            assert client.post("/tokens", auth=(user["username"], password)).status_code == 200

    def test_creates_users_who_cannot_sign_in_without_the_password_option(
        self, seeded: Flask, client: ContractClient
    ) -> None:
        result = run(seeded, SMALL, "--force")

        last_line = result.output.splitlines()[-1]
        assert last_line == "No user can sign in, because --password is not set."
        username = listed(client, "/users")[0]["username"]
        for password in ("", "None"):
            assert client.post("/tokens", auth=(username, password)).status_code == 401


# A connection of the service waits for a lock for a second.
IS_WAITING_FOR_LONG = """
    SELECT FROM pg_stat_activity
    WHERE query = 'VACUUM ANALYZE' AND wait_event_type = 'Lock'
        AND clock_timestamp() - query_start > interval '1.1 seconds'
"""


@on_postgresql
def test_the_statistics_wait_for_a_vacuum_by_postgresql(app: Flask) -> None:
    def update_statistics() -> None:
        with app.app_context():
            analyze()

    def ensure_waiting() -> None:
        with app.app_context():
            assert analysis.done() or db.session.execute(text(IS_WAITING_FOR_LONG)).all()

    with ThreadPoolExecutor(1) as threads, app.app_context(), db.engine.connect() as vacuum:
        vacuum.execute(text("LOCK TABLE posts IN SHARE UPDATE EXCLUSIVE MODE"))
        analysis = threads.submit(update_statistics)
        wait_until(ensure_waiting)
        vacuum.rollback()

        assert analysis.exception() is None
