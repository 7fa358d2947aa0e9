"""The feed: complete, in order, and at a cost that does not depend on the number of other posts."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, text

from api.db import db
from api.follows.queries import SCANNED
from api.models import Follow, Post, User
from tests.support.contract import ContractClient
from tests.support.databases import disable_triggers
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.pagination import items, read, read_both_ways
from tests.support.renderers import needs_sql_json
from tests.support.representations import includes
from tests.support.statements import Statement

PEOPLE = 5
LIMIT = 20
# The number of users that the caller follows.
CROWDS = [pytest.param(5, id="follows 5"), pytest.param(100, id="follows 100")]
OTHER_USERS = 20
# The maximum work for a page of 20, where other users wrote 10,000 posts: instructions of SQLite's virtual
# machine, posts that PostgreSQL reads.
WORK_MAXIMUM = {"sqlite": 40 * SCANNED, "postgresql": SCANNED + 500}


def feed(client: ContractClient, member: Account) -> list[int]:
    """Return the ids of the posts on the first page of a user's feed."""
    return [post["id"] for post in client.get("/feed", headers=member.signed_in).json["items"]]


@pytest.fixture
def people(make: Factory) -> list[Account]:
    """Some users; the first one reads the feed."""
    return [make.user() for _ in range(PEOPLE)]


class TestListFeed:
    def test_returns_own_posts_and_those_of_followed_users_newest_first(
        self, client: ContractClient, make: Factory
    ) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        make.follow(ann, bob)
        first, _, third, fourth = (make.post(author) for author in (bob, cleo, ann, bob))

        response = client.get("/feed", headers=ann.signed_in)

        assert response.status_code == 200
        assert response.json["items"] == [
            client.get(f"/posts/{post_id}").json for post_id in (fourth, third, first)
        ]

    def test_omits_posts_of_users_who_are_not_followed(self, client: ContractClient, make: Factory) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        make.follow(bob, ann)
        make.follow(bob, cleo)
        make.post(bob)
        make.post(cleo)

        response = client.get("/feed", headers=ann.signed_in)

        assert response.json == {"items": [], "next_cursor": None, "prev_cursor": None}

    def test_changes_after_following_and_unfollowing(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        theirs, mine = make.post(bob), make.post(ann)

        before = feed(client, ann)
        client.put("/me/following/bob", headers=ann.signed_in)
        following = feed(client, ann)
        client.delete("/me/following/bob", headers=ann.signed_in)
        after = feed(client, ann)

        assert (before, following, after) == ([mine], [mine, theirs], [mine])

    def test_omits_posts_of_deleted_users(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)
        mine = make.post(ann)
        make.post(bob)

        client.delete("/me", json={"password": PASSWORD}, headers=bob.signed_in)

        assert feed(client, ann) == [mine]

    @given(
        followed=st.sets(st.integers(1, PEOPLE - 1)),
        others=st.sets(st.tuples(st.integers(1, PEOPLE - 1), st.integers(0, PEOPLE - 1))),
        authors=st.lists(st.integers(0, PEOPLE - 1), max_size=25),
        limit=st.integers(1, 30),
    )
    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_is_complete_and_in_order_in_both_directions(
        self,
        app: Flask,
        client: ContractClient,
        people: list[Account],
        followed: set[int],
        others: set[tuple[int, int]],
        authors: list[int],
        limit: int,
    ) -> None:
        links = {(0, number) for number in followed} | {pair for pair in others if pair[0] != pair[1]}
        with app.app_context():
            db.session.execute(delete(Post))
            db.session.execute(delete(Follow))
            db.session.add_all(
                Follow(follower_id=people[one].id, followed_id=people[other].id) for one, other in links
            )
            posts = [Post(user_id=people[author].id, body="Hello.") for author in authors]
            for post in posts:
                db.session.add(post)
                db.session.flush()
            db.session.commit()
            written = [(post.id, author) for post, author in zip(posts, authors, strict=True)]

        forth, back = read_both_ways(client, "/feed", limit, people[0].signed_in)

        expected = sorted((post_id for post_id, author in written if author in {0} | followed), reverse=True)
        assert items(forth, "id") == expected
        assert items(back[::-1], "id") == expected
        assert all(len(page["items"]) == limit for page in forth[:-1])
        assert forth[-1]["next_cursor"] is None

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_returns_newer_posts_by_the_cursor_of_the_newest(
        self, client: ContractClient, make: Factory, limit: int
    ) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        make.follow(ann, bob)
        make.post(bob)
        quiet = read(client, "/feed", ann.signed_in)
        make.post(cleo)
        nothing = read(client, "/feed", ann.signed_in, cursor=quiet["prev_cursor"])

        news = [make.post(author) for author in (bob, ann, cleo, bob, bob, ann)]
        cursor, found = nothing["prev_cursor"], list[int]()
        while (page := read(client, "/feed", ann.signed_in, cursor=cursor, limit=limit))["items"]:
            found = items([page], "id") + found
            cursor = page["prev_cursor"]

        assert nothing == {"items": [], "next_cursor": None, "prev_cursor": quiet["prev_cursor"]}
        assert found == [news[number] for number in (5, 4, 3, 1, 0)]

    def test_expands_whether_the_caller_likes_the_posts(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)
        make.like(ann, make.post(bob))

        [post] = client.get("/feed?expand=counts,viewer", headers=ann.signed_in).json["items"]

        assert includes(post["counts"], {"like_count": 1, "reply_count": 0})
        assert includes(post["viewer"], {"liked": True})

    def test_refuses_a_cursor_of_another_list(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        make.post(ann)
        cursor = client.get("/posts").json["prev_cursor"]

        response = client.get(f"/feed?cursor={cursor}", headers=ann.signed_in)

        assert response.status_code == 400

    @pytest.mark.parametrize("query", ["limit=0", "limit=101", "expand=body", "author=ann"])
    def test_refuses_invalid_parameters(self, client: ContractClient, make: Factory, query: str) -> None:
        response = client.get(f"/feed?{query}", headers=make.user().signed_in)

        assert response.status_code == 422
        assert response.json["errors"][0]["parameter"] == query.partition("=")[0]


def fill(app: Flask, caller: Account, followed: int) -> None:
    """Make the caller follow users who wrote the oldest posts; other users wrote many newer ones."""
    with app.app_context():
        users = [
            {"username": f"u{number}er", "email": f"{number}@example.com", "password_hash": "-", "version": 1}
            for number in range(followed + OTHER_USERS)
        ]
        user_ids = sorted(db.session.scalars(insert(User).returning(User.id), users))
        quiet, busy = user_ids[:followed], user_ids[followed:]
        links = [{"follower_id": caller.id, "followed_id": user_id} for user_id in quiet]
        links += [{"follower_id": user_id, "followed_id": caller.id} for user_id in busy]
        db.session.execute(insert(Follow), links)
        owners = [*quiet * (100 // followed), *busy * 500]
        posts = [{"user_id": owner, "body": "Hello.", "version": 1} for owner in owners]
        disable_triggers()
        db.session.execute(insert(Post), posts)
        db.session.commit()


def work_of(app: Flask, statement: str, parameters: Any) -> tuple[str, float]:
    """Return the database's name, and its work for a statement (see `WORK_MAXIMUM`)."""
    with app.app_context(), db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            steps: list[None] = []
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: steps.append(None), 1)
            connection.exec_driver_sql(statement, parameters).all()
            driver.set_progress_handler(None, 1)
            return "sqlite", len(steps)
        connection.execute(text("ANALYZE users, posts, follows, sessions"))
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        nodes = [
            node for node in _nodes(plan.scalar_one()[0]["Plan"]) if node.get("Relation Name") == "posts"
        ]
        assert nodes
        met = sum(
            node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
            for node in nodes
        )
        return "postgresql", met


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", []):
        yield from _nodes(part)


@needs_sql_json
class TestCost:
    @pytest.mark.parametrize("query", ["", "?expand=counts,viewer"])
    def test_of_a_page_is_one_statement(
        self, client: ContractClient, make: Factory, statements: list[Statement], query: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)
        for _ in range(3):
            make.post(bob)
        statements.clear()

        client.get(f"/feed{query}", headers=ann.signed_in)

        asked = [statement for statement in statements if "SELECT" in statement.text]
        assert ["sessions" in statement.text for statement in asked] == [True, False]

    @pytest.mark.slow
    @pytest.mark.parametrize("followed", CROWDS)
    def test_of_a_page_does_not_depend_on_the_posts_of_other_users(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        statements: list[Statement],
        followed: int,
    ) -> None:
        caller = make.user()
        fill(app, caller, followed)
        first = read(client, "/feed", caller.signed_in)

        for asked in ({}, {"cursor": first["next_cursor"]}, {"cursor": first["prev_cursor"]}):
            read(client, "/feed", caller.signed_in, **asked)

            database, work = work_of(app, *statements[-1])
            assert work < WORK_MAXIMUM[database], asked
