"""Follows: follow and unfollow users, check a follow, and list followers and followed users."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from api.db import db
from api.models import Follow
from tests.support.concurrency import concurrently, leaving
from tests.support.contract import ContractClient
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.pagination import items, read_both_ways
from tests.support.representations import includes

ANONYMOUS: dict[str, str] = {}
EMPTY: dict[str, Any] = {"items": [], "next_cursor": None, "prev_cursor": None}
UNKNOWN_USERS = [
    pytest.param("unknown", id="unknown"),
    pytest.param("bo", id="a prefix"),
    pytest.param("bob@example.com", id="email address"),
    pytest.param("b%C3%B6b", id="invalid username"),
]


def counts(client: ContractClient, username: str) -> tuple[int, int]:
    """Return the counts of followers and of followed users in a profile."""
    shown: dict[str, int] = client.get(f"/users/{username}?expand=counts").json["counts"]
    return shown["followers"], shown["following"]


def names(client: ContractClient, path: str) -> list[str]:
    """Return the usernames on the first page of a list."""
    return [user["username"] for user in client.get(path).json["items"]]


def sending(
    app: Flask, method: str, follower: Account, followed: Account, times: int = 1
) -> Callable[[], set[int]]:
    """Return a function that sends follow requests with a separate client, and returns the statuses."""

    def send() -> set[int]:
        own_client = ContractClient(app)
        path = f"/me/following/{followed.username}"
        return {
            own_client.open(path, method=method, headers=follower.signed_in).status_code for _ in range(times)
        }

    return send


class TestCreateFollowing:
    @pytest.mark.parametrize("written", ["bob", "BOB"])
    def test_follows_a_user(self, client: ContractClient, make: Factory, written: str) -> None:
        ann, _bob = make.user("ann"), make.user("Bob")

        response = client.put(f"/me/following/{written}", headers=ann.signed_in)

        assert response.status_code == 204
        assert names(client, "/users/ann/following") == ["Bob"]
        assert names(client, "/users/bob/followers") == ["ann"]
        assert (counts(client, "ann"), counts(client, "bob")) == ((0, 1), (1, 0))

    @pytest.mark.parametrize("written", ["bob", "BOB"])
    def test_changes_nothing_the_second_time(
        self, client: ContractClient, make: Factory, written: str
    ) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        make.follow(ann, bob)
        make.follow(ann, cleo)

        response = client.put(f"/me/following/{written}", headers=ann.signed_in)

        assert response.status_code == 204
        assert names(client, "/users/ann/following") == ["cleo", "bob"]
        assert (counts(client, "ann"), counts(client, "bob")) == ((0, 2), (1, 0))

    @pytest.mark.parametrize("written", ["ann", "ANN"])
    def test_refuses_the_callers_own_username(
        self, client: ContractClient, make: Factory, written: str
    ) -> None:
        ann = make.user("ann")

        response = client.put(f"/me/following/{written}", headers=ann.signed_in)

        assert response.status_code == 422
        assert [(error["parameter"], error["code"]) for error in response.json["errors"]] == [
            ("username", "yourself")
        ]
        assert counts(client, "ann") == (0, 0)

    @pytest.mark.parametrize("username", UNKNOWN_USERS)
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_returns_404_for_an_unknown_username(
        self, client: ContractClient, make: Factory, method: str, username: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)

        response = client.open(f"/me/following/{username}", method=method, headers=ann.signed_in)

        assert response.status_code == 404
        assert counts(client, "ann") == (0, 1)

    def test_follows_a_user_who_is_renamed_later(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)

        client.patch("/me", json={"username": "robert"}, headers=bob.signed_in)

        assert client.get("/me/following/robert", headers=ann.signed_in).status_code == 204
        assert client.get("/me/following/bob", headers=ann.signed_in).status_code == 404

    def test_creates_one_follow_for_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")

        statuses = concurrently(*[sending(app, "PUT", ann, bob)] * 12)

        assert statuses == [{204}] * 12
        assert names(client, "/users/bob/followers") == ["ann"]
        assert (counts(client, "ann"), counts(client, "bob")) == ((0, 1), (1, 0))

    def test_counts_correctly_when_two_users_follow_each_other_concurrently(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")

        statuses = concurrently(
            *[
                sending(app, method, follower, followed, 6)
                for method in ("PUT", "PUT", "DELETE")
                for follower, followed in ((ann, bob), (bob, ann))
            ]
        )

        assert statuses == [{204}] * 6
        for username in ("ann", "bob"):
            assert counts(client, username) == (
                len(names(client, f"/users/{username}/followers")),
                len(names(client, f"/users/{username}/following")),
            )

    def test_counts_correctly_when_all_users_follow_each_other_concurrently(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        members = [make.user() for _ in range(4)]
        pairs = [(one, other) for one in members for other in members if one is not other]

        statuses = concurrently(*[sending(app, "PUT", one, other, 2) for one, other in pairs])

        assert statuses == [{204}] * 12
        assert [counts(client, member.username) for member in members] == [(3, 3)] * 4

    def test_leaves_correct_counters_if_the_account_is_concurrently_deleted(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        members = [make.user() for _ in range(4)]

        for bob in [make.user() for _ in range(8)]:
            for member in members[:2]:
                make.follow(member, bob)
                make.follow(bob, member)
            *statuses, deleted = concurrently(
                *[sending(app, "PUT", member, bob, 3) for member in members],
                *[sending(app, "DELETE", member, bob, 3) for member in members],
                leaving(app, bob),
            )

            assert set().union(*statuses) <= {204, 404, 409}
            assert deleted == {204}
        assert [counts(client, member.username) for member in members] == [(0, 0)] * 4
        with app.app_context():
            assert db.session.scalar(select(func.count()).select_from(Follow)) == 0

    def test_allows_both_accounts_to_be_deleted_concurrently(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        for _ in range(6):
            ann, bob = make.user(), make.user()
            make.follow(ann, bob)
            make.follow(bob, ann)

            statuses = concurrently(leaving(app, ann), leaving(app, bob))

            assert statuses == [{204}, {204}]

    def test_succeeds_or_is_not_found_if_the_user_is_concurrently_renamed(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        members = [make.user() for _ in range(4)]
        bob = make.user("bob")

        def rename() -> set[int]:
            own_client = ContractClient(app)
            return {
                own_client.patch("/me", json={"username": name}, headers=bob.signed_in).status_code
                for name in ("robert", "bob") * 5
            }

        *statuses, renamed = concurrently(
            *[sending(app, method, member, bob, 8) for member in members for method in ("PUT", "DELETE")],
            rename,
        )

        assert set().union(*statuses) <= {204, 404}
        assert renamed == {200}
        assert counts(client, "bob") == (len(names(client, "/users/bob/followers")), 0)

    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        bob = make.user("bob")

        for ann in [make.user() for _ in range(6)]:
            *statuses, deleted = concurrently(
                *[sending(app, method, ann, bob, 3) for method in ("PUT", "PUT", "DELETE")], leaving(app, ann)
            )

            assert set().union(*statuses) <= {204, 401, 409}
            assert deleted == {204}
        assert counts(client, "bob") == (0, 0)


class TestDeleteFollowing:
    @pytest.mark.parametrize("written", ["bob", "BOB"])
    def test_deletes_only_the_follow_of_the_caller(
        self, client: ContractClient, make: Factory, written: str
    ) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        for follower, followed in ((ann, bob), (bob, ann), (ann, cleo), (cleo, bob)):
            make.follow(follower, followed)

        response = client.delete(f"/me/following/{written}", headers=ann.signed_in)

        assert response.status_code == 204
        assert names(client, "/users/ann/following") == ["cleo"]
        assert names(client, "/users/bob/followers") == ["cleo"]
        assert (counts(client, "ann"), counts(client, "bob"), counts(client, "cleo")) == (
            (1, 1),
            (1, 1),
            (1, 1),
        )

    @pytest.mark.parametrize("username", ["ann", "bob"])
    def test_changes_nothing_without_a_follow(
        self, client: ContractClient, make: Factory, username: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(bob, ann)

        responses = [client.delete(f"/me/following/{username}", headers=ann.signed_in) for _ in range(2)]

        assert [response.status_code for response in responses] == [204, 204]
        assert (counts(client, "ann"), counts(client, "bob")) == ((1, 0), (0, 1))

    def test_changes_nothing_the_second_time(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)

        responses = [client.delete("/me/following/bob", headers=ann.signed_in) for _ in range(2)]

        assert [response.status_code for response in responses] == [204, 204]
        assert (counts(client, "ann"), counts(client, "bob")) == ((0, 0), (0, 0))

    def test_decrements_the_count_once_for_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)
        make.follow(bob, ann)

        statuses = concurrently(*[sending(app, "DELETE", ann, bob)] * 12)

        assert statuses == [{204}] * 12
        assert (counts(client, "ann"), counts(client, "bob")) == ((1, 0), (0, 1))


class TestGetFollowing:
    @pytest.mark.parametrize("written", ["bob", "BOB"])
    def test_succeeds_if_the_caller_follows_the_user(
        self, client: ContractClient, make: Factory, written: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)

        response = client.get(f"/me/following/{written}", headers=ann.signed_in)

        assert response.status_code == 204

    @pytest.mark.parametrize("username", ["ann", "bob"])
    def test_returns_404_otherwise(self, client: ContractClient, make: Factory, username: str) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(bob, ann)
        make.follow(ann, make.user("cleo"))

        response = client.get(f"/me/following/{username}", headers=ann.signed_in)

        assert response.status_code == 404


@pytest.mark.parametrize("which", ["followers", "following"])
class TestListEither:
    def test_returns_the_most_recent_follow_first(
        self, client: ContractClient, make: Factory, which: str
    ) -> None:
        ann, bob, cleo, dan = (make.user(username) for username in ("ann", "bob", "cleo", "dan"))
        for first, second in ((cleo, ann), (dan, ann), (bob, ann), (ann, dan), (cleo, dan)):
            make.follow(*(first, second) if which == "followers" else (second, first))

        response = client.get(f"/users/ANN/{which}")

        assert response.status_code == 200
        assert response.json["items"] == [
            client.get(f"/users/{username}").json for username in ("bob", "dan", "cleo")
        ]

    def test_has_pages_in_both_directions(self, client: ContractClient, make: Factory, which: str) -> None:
        ann, members = make.user("ann"), [make.user() for _ in range(5)]
        order = [members[number] for number in (3, 0, 4, 2, 1)]
        for member in order:
            make.follow(*(member, ann) if which == "followers" else (ann, member))

        forth, back = read_both_ways(client, f"/users/ann/{which}", 2, ANONYMOUS)

        expected = [member.id for member in reversed(order)]
        assert [len(page["items"]) for page in forth] == [2, 2, 1]
        assert items(forth, "id") == expected
        assert items(back[::-1], "id") == expected

    def test_is_empty_for_a_user_without_follows(
        self, client: ContractClient, make: Factory, which: str
    ) -> None:
        make.follow(make.user("bob"), make.user("cleo"))
        make.user("ann")

        response = client.get(f"/users/ann/{which}")

        assert response.json == EMPTY

    def test_omits_deleted_users(self, client: ContractClient, make: Factory, which: str) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        for follower, followed in ((ann, bob), (bob, ann), (ann, cleo), (cleo, ann)):
            make.follow(follower, followed)

        client.delete("/me", json={"password": PASSWORD}, headers=bob.signed_in)

        assert names(client, f"/users/ann/{which}") == ["cleo"]
        assert counts(client, "ann") == (1, 1)

    def test_expands_the_relation_to_the_caller(
        self, client: ContractClient, make: Factory, which: str
    ) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        for follower, followed in ((bob, cleo), (cleo, bob), (ann, cleo)):
            make.follow(follower, followed)

        path = f"/users/bob/{which}?expand=counts,viewer"
        [user] = client.get(path, headers=ann.signed_in).json["items"]
        [anonymous_user] = client.get(path).json["items"]

        assert includes(user["counts"], {"posts": 0, "followers": 2, "following": 1})
        assert includes(user["viewer"], {"following": True, "followed_by": False})
        assert anonymous_user == {**user, "viewer": None}

    @pytest.mark.parametrize("username", UNKNOWN_USERS)
    def test_returns_404_for_an_unknown_username(
        self, client: ContractClient, make: Factory, which: str, username: str
    ) -> None:
        make.user("bob")

        response = client.get(f"/users/{username}/{which}")

        assert response.status_code == 404

    def test_refuses_a_cursor_of_the_other_list(
        self, client: ContractClient, make: Factory, which: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.follow(ann, bob)
        make.follow(bob, ann)
        other = {"followers": "following", "following": "followers"}[which]
        cursor = client.get(f"/users/ann/{other}").json["prev_cursor"]

        response = client.get(f"/users/ann/{which}?cursor={cursor}")

        assert response.status_code == 400

    def test_refuses_an_invalid_token(self, client: ContractClient, make: Factory, which: str) -> None:
        make.user("ann")

        response = client.get(f"/users/ann/{which}", headers={"Authorization": "Bearer no"})

        assert response.status_code == 401
