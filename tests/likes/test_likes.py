"""Likes: like and unlike posts, list the posts that you like and the users who like a post."""

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import func, select

from api.db import db
from api.models import Like
from tests.support.concurrency import concurrently, leaving
from tests.support.contract import ContractClient
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.pagination import items, read_both_ways
from tests.support.representations import includes

ANONYMOUS: dict[str, str] = {}
UNKNOWN_POSTS = [
    pytest.param(str(2**63 - 1), id="2^63-1"),
    pytest.param(str(2**63), id="2^63"),
    pytest.param("0", id="zero"),
    pytest.param("abc", id="letters"),
]


def like_count(client: ContractClient, post_id: int) -> int:
    """Return the count of likes in the representation of a post."""
    count: int = client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"]
    return count


def names(client: ContractClient, post_id: int) -> list[str]:
    """Return the usernames of the users who like a post."""
    return [user["username"] for user in client.get(f"/posts/{post_id}/likes").json["items"]]


def liked(client: ContractClient, member: Account) -> list[int]:
    """Return the ids of the posts that a user likes."""
    return [post["id"] for post in client.get("/me/likes", headers=member.signed_in).json["items"]]


def sending(app: Flask, method: str, member: Account, post_id: int, times: int = 1) -> Callable[[], set[int]]:
    """Return a function that sends like requests with a separate client, and returns the statuses."""

    def send() -> set[int]:
        own_client = ContractClient(app)
        path = f"/me/likes/{post_id}"
        return {
            own_client.open(path, method=method, headers=member.signed_in).status_code for _ in range(times)
        }

    return send


class TestCreateLike:
    def test_likes_a_post(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        post_id, other_id = make.post(), make.post()

        response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

        assert response.status_code == 204
        assert names(client, post_id) == ["ann"]
        assert liked(client, ann) == [post_id]
        assert (like_count(client, post_id), like_count(client, other_id)) == (1, 0)

    def test_changes_nothing_the_second_time(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        first, second = make.post(), make.post()
        client.put(f"/me/likes/{first}", headers=ann.signed_in)
        client.put(f"/me/likes/{second}", headers=ann.signed_in)

        response = client.put(f"/me/likes/{first}", headers=ann.signed_in)

        assert response.status_code == 204
        assert like_count(client, first) == 1
        assert liked(client, ann) == [second, first]

    def test_accepts_the_callers_own_post(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        post_id = make.post(ann)

        response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

        assert response.status_code == 204
        assert like_count(client, post_id) == 1

    def test_does_not_change_the_post(self, client: ContractClient, make: Factory) -> None:
        post_id = make.post()
        before = client.get(f"/posts/{post_id}").json

        client.put(f"/me/likes/{post_id}", headers=make.user().signed_in)

        assert client.get(f"/posts/{post_id}").json == before

    def test_creates_one_like_for_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        post_id = make.post()

        statuses = concurrently(*[sending(app, "PUT", ann, post_id)] * 12)

        assert statuses == [{204}] * 12
        assert names(client, post_id) == ["ann"]
        assert like_count(client, post_id) == 1

    def test_counts_concurrent_likes_of_different_users(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        members = [make.user() for _ in range(12)]
        post_id = make.post()

        statuses = concurrently(*[sending(app, "PUT", member, post_id) for member in members])

        assert statuses == [{204}] * 12
        assert like_count(client, post_id) == 12

    def test_counts_correctly_during_concurrent_unlikes(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        leaving, coming = [make.user() for _ in range(8)], [make.user() for _ in range(6)]
        post_id = make.post()
        for member in leaving:
            make.like(member, post_id)

        statuses = concurrently(
            *[sending(app, "DELETE", member, post_id, 2) for member in leaving],
            *[sending(app, "PUT", member, post_id, 2) for member in coming],
        )

        assert statuses == [{204}] * 14
        assert like_count(client, post_id) == 6
        assert sorted(names(client, post_id)) == sorted(member.username for member in coming)

    def test_counts_correctly_after_repeated_concurrent_changes(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        members = [make.user() for _ in range(4)]
        post_id = make.post()

        statuses = concurrently(
            *[sending(app, method, member, post_id, 10) for member in members for method in ("PUT", "DELETE")]
        )

        assert statuses == [{204}] * 8
        assert like_count(client, post_id) == len(names(client, post_id))

    def test_does_not_like_a_concurrently_deleted_post(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user()
        members = [make.user() for _ in range(4)]
        post_ids = [make.post(ann) for _ in range(8)]

        for post_id in post_ids:
            *statuses, deleted = concurrently(
                *[sending(app, "PUT", member, post_id, 3) for member in members],
                lambda: {
                    ContractClient(app).delete(f"/posts/{post_id}", headers=ann.signed_in).status_code  # noqa: B023
                },
            )

            assert set().union(*statuses) <= {204, 404, 409}
            assert deleted == {204}
        with app.app_context():
            assert db.session.scalar(select(func.count()).select_from(Like)) == 0

    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        post_id = make.post()

        for ann in [make.user() for _ in range(6)]:
            *statuses, deleted = concurrently(
                *[sending(app, "PUT", ann, post_id, 4)] * 3,
                *[sending(app, "DELETE", ann, post_id, 4)] * 2,
                leaving(app, ann),
            )

            assert set().union(*statuses) <= {204, 401, 409}
            assert deleted == {204}
        assert like_count(client, post_id) == 0

    @pytest.mark.parametrize("written", UNKNOWN_POSTS)
    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_returns_404_for_an_unknown_post(
        self, client: ContractClient, make: Factory, method: str, written: str
    ) -> None:
        make.post()

        response = client.open(f"/me/likes/{written}", method=method, headers=make.user().signed_in)

        assert response.status_code == 404

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_returns_404_for_a_deleted_post(self, client: ContractClient, make: Factory, method: str) -> None:
        ann = make.user()
        post_id = make.post(ann)
        make.like(ann, post_id)
        client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        response = client.open(f"/me/likes/{post_id}", method=method, headers=ann.signed_in)

        assert response.status_code == 404


class TestDeleteLike:
    def test_deletes_only_the_like_of_the_caller(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        first, second = make.post(), make.post()
        for member in (ann, bob):
            make.like(member, first)
            make.like(member, second)

        response = client.delete(f"/me/likes/{first}", headers=ann.signed_in)

        assert response.status_code == 204
        assert (names(client, first), names(client, second)) == (["bob"], ["bob", "ann"])
        assert (like_count(client, first), like_count(client, second)) == (1, 2)
        assert liked(client, ann) == [second]

    @pytest.mark.parametrize("times", [1, 2], ids=["never liked", "twice"])
    def test_changes_nothing_without_a_like(self, client: ContractClient, make: Factory, times: int) -> None:
        ann = make.user("ann")
        post_id = make.post()
        make.like(make.user("bob"), post_id)

        responses = [client.delete(f"/me/likes/{post_id}", headers=ann.signed_in) for _ in range(times)]

        assert [response.status_code for response in responses] == [204] * times
        assert like_count(client, post_id) == 1

    def test_decrements_the_count_once_for_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        post_id = make.post()
        make.like(ann, post_id)
        make.like(make.user("bob"), post_id)

        statuses = concurrently(*[sending(app, "DELETE", ann, post_id)] * 12)

        assert statuses == [{204}] * 12
        assert like_count(client, post_id) == 1

    def test_succeeds_or_is_not_found_if_the_post_is_concurrently_deleted(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user()
        members = [make.user() for _ in range(6)]

        for post_id in [make.post(ann) for _ in range(8)]:
            for member in members:
                make.like(member, post_id)
            *statuses, deleted = concurrently(
                *[sending(app, "DELETE", member, post_id) for member in members],
                lambda: {
                    ContractClient(app).delete(f"/posts/{post_id}", headers=ann.signed_in).status_code  # noqa: B023
                },
            )

            assert set().union(*statuses) <= {204, 404}
            assert deleted == {204}

    def test_allows_a_new_like_which_is_listed_first(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        first, second = make.post(), make.post()
        make.like(ann, first)
        make.like(ann, second)

        client.delete(f"/me/likes/{first}", headers=ann.signed_in)
        client.put(f"/me/likes/{first}", headers=ann.signed_in)

        assert liked(client, ann) == [first, second]


class TestListLikes:
    def test_returns_the_most_recent_like_first(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        first, second, third = make.post(ann), make.post(bob), make.post(bob)
        for post_id in (second, third, first):
            make.like(ann, post_id)
        make.like(bob, second)

        response = client.get("/me/likes", headers=ann.signed_in)

        assert response.status_code == 200
        assert response.json["items"] == [
            client.get(f"/posts/{post_id}").json for post_id in (first, third, second)
        ]

    def test_has_pages_in_both_directions(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        post_ids = [make.post(ann) for _ in range(5)]
        order = [post_ids[number] for number in (3, 0, 4, 2, 1)]
        for post_id in order:
            make.like(ann, post_id)

        forth, back = read_both_ways(client, "/me/likes", 2, ann.signed_in)

        assert [len(page["items"]) for page in forth] == [2, 2, 1]
        assert items(forth, "id") == order[::-1]
        assert items(back[::-1], "id") == order[::-1]

    def test_is_empty_for_a_user_without_likes(self, client: ContractClient, make: Factory) -> None:
        make.like(make.user("bob"), make.post())

        response = client.get("/me/likes", headers=make.user("ann").signed_in)

        assert response.json == {"items": [], "next_cursor": None, "prev_cursor": None}

    def test_omits_deleted_posts(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        gone, left = make.post(bob), make.post(ann)
        make.like(ann, left)
        make.like(ann, gone)

        client.delete(f"/posts/{gone}", headers=bob.signed_in)

        assert liked(client, ann) == [left]

    def test_expands_that_the_caller_likes_the_posts(self, client: ContractClient, make: Factory) -> None:
        ann, post_id = make.user("ann"), make.post()
        make.like(ann, post_id)
        make.like(make.user("bob"), post_id)

        post = client.get("/me/likes?expand=counts,viewer", headers=ann.signed_in).json["items"][0]

        assert includes(post["counts"], {"like_count": 2, "reply_count": 0})
        assert includes(post["viewer"], {"liked": True})

    def test_refuses_a_cursor_of_another_list(self, client: ContractClient, make: Factory) -> None:
        ann, post_id = make.user("ann"), make.post()
        make.like(ann, post_id)
        cursor = client.get(f"/posts/{post_id}/likes").json["prev_cursor"]

        response = client.get(f"/me/likes?cursor={cursor}", headers=ann.signed_in)

        assert response.status_code == 400
        assert response.json["code"] == "invalid_cursor"


class TestListPostLikes:
    def test_returns_the_most_recent_like_first(self, client: ContractClient, make: Factory) -> None:
        ann, bob, cleo = make.user("ann"), make.user("bob"), make.user("cleo")
        post_id = make.post(ann)
        for member in (bob, cleo, ann):
            make.like(member, post_id)
        make.like(make.user("dan"), make.post(ann))

        response = client.get(f"/posts/{post_id}/likes")

        assert response.status_code == 200
        assert response.json["items"] == [
            client.get(f"/users/{username}").json for username in ("ann", "cleo", "bob")
        ]

    def test_has_pages_in_both_directions(self, client: ContractClient, make: Factory) -> None:
        members = [make.user() for _ in range(5)]
        post_id = make.post()
        order = [members[number] for number in (3, 0, 4, 2, 1)]
        for member in order:
            make.like(member, post_id)

        forth, back = read_both_ways(client, f"/posts/{post_id}/likes", 2, ANONYMOUS)

        expected = [member.id for member in reversed(order)]
        assert [len(page["items"]) for page in forth] == [2, 2, 1]
        assert items(forth, "id") == expected
        assert items(back[::-1], "id") == expected

    def test_is_empty_without_likes(self, client: ContractClient, make: Factory) -> None:
        response = client.get(f"/posts/{make.post()}/likes")

        assert response.json == {"items": [], "next_cursor": None, "prev_cursor": None}

    def test_omits_deleted_users(self, client: ContractClient, make: Factory) -> None:
        ann, bob, post_id = make.user("ann"), make.user("bob"), make.post()
        make.like(ann, post_id)
        make.like(bob, post_id)

        client.delete("/me", json={"password": PASSWORD}, headers=bob.signed_in)

        assert names(client, post_id) == ["ann"]
        assert like_count(client, post_id) == 1

    def test_expands_the_relation_to_the_caller(self, client: ContractClient, make: Factory) -> None:
        ann, bob, post_id = make.user("ann"), make.user("bob"), make.post()
        make.like(bob, post_id)
        make.follow(ann, bob)

        [user] = client.get(f"/posts/{post_id}/likes?expand=counts,viewer", headers=ann.signed_in).json[
            "items"
        ]

        assert includes(user["counts"], {"posts": 0, "followers": 1, "following": 0})
        assert includes(user["viewer"], {"following": True, "followed_by": False})

    @pytest.mark.parametrize("written", UNKNOWN_POSTS)
    def test_returns_404_for_an_unknown_post(self, client: ContractClient, written: str) -> None:
        response = client.get(f"/posts/{written}/likes")

        assert response.status_code == 404

    def test_refuses_an_invalid_token(self, client: ContractClient, make: Factory) -> None:
        response = client.get(f"/posts/{make.post()}/likes", headers={"Authorization": "Bearer no"})

        assert response.status_code == 401
