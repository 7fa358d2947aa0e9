"""Lists in pages: complete and in order in both directions during concurrent writes, and read by an index."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from api.db import db
from api.models import Post, User
from tests.conftest import DATABASES
from tests.operations import ANYONE, Listing, Operation, list_cases
from tests.support.contract import PREFIX, ContractClient
from tests.support.factories import Account, Factory
from tests.support.pagination import items, read_both_ways
from tests.support.renderers import needs_sql_json
from tests.support.statements import recorded_statements
from tests.support.world import LargeWorld, make_large_world

Page = dict[str, Any]

property_test = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def ann(make: Factory) -> Account:
    """An author of posts."""
    return make.user("ann")


def publish(app: Flask, author: Account, number: int) -> list[int]:
    """Create posts and return their ids, newest first."""
    with app.app_context():
        posts = [Post(user_id=author.id, body="Hello.") for _ in range(number)]
        db.session.add_all(posts)
        db.session.commit()
        return sorted((post.id for post in posts), reverse=True)


def remove(app: Flask, ids: Sequence[int] | None = None) -> None:
    """Delete posts; all posts if `ids` is None."""
    statement = delete(Post) if ids is None else delete(Post).where(Post.id.in_(ids))
    with app.app_context():
        db.session.execute(statement)
        db.session.commit()


def read(client: ContractClient, path: str, headers: dict[str, str] | None = None, **query: Any) -> Page:
    """Return a page of a list."""
    response = client.get(f"{path}?{urlencode(query)}", headers=headers)
    assert response.status_code == 200
    page: Page = response.json or {}
    return page


def pages_from(client: ContractClient, path: str, first: Page, relation: str, **query: Any) -> Iterator[Page]:
    """Yield a page and those after it (`next`) or before it (`prev`), up to the last that is not empty."""
    page = first
    while page["items"]:
        yield page
        cursor = page[f"{relation}_cursor"]
        if cursor is None:
            return
        page = read(client, path, **query, cursor=cursor)


class TestListPosts:
    @given(number=st.integers(0, 25), limit=st.integers(1, 30))
    @property_test
    def test_has_every_post_once_newest_first_and_in_reverse_by_the_cursors_back(
        self, app: Flask, client: ContractClient, ann: Account, number: int, limit: int
    ) -> None:
        remove(app)
        ids = publish(app, ann, number)

        forth = list(pages_from(client, "/posts", read(client, "/posts", limit=limit), "next", limit=limit))
        back = list(pages_from(client, "/posts", forth[-1], "prev", limit=limit)) if forth else []

        assert items(forth) == ids
        assert items(back[::-1]) == ids
        assert all(len(page["items"]) == limit for page in forth[:-1])
        assert all(page["next_cursor"] is None for page in forth[-1:])

    @given(number=st.integers(0, 25), limit=st.integers(1, 10), data=st.data())
    @property_test
    def test_has_each_remaining_post_once_and_in_order_while_others_are_added_and_deleted(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        number: int,
        limit: int,
        data: st.DataObject,
    ) -> None:
        remove(app)
        ids = publish(app, ann, number)
        left = set(ids)

        forth = []
        for page in pages_from(client, "/posts", read(client, "/posts", limit=limit), "next", limit=limit):
            forth.append(page)
            gone = data.draw(st.sets(st.sampled_from(sorted(left))) if left else st.just(set()))
            remove(app, list(gone))
            left -= gone
            publish(app, ann, data.draw(st.integers(0, 2)))

        assert [post_id for post_id in items(forth) if post_id in left] == sorted(left, reverse=True)
        assert len(set(items(forth))) == len(items(forth))
        assert set(items(forth)) <= set(ids)

    @given(
        known=st.integers(1, 5), limit=st.integers(1, 10), arrivals=st.lists(st.integers(0, 12), max_size=4)
    )
    @property_test
    def test_has_newer_posts_by_the_cursor_of_the_newest(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        known: int,
        limit: int,
        arrivals: list[int],
    ) -> None:
        remove(app)
        seen = publish(app, ann, known)
        cursor = read(client, "/posts", limit=1)["prev_cursor"]
        asked = cursor

        for number in arrivals:
            expected = publish(app, ann, number)
            page = read(client, "/posts", limit=limit, cursor=cursor)
            pages = list(pages_from(client, "/posts", page, "prev", limit=limit))
            cursor = pages[-1]["prev_cursor"] if pages else page["prev_cursor"]

            assert items(pages[::-1]) == expected
        assert read(client, "/posts", cursor=cursor) == {
            "items": [],
            "next_cursor": None,
            "prev_cursor": cursor,
        }
        assert len(items([read(client, "/posts", limit=100, cursor=asked)])) == sum(arrivals)
        assert seen == items([read(client, "/posts", limit=100)])[-known:]

    def test_has_newer_posts_after_the_newest_is_deleted(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        publish(app, ann, 3)
        cursor = read(client, "/posts")["prev_cursor"]

        remove(app)
        newer = publish(app, ann, 2)

        assert items([read(client, "/posts", cursor=cursor)]) == newer

    def test_ends_with_an_empty_page_if_all_older_posts_are_deleted(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        ids = publish(app, ann, 3)
        cursor = read(client, "/posts", limit=1)["next_cursor"]

        remove(app, ids)

        assert read(client, "/posts", cursor=cursor) == EMPTY

    def test_finds_the_author_in_any_case(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        ids = publish(app, ann, 2)
        publish(app, make.user("bob"), 2)
        publish(app, make.user("Anna"), 2)

        page = read(client, "/posts", author="aNN")

        assert items([page]) == ids

    @pytest.mark.parametrize("author", ["unknown", "%", "_nn", "an", "annn", "é", "ann@example.com"])
    def test_of_an_unknown_author_is_empty(
        self, app: Flask, client: ContractClient, ann: Account, author: str
    ) -> None:
        publish(app, ann, 1)

        assert read(client, "/posts", author=author) == EMPTY

    def test_has_cursors_for_the_posts_of_an_author(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        bob = make.user("bob")
        ids = [publish(app, author, 1)[0] for author in (ann, bob, ann, bob, ann)]

        first = read(client, "/posts", author="ann", limit=1)
        pages = list(pages_from(client, "/posts", first, "next", author="ann", limit=1))

        assert items(pages) == ids[::-2]


class TestListUserPosts:
    def test_finds_the_user_in_any_case(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        ids = publish(app, ann, 5)
        publish(app, make.user("bob"), 2)

        first = read(client, "/users/ANN/posts", limit=2)
        forth = list(pages_from(client, "/users/ANN/posts", first, "next", limit=2))
        back = list(pages_from(client, "/users/ANN/posts", forth[-1], "prev", limit=2))

        assert items(forth) == ids
        assert items(back[::-1]) == ids

    def test_of_an_unknown_user_is_not_found(self, client: ContractClient) -> None:
        response = client.get("/users/unknown/posts")

        assert response.status_code == 404

    def test_of_a_user_without_posts_is_empty(self, client: ContractClient, ann: Account) -> None:
        assert read(client, f"/users/{ann.username}/posts") == EMPTY


class TestListUsers:
    def test_has_every_user_newest_first(self, client: ContractClient, make: Factory) -> None:
        names = [make.user(name).username for name in ("bob", "ann", "Zoe", "carl")]

        forth = list(pages_from(client, "/users", read(client, "/users", limit=3), "next", limit=3))

        assert items(forth, "username") == names[::-1]

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [
            ("ann", ["ann", "Ann-Lee", "ann.lee", "ann2", "ANN_lee", "Anna", "annb"]),
            ("ANN", ["ann", "Ann-Lee", "ann.lee", "ann2", "ANN_lee", "Anna", "annb"]),
            ("ann_", ["ANN_lee"]),
            ("ann.", ["ann.lee"]),
            ("ann-LEE", ["Ann-Lee"]),
            ("a", ["ann", "Ann-Lee", "ann.lee", "ann2", "ANN_lee", "Anna", "annb", "azz"]),
            ("z", ["Zoe"]),
            ("zz", []),
            ("_nn", []),
            ("an%", []),
            ("%", []),
            ("a*", []),
            ("a\\", []),
            ("'", []),
            ("ann~", []),
            ("ann\t", ["ann", "Ann-Lee", "ann.lee", "ann2", "ANN_lee", "Anna", "annb"]),
            (" ann", ["ann", "Ann-Lee", "ann.lee", "ann2", "ANN_lee", "Anna", "annb"]),
            ("é", []),
            ("anñ", []),
            ("ﬀ", []),
            ("İ", []),
            ("🌱", []),
            ("a" * 64, []),
        ],
    )
    def test_finds_usernames_by_prefix_in_ascii_order(
        self, client: ContractClient, make: Factory, prefix: str, found: list[str]
    ) -> None:
        names = ("Zoe", "annb", "ann2", "Anna", "ann", "azz", "ANN_lee", "Ann-Lee", "bob", "ann.lee")
        with make.one_transaction():
            for name in names:
                make.user(name)

        first = read(client, "/users", q=prefix, limit=2)
        forth = list(pages_from(client, "/users", first, "next", q=prefix, limit=2))

        assert items(forth, "username") == found

    @given(limit=st.integers(1, 8), prefix=st.sampled_from(["A", "a", "an"]))
    @property_test
    def test_finds_the_same_users_in_both_directions(
        self, app: Flask, client: ContractClient, make: Factory, limit: int, prefix: str
    ) -> None:
        with app.app_context():
            db.session.execute(delete(User))
            db.session.commit()
        with make.one_transaction():
            for name in ("bob", "anne", "ANN", "Anna", "an_", "Andy", "an1"):
                make.user(name)

        first = read(client, "/users", q=prefix, limit=limit)
        forth = list(pages_from(client, "/users", first, "next", q=prefix, limit=limit))
        back = list(pages_from(client, "/users", forth[-1], "prev", q=prefix, limit=limit))

        assert items(forth, "username") == ["an1", "an_", "Andy", "ANN", "Anna", "anne"]
        assert items(back[::-1], "username") == items(forth, "username")

    def test_has_cursors_that_work_with_a_longer_prefix(self, client: ContractClient, make: Factory) -> None:
        for name in ("ann1", "ann2", "anx"):
            make.user(name)
        cursor = read(client, "/users", q="a", limit=1)["next_cursor"]

        page = read(client, "/users", q="ann", cursor=cursor)

        assert items([page], "username") == ["ann2"]


EMPTY: Page = {"items": [], "next_cursor": None, "prev_cursor": None}
LINK = re.compile(r'<([^>]*)>; rel="(\w+)"')
# The session of the caller is an item.
NEVER_EMPTY = {"listTokens"}


def path_of(operation: Operation, world: LargeWorld) -> str:
    """Return the path of a list."""
    return operation.path.format(**world.path_parameters)


def parameters_of(listing: Listing) -> dict[str, str]:
    """Return the parameters that select the items of a list."""
    return dict(parse_qsl(listing.query))


@pytest.fixture(scope="module", params=DATABASES)
def filled_app(
    request: pytest.FixtureRequest, shared_app: Callable[..., Flask], new_migrated_database_url: Any
) -> tuple[Flask, LargeWorld]:
    """The application on a database of its own, and the rows in it, which tests only read."""
    app = shared_app(new_migrated_database_url(request.param))
    return app, make_large_world(app, Factory(app).user("user7"), 50)


class TestEveryList:
    @pytest.mark.parametrize(
        ("operation", "listing"),
        list_cases(lambda operation: operation.caller is ANYONE and not operation.names("path")),
    )
    def test_of_an_empty_database_is_empty(
        self, client: ContractClient, operation: Operation, listing: Listing
    ) -> None:
        response = client.get(f"{operation.path}?{listing.query}")

        assert response.json == EMPTY
        assert "Link" not in response.headers

    @pytest.mark.parametrize(
        ("operation", "listing"),
        list_cases(
            lambda operation: (
                (operation.caller is not ANYONE or operation.names("path"))
                and operation.name not in NEVER_EMPTY
            )
        ),
    )
    def test_of_a_new_user_or_post_is_empty(
        self, client: ContractClient, make: Factory, operation: Operation, listing: Listing
    ) -> None:
        world = LargeWorld(make.user(), make.post())

        response = client.get(path_of(operation, world), headers=world.caller.signed_in)

        assert response.json == EMPTY
        assert "Link" not in response.headers

    @pytest.mark.parametrize(("operation", "listing"), list_cases())
    def test_has_links_to_its_neighbours_with_the_other_parameters(
        self, filled_app: tuple[Flask, LargeWorld], operation: Operation, listing: Listing
    ) -> None:
        app, world = filled_app
        query = {**parameters_of(listing), "limit": "2"}
        if "expand" in operation.names("query"):
            query["expand"] = "viewer,counts"
        path = path_of(operation, world)

        response: Any = ContractClient(app).get(f"{path}?{urlencode(query)}", headers=world.caller.signed_in)

        links = {relation: urlsplit(target) for target, relation in LINK.findall(response.headers["Link"])}
        assert links.keys() == {"next", "prev"}
        for relation, link in links.items():
            assert link.path == PREFIX + path
            cursor = response.json[f"{relation}_cursor"]
            assert parse_qs(link.query) == {
                **{name: [value] for name, value in query.items()},
                "cursor": [cursor],
            }

    @pytest.mark.parametrize("limit", [7, 40])
    @pytest.mark.parametrize(("operation", "listing"), list_cases())
    def test_is_complete_and_in_order_in_both_directions(
        self, filled_app: tuple[Flask, LargeWorld], operation: Operation, listing: Listing, limit: int
    ) -> None:
        app, world = filled_app
        path = path_of(operation, world)
        query: dict[str, Any] = {**parameters_of(listing), "limit": limit}

        forth, back = read_both_ways(ContractClient(app), path, headers=world.caller.signed_in, **query)

        with app.app_context():
            assert items(forth, "id") == db.session.scalars(listing.ids(world)).all()
        assert items(back[::-1], "id") == items(forth, "id")
        assert len(items(forth, "id")) >= 40
        assert all(len(page["items"]) == limit for page in forth[:-1])
        assert forth[-1]["next_cursor"] is None

    def test_has_links_that_lead_to_its_end(self, app: Flask, client: ContractClient, ann: Account) -> None:
        publish(app, ann, 3)
        first = client.get("/posts?author=ann&limit=2")
        target = dict(map(reversed, LINK.findall(first.headers["Link"])))["next"]

        last = client.get(target.removeprefix(PREFIX))

        assert len(last.json["items"]) == 1
        assert [relation for _, relation in LINK.findall(last.headers["Link"])] == ["prev"]


# The statements that return a plan on each database, and those that are executed before. (The planner may
# choose a bitmap scan of one row, which costs as much as an index scan, although a sort follows it.)
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}
PREPARE = {
    "sqlite": "SELECT 1",
    "postgresql": f"SET LOCAL enable_bitmapscan = off; ANALYZE {', '.join(db.metadata.tables)}",
}
SLOW = re.compile(r"\bSCAN (?!anon)|TEMP B-TREE|Seq Scan|\bSort\b|Hash|Bitmap.* rows=(?!1 )")
# A feed reads all users that its reader follows, nearly all users here. (tests/follows/test_feed.py
# counts on PostgreSQL what it reads where other users have more posts.)
SLOW_FEED = re.compile(r"\bSCAN (posts|users|follows)")


@pytest.fixture(scope="module", params=DATABASES)
def large_app(
    request: pytest.FixtureRequest, shared_app: Callable[..., Flask], new_migrated_database_url: Any
) -> tuple[Flask, LargeWorld]:
    """The application on a database so large that an index is fastest, and the rows in it."""
    app = shared_app(new_migrated_database_url(request.param))
    return app, make_large_world(app, Factory(app).user("user7"), 2_000)


@needs_sql_json
@pytest.mark.parametrize("relation", ["next", "prev"])
@pytest.mark.parametrize(("operation", "listing"), list_cases())
def test_every_page_is_read_by_an_index(
    large_app: tuple[Flask, LargeWorld], operation: Operation, listing: Listing, relation: str
) -> None:
    app, world = large_app
    client, path, headers = ContractClient(app), path_of(operation, world), world.caller.signed_in
    page: Any = client.get(f"{path}?{listing.query}", headers=headers).json
    query = urlencode({**parameters_of(listing), "cursor": page[f"{relation}_cursor"]})

    with recorded_statements(app) as statements:
        response = client.get(f"{path}?{query}", headers=headers)

    assert response.status_code == 200
    plan = plan_of(app, *statements[-1])
    assert not (SLOW_FEED if operation.name == "listFeed" else SLOW).search(plan), plan
    # PostgreSQL may read all of the few rows that are newer than the first page.
    assert relation == "prev" or re.search(listing.index, plan), plan


# Half of the users follow user 7; ten users, in no particular order, follow each other user.
FOLLOWED = """
    SET LOCAL session_replication_role = replica;
    INSERT INTO users (username, email, password_hash, about, created_at, version)
        SELECT 'u' || n || 'er', n || '@example.com', '-', '', now(), 1 FROM generate_series(1, 10000) n;
    INSERT INTO follows (follower_id, followed_id, created_at)
        SELECT id, {user_id}, now() FROM users WHERE id > {user_id} AND id % 2 = 0
        UNION
        SELECT id, {user_id} + 1 + id * n * 7919 % 10000, now() FROM users, generate_series(1, 10) n
        WHERE id > {user_id} AND id <> {user_id} + 1 + id * n * 7919 % 10000
"""


@needs_sql_json
def test_many_followers_are_not_sorted(
    new_migrated_app: Callable[..., Flask],
) -> None:
    app = new_migrated_app("postgresql")
    user = Factory(app).user("user7")
    with app.app_context():
        db.session.execute(text(FOLLOWED.format(user_id=user.id)))
        db.session.execute(text("ANALYZE users, follows"))
        db.session.commit()

    with recorded_statements(app) as statements:
        page: Any = ContractClient(app).get("/users/user7/followers").json

    assert page["next_cursor"]
    statement = statements[-1]
    with app.app_context():
        steps = db.session.connection().exec_driver_sql(f"EXPLAIN {statement.text}", statement.parameters)
        plan = "\n".join(steps.scalars())
    assert "ix_follows_followed_id_id" in plan
    assert "Sort" not in plan, plan


def plan_of(app: Flask, statement: str, parameters: Any) -> str:
    """Return the database's plan of a statement."""
    with app.app_context(), db.engine.connect() as connection:
        dialect = connection.dialect.name
        connection.execute(text(PREPARE[dialect]))
        steps = connection.exec_driver_sql(EXPLAIN[dialect] + statement, parameters)
        return "\n".join([statement, *map(str, steps)])
