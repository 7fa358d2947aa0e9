"""Counters: triggers maintain them, and `flask counters check` compares them with the rows."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, select, update

from api.db import db
from api.models import Follow, Like, Post, User
from api.models.counters import COUNTERS
from tests.support.concurrency import concurrently
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.representations import includes

COLUMNS = [pytest.param(counter, id=str(counter)) for counter in COUNTERS]
NONE_WRONG = {str(counter): 0 for counter in COUNTERS}

DELETIONS = [
    pytest.param(lambda: delete(Like), id="likes"),
    pytest.param(lambda: delete(Follow), id="follows"),
    pytest.param(lambda: delete(Post).where(Post.is_reply), id="replies"),
    pytest.param(lambda: delete(Post).where(~Post.is_reply), id="posts with replies"),
    pytest.param(lambda: delete(Post), id="posts"),
    pytest.param(lambda: delete(User).where(User.username == "ann"), id="the author"),
    pytest.param(
        lambda: delete(User).where(User.username == "bob"), id="a user who likes, follows and replies"
    ),
    pytest.param(lambda: delete(User), id="all users"),
]


@pytest.fixture
def ann(make: Factory) -> Account:
    """The author of a post that Ann, Bob and Zoe like and reply to; Bob and Zoe also follow users."""
    with make.one_transaction():
        ann, bob, zoe = make.user("ann"), make.user("bob"), make.user("zoe")
        post_id = make.post(ann)
        for member in (ann, bob, zoe):
            reply_id = make.post(member, in_reply_to_id=post_id, is_reply=True)
            make.post(bob, in_reply_to_id=reply_id, is_reply=True)
            make.like(member, post_id)
            make.like(member, reply_id)
        for follower, followed in [(ann, bob), (bob, ann), (bob, zoe), (zoe, ann), (zoe, bob)]:
            make.follow(follower, followed)
    return ann


def check(app: Flask, *options: str) -> tuple[int, dict[str, int]]:
    """Run `flask counters check`; return its exit code and, by counter, the number of wrong rows."""
    result = app.test_cli_runner().invoke(args=["counters", "check", *options])
    lines = [line.removesuffix(" wrong").split(": ") for line in result.output.splitlines()]
    return result.exit_code, {counter: int(rows) for counter, rows in lines}


def execute(app: Flask, statement: Any) -> None:
    """Execute a statement and commit."""
    with app.app_context():
        db.session.execute(statement)
        db.session.commit()


def counts_of(client: ContractClient, path: str) -> dict[str, int]:
    """Return the counts of a post or a user."""
    counts: dict[str, int] = client.get(f"{path}?expand=counts").json["counts"]
    return counts


class TestCheck:
    @pytest.mark.parametrize("options", [(), ("--repair",)], ids=["check", "repair"])
    def test_succeeds_without_rows(self, app: Flask, options: tuple[str, ...]) -> None:
        assert check(app, *options) == (0, NONE_WRONG)

    @pytest.mark.usefixtures("ann")
    @pytest.mark.parametrize("options", [(), ("--repair",)], ids=["check", "repair"])
    def test_succeeds_if_all_counters_are_right(self, app: Flask, options: tuple[str, ...]) -> None:
        assert check(app, *options) == (0, NONE_WRONG)

    @pytest.mark.usefixtures("ann")
    @pytest.mark.parametrize("difference", [1, -1])
    @pytest.mark.parametrize("counter", COLUMNS)
    def test_fails_and_prints_the_number_of_wrong_rows(
        self, app: Flask, counter: Any, difference: int
    ) -> None:
        model = counter.class_
        first_two = model.id.in_([row_id for (row_id,) in rows_of(app, model)[:2]])
        execute(app, update(model).where(first_two).values({counter: counter + difference}))

        found = check(app)

        assert found == (1, {**NONE_WRONG, str(counter): 2})
        assert check(app) == found

    @pytest.mark.usefixtures("ann")
    def test_repairs_wrong_counters_and_succeeds(self, app: Flask) -> None:
        for counter in COUNTERS:
            execute(app, update(counter.class_).values({counter: counter + 7}))
        rows = {str(counter): len(rows_of(app, counter.class_)) for counter in COUNTERS}

        assert check(app, "--repair") == (0, rows)
        assert check(app) == (0, NONE_WRONG)

    def test_does_not_change_right_counters(self, app: Flask, client: ContractClient, ann: Account) -> None:
        before = client.get("/users?expand=counts").json
        execute(app, update(User).where(User.id == ann.id).values(post_count=0))

        check(app, "--repair")

        assert client.get("/users?expand=counts").json == before


def rows_of(app: Flask, model: Any) -> list[Any]:
    """Return the ids of a table, in order."""
    with app.app_context():
        return list(db.session.execute(select(model.id).order_by(model.id)).all())


class TestCounters:
    def test_count_posts_follows_likes_and_replies(self, client: ContractClient, ann: Account) -> None:
        first: Any = client.get("/users/ann/posts").json["items"][-1]

        assert includes(counts_of(client, "/users/ann"), {"posts": 2, "followers": 2, "following": 1})
        assert includes(counts_of(client, "/users/bob"), {"posts": 4, "followers": 2, "following": 2})
        assert includes(counts_of(client, "/users/zoe"), {"posts": 1, "followers": 1, "following": 2})
        assert includes(counts_of(client, f"/posts/{first['id']}"), {"like_count": 3, "reply_count": 3})

    @pytest.mark.usefixtures("ann")
    @pytest.mark.parametrize("deletion", DELETIONS)
    def test_are_right_after_rows_are_deleted(self, app: Flask, deletion: Callable[[], Any]) -> None:
        execute(app, deletion())

        assert check(app) == (0, NONE_WRONG)

    def test_are_right_after_every_kind_of_request(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        post_id = make.post(ann)
        dan = make.user("dan")

        for _ in range(2):
            client.put(f"/me/likes/{post_id}", headers=dan.signed_in)
            client.put("/me/following/ann", headers=dan.signed_in)
        sent = {"body": "Yes.", "in_reply_to_id": post_id}
        reply: Any = client.post("/posts", json=sent, headers=dan.signed_in).json
        raised = counts_of(client, f"/posts/{post_id}"), counts_of(client, "/users/dan")
        for _ in range(2):
            client.delete(f"/me/likes/{post_id}", headers=dan.signed_in)
            client.delete("/me/following/ann", headers=dan.signed_in)
            client.delete(f"/posts/{reply['id']}", headers=dan.signed_in)
        lowered = counts_of(client, f"/posts/{post_id}"), counts_of(client, "/users/dan")

        assert includes(
            raised,
            (
                {"like_count": 1, "reply_count": 1},
                {"posts": 1, "followers": 0, "following": 1},
            ),
        )
        assert includes(
            lowered,
            (
                {"like_count": 0, "reply_count": 0},
                {"posts": 0, "followers": 0, "following": 0},
            ),
        )
        assert check(app) == (0, NONE_WRONG)

    def test_are_right_after_an_account_is_deleted(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        client.delete("/me", json={"password": ann.password}, headers=ann.signed_in)

        assert includes(counts_of(client, "/users/bob"), {"posts": 4, "followers": 1, "following": 1})
        assert check(app) == (0, NONE_WRONG)

    def test_are_right_after_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        post_id = make.post(ann)
        members = [make.user() for _ in range(6)]

        def reply_like_and_follow(member: Account) -> Callable[[], set[int]]:
            def act() -> set[int]:
                own, signed_in = ContractClient(app), member.signed_in
                sent = {"body": "Yes.", "in_reply_to_id": post_id}
                return {
                    own.post("/posts", json=sent, headers=signed_in).status_code,
                    own.put(f"/me/likes/{post_id}", headers=signed_in).status_code,
                    own.put("/me/following/ann", headers=signed_in).status_code,
                }

            return act

        statuses = concurrently(*map(reply_like_and_follow, members))

        assert statuses == [{201, 204}] * 6
        assert includes(counts_of(client, f"/posts/{post_id}"), {"like_count": 6, "reply_count": 6})
        assert includes(counts_of(client, "/users/ann"), {"posts": 1, "followers": 6, "following": 0})
        assert check(app) == (0, NONE_WRONG)
