"""Lists in pages: complete, in order, both ways, whatever is written meanwhile, and by an index."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select, delete, func, insert, select, text

from api.database import db, utc_now
from api.models import Entity, Follow, Like, Post, Session, User
from tests.contract import PREFIX, ContractClient
from tests.factories import Factory, Member
from tests.statements import Statement, recorded_statements

Page = dict[str, Any]

property_test = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def ann(make: Factory) -> Member:
    """Somebody who writes."""
    return make.user("ann")


def publish(app: Flask, author: Member, number: int) -> list[int]:
    """Make posts and return their ids, newest first."""
    with app.app_context():
        posts = [Post(user_id=author.id, body="Hello.") for _ in range(number)]
        db.session.add_all(posts)
        db.session.commit()
        return sorted((post.id for post in posts), reverse=True)


def remove(app: Flask, ids: Sequence[int] | None = None) -> None:
    """Remove posts, or all there are."""
    statement = delete(Post) if ids is None else delete(Post).where(Post.id.in_(ids))
    with app.app_context():
        db.session.execute(statement)
        db.session.commit()


def read(client: ContractClient, path: str, headers: dict[str, str] | None = None, **query: Any) -> Page:
    """Return a page; parameters that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    response = client.get(f"{path}?{urlencode(given)}", headers=headers)
    assert response.status_code == 200
    page: Page = response.json or {}
    return page


def walk(client: ContractClient, path: str, first: Page, relation: str, **query: Any) -> Iterator[Page]:
    """Give a page and those after it (`next`) or before it (`prev`), to the last that is not empty."""
    page = first
    while page["items"]:
        yield page
        cursor = page[f"{relation}_cursor"]
        if cursor is None:
            return
        page = read(client, path, **query, cursor=cursor)


def shown(pages: Sequence[Page], member: str = "id") -> list[Any]:
    """Return a member of every item of some pages."""
    return [item[member] for page in pages for item in page["items"]]


class TestListPosts:
    @given(number=st.integers(0, 25), limit=st.integers(1, 30))
    @property_test
    def test_shows_every_post_once_newest_first_and_the_reverse_on_the_way_back(
        self, app: Flask, client: ContractClient, ann: Member, number: int, limit: int
    ) -> None:
        remove(app)
        ids = publish(app, ann, number)

        forth = list(walk(client, "/posts", read(client, "/posts", limit=limit), "next", limit=limit))
        back = list(walk(client, "/posts", forth[-1], "prev", limit=limit)) if forth else []

        assert shown(forth) == ids
        assert shown(back[::-1]) == ids
        assert all(len(page["items"]) == limit for page in forth[:-1])
        assert all(page["next_cursor"] is None for page in forth[-1:])

    @given(number=st.integers(0, 25), limit=st.integers(1, 10), data=st.data())
    @property_test
    def test_shows_what_stays_once_and_in_order_whatever_comes_and_goes(
        self,
        app: Flask,
        client: ContractClient,
        ann: Member,
        number: int,
        limit: int,
        data: st.DataObject,
    ) -> None:
        remove(app)
        ids = publish(app, ann, number)
        left = set(ids)

        forth = []
        for page in walk(client, "/posts", read(client, "/posts", limit=limit), "next", limit=limit):
            forth.append(page)
            gone = data.draw(st.sets(st.sampled_from(sorted(left))) if left else st.just(set()))
            remove(app, list(gone))
            left -= gone
            publish(app, ann, data.draw(st.integers(0, 2)))

        assert [post_id for post_id in shown(forth) if post_id in left] == sorted(left, reverse=True)
        assert len(set(shown(forth))) == len(shown(forth))
        assert set(shown(forth)) <= set(ids)

    @given(
        known=st.integers(1, 5), limit=st.integers(1, 10), arrivals=st.lists(st.integers(0, 12), max_size=4)
    )
    @property_test
    def test_shows_by_the_cursor_of_the_newest_what_is_newer(
        self,
        app: Flask,
        client: ContractClient,
        ann: Member,
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
            pages = list(walk(client, "/posts", page, "prev", limit=limit))
            cursor = pages[-1]["prev_cursor"] if pages else page["prev_cursor"]

            assert shown(pages[::-1]) == expected
        assert read(client, "/posts", cursor=cursor) == {
            "items": [],
            "next_cursor": None,
            "prev_cursor": cursor,
        }
        assert len(shown([read(client, "/posts", limit=100, cursor=asked)])) == sum(arrivals)
        assert seen == shown([read(client, "/posts", limit=100)])[-known:]

    def test_shows_what_is_newer_after_the_newest_is_gone(
        self, app: Flask, client: ContractClient, ann: Member
    ) -> None:
        publish(app, ann, 3)
        cursor = read(client, "/posts")["prev_cursor"]

        remove(app)
        newer = publish(app, ann, 2)

        assert shown([read(client, "/posts", cursor=cursor)]) == newer

    def test_ends_with_an_empty_page_where_all_that_followed_is_gone(
        self, app: Flask, client: ContractClient, ann: Member
    ) -> None:
        ids = publish(app, ann, 3)
        cursor = read(client, "/posts", limit=1)["next_cursor"]

        remove(app, ids)

        assert read(client, "/posts", cursor=cursor) == EMPTY

    def test_shows_those_of_an_author_named_in_any_case(
        self, app: Flask, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        ids = publish(app, ann, 2)
        publish(app, make.user("bob"), 2)
        publish(app, make.user("Anna"), 2)

        page = read(client, "/posts", author="aNN")

        assert shown([page]) == ids

    @pytest.mark.parametrize("author", ["nobody", "%", "_nn", "an", "annn", "ann ", "é", "ann@example.com"])
    def test_shows_nothing_by_an_author_who_is_nobody(
        self, app: Flask, client: ContractClient, ann: Member, author: str
    ) -> None:
        publish(app, ann, 1)

        assert read(client, "/posts", author=author) == EMPTY

    def test_goes_on_with_the_same_author(
        self, app: Flask, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        bob = make.user("bob")
        ids = [publish(app, author, 1)[0] for author in (ann, bob, ann, bob, ann)]

        first = read(client, "/posts", author="ann", limit=1)
        pages = list(walk(client, "/posts", first, "next", author="ann", limit=1))

        assert shown(pages) == ids[::-2]


class TestListUserPosts:
    def test_shows_those_of_a_user_named_in_any_case(
        self, app: Flask, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        ids = publish(app, ann, 5)
        publish(app, make.user("bob"), 2)

        first = read(client, "/users/ANN/posts", limit=2)
        forth = list(walk(client, "/users/ANN/posts", first, "next", limit=2))
        back = list(walk(client, "/users/ANN/posts", forth[-1], "prev", limit=2))

        assert shown(forth) == ids
        assert shown(back[::-1]) == ids

    def test_of_an_unknown_user_is_not_found(self, client: ContractClient) -> None:
        response = client.get("/users/nobody/posts")

        assert response.status_code == 404

    def test_of_somebody_who_wrote_nothing_is_empty(self, client: ContractClient, ann: Member) -> None:
        assert read(client, f"/users/{ann.username}/posts") == EMPTY


class TestListUsers:
    def test_shows_everybody_newest_first(self, client: ContractClient, make: Factory) -> None:
        names = [make.user(name).username for name in ("bob", "ann", "Zoe", "carl")]

        forth = list(walk(client, "/users", read(client, "/users", limit=3), "next", limit=3))

        assert shown(forth, "username") == names[::-1]

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
            ("ann\t", []),
            (" ann", []),
            ("é", []),
            ("anñ", []),
            ("ﬀ", []),
            ("İ", []),
            ("🌱", []),
            ("a" * 64, []),
        ],
    )
    def test_finds_names_by_their_beginning_in_the_order_of_ascii(
        self, client: ContractClient, make: Factory, prefix: str, found: list[str]
    ) -> None:
        for name in ("Zoe", "annb", "ann2", "Anna", "ann", "azz", "ANN_lee", "Ann-Lee", "bob", "ann.lee"):
            make.user(name)

        first = read(client, "/users", q=prefix, limit=2)
        forth = list(walk(client, "/users", first, "next", q=prefix, limit=2))

        assert shown(forth, "username") == found

    @given(limit=st.integers(1, 8), prefix=st.sampled_from(["A", "a", "an"]))
    @property_test
    def test_finds_the_same_on_the_way_back(
        self, app: Flask, client: ContractClient, make: Factory, limit: int, prefix: str
    ) -> None:
        with app.app_context():
            db.session.execute(delete(User))
            db.session.commit()
        for name in ("bob", "anne", "ANN", "Anna", "an_", "Andy", "an1"):
            make.user(name)

        first = read(client, "/users", q=prefix, limit=limit)
        forth = list(walk(client, "/users", first, "next", q=prefix, limit=limit))
        back = list(walk(client, "/users", forth[-1], "prev", q=prefix, limit=limit))

        assert shown(forth, "username") == ["an1", "an_", "Andy", "ANN", "Anna", "anne"]
        assert shown(back[::-1], "username") == shown(forth, "username")

    def test_goes_on_with_a_longer_beginning(self, client: ContractClient, make: Factory) -> None:
        for name in ("ann1", "ann2", "anx"):
            make.user(name)
        cursor = read(client, "/users", q="a", limit=1)["next_cursor"]

        page = read(client, "/users", q="ann", cursor=cursor)

        assert shown([page], "username") == ["ann2"]


class TestListTokens:
    def test_shows_the_callers_both_ways(self, client: ContractClient, make: Factory, ann: Member) -> None:
        make.user("bob")
        for _ in range(4):
            client.post("/tokens", auth=(ann.username, ann.password))
        first: Any = client.get("/tokens?limit=2", headers=ann.signed_in).json

        next_page = f"/tokens?limit=2&cursor={first['next_cursor']}"
        second: Any = client.get(next_page, headers=ann.signed_in).json
        prev_page = f"/tokens?limit=2&cursor={second['prev_cursor']}"
        again: Any = client.get(prev_page, headers=ann.signed_in).json

        ids = [item["id"] for item in (*first["items"], *second["items"])]
        assert ids == sorted(set(ids), reverse=True)
        assert len(ids) == 4
        assert again["items"] == first["items"]


EMPTY: Page = {"items": [], "next_cursor": None, "prev_cursor": None}
ANN_ID = select(User.id).where(User.username == "ann").scalar_subquery()


class TestEveryList:
    @pytest.mark.parametrize("path", ["/posts", "/posts?author=ann", "/users", "/users?q=a"])
    def test_is_empty_where_there_is_nothing(self, client: ContractClient, path: str) -> None:
        response = client.get(path)

        assert response.json == EMPTY
        assert "Link" not in response.headers

    @pytest.mark.parametrize(
        ("path", "query"),
        [
            ("/posts", {}),
            ("/posts", {"limit": "1"}),
            ("/posts", {"author": "aNN", "limit": "2"}),
            ("/users", {"limit": "2"}),
            ("/users", {"q": "US", "limit": "1"}),
            ("/users/Ann/posts", {"limit": "1"}),
            ("/users/Ann/followers", {"limit": "1", "expand": "counts"}),
            ("/users/Ann/following", {}),
            ("/posts/{post_id}/replies", {"limit": "2"}),
            ("/posts/{post_id}/likes", {"limit": "2"}),
            ("/me/likes", {"limit": "39"}),
            ("/feed", {"expand": "viewer,counts"}),
            ("/tokens", {"limit": "1"}),
        ],
    )
    def test_has_links_to_its_neighbours_with_the_other_parameters(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        ann: Member,
        path: str,
        query: dict[str, str],
    ) -> None:
        path = path.format(post_id=fill(app, ann, 50))
        publish(app, ann, 25)
        for _ in range(25):
            make.user()
        for _ in range(3):
            client.post("/tokens", auth=(ann.username, ann.password))

        response = client.get(f"{path}?{urlencode(query)}", headers=ann.signed_in)

        links = {relation: urlsplit(target) for target, relation in LINK.findall(response.headers["Link"])}
        assert links.keys() == {"next", "prev"}
        for relation, link in links.items():
            assert link.path == PREFIX + path
            cursor = response.json[f"{relation}_cursor"]
            assert parse_qs(link.query) == {name: [value] for name, value in query.items()} | {
                "cursor": [cursor]
            }

    def test_has_links_that_can_be_followed_to_its_end(
        self, app: Flask, client: ContractClient, ann: Member
    ) -> None:
        publish(app, ann, 3)
        first = client.get("/posts?author=ann&limit=2")
        target = dict(map(reversed, LINK.findall(first.headers["Link"])))["next"]

        last = client.get(target.removeprefix(PREFIX))

        assert len(last.json["items"]) == 1
        assert [relation for _, relation in LINK.findall(last.headers["Link"])] == ["prev"]

    @pytest.mark.parametrize("path", ["/me/likes", "/feed"])
    def test_of_the_callers_is_empty_where_there_is_nothing(
        self, client: ContractClient, ann: Member, path: str
    ) -> None:
        assert read(client, path, ann.signed_in) == EMPTY

    @pytest.mark.parametrize(
        "path",
        [
            "/users/ann/followers",
            "/users/ann/following",
            "/posts/{post_id}/replies",
            "/posts/{post_id}/likes",
        ],
    )
    def test_about_something_is_empty_where_there_is_nothing(
        self, client: ContractClient, make: Factory, ann: Member, path: str
    ) -> None:
        path = path.format(post_id=make.post(ann))

        assert read(client, path) == EMPTY

    @pytest.mark.parametrize("limit", [1, 7, 40, 100])
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            pytest.param(
                "/feed",
                select(Post.id)
                .where(
                    (Post.user_id == ANN_ID)
                    | Post.user_id.in_(select(Follow.followed_id).where(Follow.follower_id == ANN_ID))
                )
                .order_by(Post.id.desc()),
                id="feed",
            ),
            pytest.param(
                "/me/likes",
                select(Like.post_id).where(Like.user_id == ANN_ID).order_by(Like.id.desc()),
                id="likes",
            ),
            pytest.param(
                "/posts/{post_id}/replies",
                select(Post.id).where(Post.in_reply_to_id.is_not(None)).order_by(Post.id),
                id="replies",
            ),
            pytest.param(
                "/posts/{post_id}/likes",
                select(Like.user_id)
                .where(Like.post_id == select(func.min(Post.in_reply_to_id)).scalar_subquery())
                .order_by(Like.id.desc()),
                id="likes of a post",
            ),
            pytest.param(
                "/users/ann/followers",
                select(Follow.follower_id).where(Follow.followed_id == ANN_ID).order_by(Follow.id.desc()),
                id="followers",
            ),
            pytest.param(
                "/users/ann/following",
                select(Follow.followed_id).where(Follow.follower_id == ANN_ID).order_by(Follow.id.desc()),
                id="followed",
            ),
        ],
    )
    def test_is_complete_and_in_order_forth_and_back(
        self,
        app: Flask,
        client: ContractClient,
        ann: Member,
        path: str,
        expected: Select[int],
        limit: int,
    ) -> None:
        path = path.format(post_id=fill(app, ann, 50))
        query: dict[str, Any] = {"headers": ann.signed_in, "limit": limit}

        forth = list(walk(client, path, read(client, path, **query), "next", **query))
        back = list(walk(client, path, forth[-1], "prev", **query))

        with app.app_context():
            assert shown(forth) == db.session.scalars(expected).all()
        assert shown(back[::-1]) == shown(forth)
        assert len(shown(forth)) >= 40
        assert all(len(page["items"]) == limit for page in forth[:-1])
        assert forth[-1]["next_cursor"] is None


LINK = re.compile(r'<([^>]*)>; rel="(\w+)"')

# How each database says how it would read, and what to tell it first about what is in its tables.
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}
# (A bitmap of a row costs what the index does, and the planner may toss up; but it is sorted afterwards.)
MEASURE = {
    "sqlite": "SELECT 1",
    "postgresql": "SET LOCAL enable_bitmapscan = off; "
    "ANALYZE users, posts, sessions, likes, follows, entities",
}
# (A bitmap of one row is as good as the index.)
SLOW = re.compile(r"\bSCAN (?!anon)|TEMP B-TREE|Seq Scan|\bSort\b|Hash|Bitmap.* rows=(?!1 )")
# A feed goes through those whom its reader follows, never through all posts, users or follows. (Here it has
# nearly all of them: test_feed.py measures on PostgreSQL what it reads where others write more.)
SLOW_FEED = re.compile(r"\bSCAN (posts|users|follows)")


# A list, and the index to read it by (on SQLite, on PostgreSQL).
PUBLIC_LISTS = [
    pytest.param("/posts", r"posts USING INTEGER PRIMARY KEY|pk_posts", id="posts"),
    pytest.param("/posts?author=user7", "ix_posts_user_id_id", id="posts of an author"),
    pytest.param("/users", r"users USING INTEGER PRIMARY KEY|pk_users", id="users"),
    pytest.param("/users?q=u", r"\(folded_username>|uq_users_folded_username", id="users by prefix"),
    pytest.param("/users/user7/posts", "ix_posts_user_id_id", id="posts of a user"),
    pytest.param("/users/user7/followers", "ix_follows_followed_id_id", id="followers"),
    pytest.param("/users/user7/following", "ix_follows_follower_id_id", id="followed"),
    pytest.param("/posts/{post_id}/replies", "ix_posts_in_reply_to_id_id", id="replies"),
    pytest.param("/posts/{post_id}/likes", "ix_likes_post_id_id", id="likes of a post"),
]
LISTS = [
    *PUBLIC_LISTS,
    pytest.param("/me/likes", "ix_likes_user_id_id", id="likes"),
    pytest.param("/feed", "ix_posts_user_id_id", id="feed"),
    pytest.param("/tokens", "ix_sessions_user_id_id", id="sessions"),
]


class TestCost:
    @pytest.mark.parametrize(("path", "_index"), LISTS)
    def test_of_a_page_is_one_statement_besides_the_token(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        statements: list[Statement],
        path: str,
        _index: str,
    ) -> None:
        caller = make.user("user7")
        path = path.format(post_id=fill(app, caller, 50))
        statements.clear()

        response = client.get(path, headers=caller.signed_in)

        assert response.json["items"]
        assert len([statement for statement in statements if "SELECT" in statement.text]) == 2

    @pytest.mark.parametrize(("path", "_index"), PUBLIC_LISTS)
    def test_of_a_page_for_anybody_is_one_statement(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        statements: list[Statement],
        path: str,
        _index: str,
    ) -> None:
        path = path.format(post_id=fill(app, make.user("user7"), 50))
        statements.clear()

        response = client.get(path)

        assert response.json["items"]
        assert len([statement for statement in statements if "SELECT" in statement.text]) == 1

    @pytest.mark.parametrize("relation", ["next", "prev"])
    @pytest.mark.parametrize(("path", "index"), LISTS)
    def test_of_a_page_does_not_grow_with_the_table(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        statements: list[Statement],
        path: str,
        index: str,
        relation: str,
    ) -> None:
        caller = make.user("user7")
        path = path.format(post_id=fill(app, caller, 2_000))
        cursor = client.get(path, headers=caller.signed_in).json[f"{relation}_cursor"]
        separator = "&" if "?" in path else "?"

        response = client.get(f"{path}{separator}cursor={cursor}", headers=caller.signed_in)

        assert response.status_code == 200
        plan = plan_of(app, *statements[-1])
        assert not (SLOW_FEED if path == "/feed" else SLOW).search(plan), plan
        # Where next to nothing is newer, PostgreSQL may as well read all of that.
        assert relation == "prev" or re.search(index, plan), plan


# User 7 is followed by half of all; everybody else by ten, in no order.
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


def test_many_followers_are_read_in_order_not_sorted(new_migrated_app: Callable[..., Flask]) -> None:
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
    """Return how the database would carry out a statement."""
    with app.app_context(), db.engine.connect() as connection:
        dialect = connection.dialect.name
        connection.execute(text(MEASURE[dialect]))
        steps = connection.exec_driver_sql(EXPLAIN[dialect] + statement, parameters)
        return "\n".join([statement, *map(str, steps)])


def mixed(ids: Sequence[int]) -> list[int]:
    """Return the first 40 ids in another order."""
    return [ids[7 * number % 40] for number in range(40)]


def fill(app: Flask, caller: Member, others: int) -> int:
    """Fill the tables; some of the oldest rows are the caller's. Return the id of a post of theirs.

    40 users (of the `others`) answer it and like it; the caller follows them, and they follow the caller, who
    has 40 posts more and likes 40. Likes and follows are in another order than what they are of. With enough
    others the tables are so large that an index is quickest.
    """
    now = utc_now()
    with app.app_context():
        users = [
            {"username": f"u{number}er", "email": f"{number}@example.com", "password_hash": "-", "version": 1}
            for number in range(others)
        ]
        user_ids = sorted(db.session.scalars(insert(User).returning(User.id), users))
        near = user_ids[:40]
        post_id = db.session.scalars(
            insert(Post).returning(Post.id), [{"user_id": caller.id, "body": "Hello.", "version": 1}]
        ).one()
        posts: list[dict[str, Any]] = [
            *[{"user_id": owner, "in_reply_to_id": post_id, "is_reply": True} for owner in near],
            *[
                {"user_id": owner, "in_reply_to_id": None, "is_reply": False}
                for owner in [*[caller.id] * 40, *user_ids]
            ],
        ]
        written = [{**post, "body": "Hello.", "version": 1} for post in posts]
        post_ids = sorted(db.session.scalars(insert(Post).returning(Post.id), written))
        tags = {"start": 0, "end": 6, "tag": "hello", "is_repeat": False}
        db.session.execute(insert(Entity), [{"post_id": one, **tags} for one in post_ids])
        liked = [
            *[(caller.id, one) for one in mixed(post_ids)],
            *[(one, post_id) for one in mixed(near)],
            *zip(user_ids, post_ids[80:], strict=True),
        ]
        db.session.execute(insert(Like), [{"user_id": user, "post_id": post} for user, post in liked])
        followed = [
            *[(caller.id, one) for one in mixed(near)],
            *[(one, caller.id) for one in mixed(near)],
            *pairwise(user_ids),
        ]
        db.session.execute(
            insert(Follow), [{"follower_id": follower, "followed_id": one} for follower, one in followed]
        )
        moments = {"created_at": now, "refreshed_at": now, "expires_at": now + timedelta(days=30)}
        sessions = [{"user_id": owner, **moments} for owner in [*[caller.id] * 40, *user_ids]]
        db.session.execute(insert(Session), sessions)
        db.session.commit()
    return post_id
