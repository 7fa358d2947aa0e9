"""`flask seed`: made-up rows in bulk, which are what requests could have written."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Select, select, text

from api.database import db, utc_now
from api.models import Entity, Follow, Like, Post, User
from api.posts.schemas import PostCreateSchema
from api.seed import seed
from api.story import NAMES
from api.text import Mark, marks_in, words_of
from api.users.schemas import UserCreateSchema
from tests.conftest import DATABASES, migrated
from tests.contract import ContractClient
from tests.factories import PASSWORD, Factory
from tests.walks import walk_both_ways

SMALL = {"users": 30, "posts": 250, "follows": 80, "likes": 300}
NOTHING = {"users": 0, "posts": 0, "follows": 0, "likes": 0}
AMOUNTS = [
    pytest.param(SMALL, id="some"),
    pytest.param(NOTHING, id="nothing"),
    pytest.param({**SMALL, "posts": 0, "likes": 0}, id="no posts"),
    pytest.param({**SMALL, "follows": 0}, id="no follows"),
    pytest.param({**SMALL, "likes": 0}, id="no likes"),
    pytest.param({**NOTHING, "users": 1, "posts": 3, "likes": 3}, id="one user"),
    pytest.param({**NOTHING, "users": 1, "posts": 1}, id="one post, without tag or mention"),
    pytest.param({"users": 5, "posts": 7, "follows": 20, "likes": 35}, id="all that is possible"),
]
# How many posts the planner takes there to be.
PLANNERS = {
    "sqlite": "SELECT DISTINCT CAST(stat AS integer) FROM sqlite_stat1 WHERE tbl = 'posts'",
    "postgresql": "SELECT CAST(reltuples AS integer) FROM pg_class WHERE relname = 'posts'",
}
IMPOSSIBLE = [
    pytest.param({"users": 3, "follows": 7}, "3 users cannot follow each other 7 times.", id="follows"),
    pytest.param(
        {"users": 0, "follows": 1}, "0 users cannot follow each other 1 times.", id="nobody follows"
    ),
    pytest.param({"users": 0, "posts": 1}, "Posts need users who write them.", id="posts"),
    pytest.param({"users": 3, "posts": 5, "likes": 16}, "3 users cannot like 5 posts 16 times.", id="likes"),
]


@pytest.fixture(scope="module", params=DATABASES)
def migrated_app(request: pytest.FixtureRequest, new_database_url: Any) -> Iterator[Flask]:
    """An application of its own: what the planner learns of these rows is not for other tests."""
    with migrated(new_database_url(request.param)) as app:
        yield app


@pytest.fixture
def seeded(app: Flask) -> Flask:
    """The application with a little in its database."""
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


def story(app: Flask) -> list[Any]:
    """Return what the rows say, apart from ids and the hash of the password."""
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
    forth, _ = walk_both_ways(client, path, 100, {}, **query)
    return [item for page in forth for item in page["items"]]


class TestSeed:
    @pytest.mark.parametrize("amounts", AMOUNTS)
    def test_writes_as_many_as_are_asked_for(self, app: Flask, amounts: dict[str, int]) -> None:
        result = run(app, amounts)

        assert result.exit_code == 0
        assert amounts_in(app) == amounts

    @pytest.mark.parametrize("amounts", AMOUNTS)
    def test_leaves_right_counters(self, app: Flask, amounts: dict[str, int]) -> None:
        run(app, amounts)

        assert app.test_cli_runner().invoke(args=["counters", "check"]).exit_code == 0

    def test_writes_the_same_for_the_same_options(self, app: Flask) -> None:
        stories = []
        for options in ([], ["--random-seed=1"], ["--random-seed=2"]):
            run(app, SMALL, *options)
            stories.append(story(app))
            with app.app_context():
                db.session.execute(db.delete(User))
                db.session.commit()

        first, same, other = stories
        assert same == first
        assert all(one != another for one, another in zip(first, other, strict=True))

    def test_makes_users_whom_the_api_would_take(self, seeded: Flask, client: ContractClient) -> None:
        for name, email, about in rows_of(seeded, select(User.username, User.email, User.about)):
            sent = {"username": name, "email": email, "about": about, "password": PASSWORD}
            assert UserCreateSchema().load(sent) == sent

        assert len(listed(client, "/users")) == SMALL["users"]

    @pytest.mark.usefixtures("seeded")
    def test_makes_posts_that_the_api_would_take(self, client: ContractClient) -> None:
        posts = listed(client, "/posts")

        assert len(posts) == SMALL["posts"]
        for post in posts:
            assert PostCreateSchema().load({"body": post["body"]}) == {"body": post["body"]}

    def test_lets_time_pass(self, seeded: Flask) -> None:
        users, posts, follows, likes = (
            [moment for (moment,) in rows_of(seeded, select(moment).order_by(model.id))]
            for model, moment in (
                (User, User.created_at),
                (Post, Post.timestamp),
                (Follow, Follow.created_at),
                (Like, Like.created_at),
            )
        )

        assert utc_now() - timedelta(days=367) < users[0] < users[-1] < min(posts[0], follows[0])
        for moments in (users, posts, follows, likes):
            assert moments == sorted(moments)
            assert moments[-1] < utc_now()
        too_early = select(Like.id).join(Like.post).where(Like.created_at < Post.timestamp)
        assert rows_of(seeded, too_early) == []

    def test_lets_people_answer_what_was_there(self, seeded: Flask) -> None:
        posts = rows_of(seeded, select(Post.id, Post.is_reply, Post.in_reply_to_id).order_by(Post.id))

        first, _, _ = posts[0]
        replies = [post for post in posts if post.is_reply]
        assert 0 < len(replies) < len(posts) / 2
        assert all(first <= reply.in_reply_to_id < reply.id for reply in replies)
        assert {post.in_reply_to_id for post in posts if not post.is_reply} == {None}

    @pytest.mark.parametrize("counter", [User.post_count, User.follower_count, Post.like_count], ids=str)
    def test_is_uneven(self, seeded: Flask, counter: Any) -> None:
        counts = [count for (count,) in rows_of(seeded, select(counter))]

        assert max(counts) > 4 * sum(counts) / len(counts)

    def test_finds_words_tags_and_mentions_where_requests_would(self, seeded: Flask) -> None:
        user_ids = {name: user_id for user_id, name in rows_of(seeded, select(User.id, User.username))}
        all_marks: list[Mark] = []
        for post_id, body in rows_of(seeded, select(Post.id, Post.body)):
            places = select(Entity.start, Entity.end, Entity.tag, Entity.user_id, Entity.is_repeat)
            marks = rows_of(seeded, places.where(Entity.post_id == post_id).order_by(Entity.start))
            assert marks == marks_in(body, user_ids)
            found = select(Post.id).where(Post.id == post_id, Post.words == words_of(body))
            assert rows_of(seeded, found) == [(post_id,)]
            all_marks += marks

        kinds = {(mark.tag is None, mark.is_repeat) for mark in all_marks}
        assert kinds >= {(True, False), (False, False), (False, True)}

    @pytest.mark.usefixtures("seeded")
    def test_writes_one_word_in_few_posts(self, client: ContractClient) -> None:
        found = listed(client, "/posts", q="zeppelin")

        assert len(found) == 30
        assert all("zeppelin" in post["body"] for post in found)

    def test_lets_the_database_count_and_index_what_comes_next(
        self, seeded: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("Ann-Marie")
        answered: Any = client.get("/posts?expand=counts").json["items"][0]
        sent = {"body": "Antidisestablishmentarianism", "in_reply_to_id": answered["id"]}

        reply: Any = client.post("/posts", json=sent, headers=ann.signed_in).json
        client.put(f"/me/likes/{answered['id']}", headers=ann.signed_in)
        client.put(f"/me/following/{answered['author']['username']}", headers=ann.signed_in)

        found = listed(client, "/posts", q="antidisestablishmentarianism")
        counts: Any = client.get(f"/posts/{answered['id']}?expand=counts").json["counts"]
        assert [post["id"] for post in found] == [reply["id"]]
        assert counts == {name: count + 1 for name, count in answered["counts"].items()}
        assert seeded.test_cli_runner().invoke(args=["counters", "check"]).exit_code == 0

    def test_tells_the_planner_what_there_is(self, seeded: Flask) -> None:
        with seeded.app_context():
            known = db.session.execute(text(PLANNERS[db.engine.dialect.name])).scalar_one()

        assert known == SMALL["posts"]

    def test_leaves_all_as_it_was_if_it_fails(self, app: Flask, make: Factory) -> None:
        post_id = make.post(make.user("ann"))
        options: Any = {**SMALL, "password_hash": "", "until": utc_now(), "random_seed": 1, "force": True}

        with app.app_context():
            seed(**options)
            db.session.rollback()

        make.like(make.user(), post_id)
        assert amounts_in(app) == {"users": 2, "posts": 1, "follows": 0, "likes": 1}
        with app.app_context():
            assert db.session.scalars(select(Post.like_count)).one() == 1

    def test_refuses_to_mix_with_other_users(self, app: Flask, make: Factory) -> None:
        make.user()

        result = run(app, SMALL)

        assert result.exit_code == 1
        assert result.output == "Error: There are users already. With --force, others are added.\n"
        assert amounts_in(app) == {**NOTHING, "users": 1}

    def test_adds_others_if_forced(self, app: Flask, make: Factory) -> None:
        for name in NAMES[::2]:
            make.user(name.title())
        for name in NAMES[1::2]:
            make.user(email=f"{name.upper()}@EXAMPLE.COM")

        results = [run(app, SMALL, "--force").exit_code for _ in range(2)]

        assert results == [0, 0]
        expected = {name: 2 * number for name, number in SMALL.items()}
        assert amounts_in(app) == {**expected, "users": expected["users"] + len(NAMES)}
        assert app.test_cli_runner().invoke(args=["counters", "check"]).exit_code == 0

    @pytest.mark.parametrize(("amounts", "reason"), IMPOSSIBLE)
    def test_refuses_what_cannot_be(self, app: Flask, amounts: dict[str, int], reason: str) -> None:
        result = run(app, amounts)

        assert (result.exit_code, result.output) == (1, f"Error: {reason}\n")
        assert amounts_in(app) == NOTHING

    def test_refuses_numbers_below_zero(self, app: Flask) -> None:
        assert run(app, {"posts": -1}).exit_code == 2

    @pytest.mark.parametrize("password", ["x", "cafe\u0301"], ids=["too short for others", "not composed"])
    def test_gives_everybody_the_password_that_is_asked_for(
        self, app: Flask, client: ContractClient, password: str
    ) -> None:
        result = run(app, SMALL, "--password", password)

        assert result.output.splitlines()[-1] == f"They sign in with {password!r}."
        for user in listed(client, "/users")[:2]:
            assert client.post("/tokens", auth=(user["username"], password)).status_code == 200

    def test_lets_nobody_in_without_a_password(self, app: Flask, client: ContractClient) -> None:
        result = run(app, SMALL)

        assert result.output.splitlines()[-1] == "Without --password, none can sign in."
        for password in ("", "None"):
            assert client.post("/tokens", auth=(NAMES[0], password)).status_code == 401
