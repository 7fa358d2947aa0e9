"""Entity tags: what changes them, what a reader is spared by them, and what an editor is warned of."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.contract import ContractClient, example_path, operations
from tests.factories import Factory, Member
from tests.problems import assert_problem
from tests.races import at_once

READS = [
    pytest.param(path, operation, id=operation["operationId"])
    for method, path, operation in operations()
    if "304" in operation["responses"]
]
CHANGES = [
    pytest.param("PATCH", "/posts/42", {"body": "Bye."}, id="updatePost"),
    pytest.param("DELETE", "/posts/42", None, id="deletePost"),
    pytest.param("PATCH", "/me", {"about": "Gardener."}, id="updateAccount"),
    pytest.param("DELETE", "/me", {"password": "9 green horses"}, id="deleteAccount"),
]
MALFORMED = [
    pytest.param("", id="empty"),
    pytest.param(" , ", id="no tag"),
    pytest.param("abc", id="not in quotes"),
    pytest.param('"abc', id="no end"),
    pytest.param('"abc" "def"', id="no comma"),
    pytest.param('"abc", *', id="a star among tags"),
    pytest.param('w/"abc"', id="weak in lower case"),
    pytest.param('W/ "abc"', id="a space within"),
    pytest.param('"a c"', id="a space in the tag"),
    pytest.param('"' * 8001, id="quotes"),
    pytest.param(" " * 8000 + "x", id="spaces"),
]


@pytest.fixture
def ann(make: Factory) -> Member:
    """Somebody who wrote post 42, in which bob is mentioned, in answer to his post 41."""
    ann, bob = make.user("ann"), make.user("bob")
    make.follow(bob, ann)
    make.post(bob, id=41)
    make.post(ann, id=42, in_reply_to_id=41, is_reply=True)
    return ann


def etag_of(client: ContractClient, path: str, member: Member | None = None) -> str:
    """Return the tag of what is at a path."""
    return client.get(path, headers=member.signed_in if member else {}).headers["ETag"]


class TestStrongTag:
    @pytest.mark.parametrize("path", ["/posts/42", "/users/ann", "/me"])
    def test_is_the_member_etag(self, client: ContractClient, ann: Member, path: str) -> None:
        response = client.get(path, headers=ann.signed_in)

        assert response.headers["ETag"] == f'"{response.json["etag"]}"'

    @pytest.mark.parametrize(("path", "listed"), [("/posts/42", "/posts"), ("/users/ann", "/users?q=ann")])
    def test_is_in_lists_too(self, client: ContractClient, ann: Member, path: str, listed: str) -> None:
        page: Any = client.get(listed).json

        assert f'"{page["items"][0]["etag"]}"' == etag_of(client, path)

    def test_comes_with_a_new_post(self, client: ContractClient, ann: Member) -> None:
        body = "Hi @bob, the #garden is green."

        response = client.post(
            "/posts?expand=counts", json={"body": body, "in_reply_to_id": 42}, headers=ann.signed_in
        )

        post: Any = response.json
        assert len(post["entities"]) == 2
        assert response.headers["ETag"] == f'"{post["etag"]}"' == etag_of(client, f"/posts/{post['id']}")

    def test_comes_with_a_change(self, client: ContractClient, ann: Member) -> None:
        before = etag_of(client, "/posts/42")

        response = client.patch("/posts/42", json={"body": "Hi @bob."}, headers=ann.signed_in)

        assert response.headers["ETag"] == etag_of(client, "/posts/42") != before

    def test_comes_with_a_change_of_ones_account(self, client: ContractClient, ann: Member) -> None:
        response = client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in)

        assert response.headers["ETag"] == etag_of(client, "/me", ann)

    @pytest.mark.parametrize(
        ("path", "method", "changed", "sent", "who"),
        [
            pytest.param("/posts/42", "PATCH", "/posts/42", {"body": "Bye."}, "ann", id="post: text"),
            pytest.param("/posts/42", "PATCH", "/me", {"username": "anna"}, "ann", id="post: author"),
            pytest.param("/posts/42", "DELETE", "/posts/41", None, "bob", id="post: what it answers"),
            pytest.param("/posts/43", "PATCH", "/me", {"username": "bobby"}, "bob", id="post: mention"),
            pytest.param(
                "/posts/43", "DELETE", "/me", {"password": "9 green horses"}, "bob", id="post: gone"
            ),
            pytest.param("/users/ann", "PATCH", "/me", {"about": "Botanist."}, "ann", id="user: about"),
            pytest.param(
                "/users/ann", "PATCH", "/me", {"username": "Ann"}, "ann", id="user: case of the name"
            ),
        ],
    )
    def test_changes_with_whatever_is_shown(
        self,
        client: ContractClient,
        make: Factory,
        path: str,
        method: str,
        changed: str,
        sent: Any,
        who: str,
    ) -> None:
        people = {"ann": make.user("ann"), "bob": make.user("bob")}
        make.post(people["bob"], id=41)
        make.post(people["ann"], id=42, in_reply_to_id=41, is_reply=True)
        make.post(people["ann"], id=43)
        client.patch("/posts/43", json={"body": "Hi @bob."}, headers=people["ann"].signed_in)
        before = etag_of(client, path)

        response = client.open(changed, method=method, json=sent, headers=people[who].signed_in)

        assert response.status_code in {200, 204}
        assert etag_of(client, path) != before

    def test_is_another_for_another_user_of_the_same_name(
        self, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        before = etag_of(client, "/users/ann")
        client.patch("/me", json={"username": "anna"}, headers=ann.signed_in)

        make.user("ann", email="ann@example.org")

        assert etag_of(client, "/users/ann") != before

    def test_stays_whatever_strangers_do(self, client: ContractClient, make: Factory, ann: Member) -> None:
        paths = ("/posts/42", "/users/ann")
        before = [etag_of(client, path) for path in paths]
        zoe = make.user("zoe")

        for path in ("/me/likes/42", "/me/following/ann"):
            client.put(path, headers=zoe.signed_in)
        client.post("/posts", json={"body": "@ann", "in_reply_to_id": 42}, headers=zoe.signed_in)

        assert [etag_of(client, path) for path in paths] == before

    def test_of_a_profile_stays_when_its_owner_changes_what_only_they_see(
        self, client: ContractClient, ann: Member
    ) -> None:
        before, mine = etag_of(client, "/users/ann"), etag_of(client, "/me", ann)
        sent = {"email": "other@example.com", "current_password": ann.password}

        client.patch("/me", json=sent, headers=ann.signed_in)

        assert etag_of(client, "/users/ann") == before
        assert etag_of(client, "/me", ann) != mine


class TestWeakTag:
    @pytest.mark.parametrize("path", ["/posts/42?expand=counts", "/posts", "/posts/42/thread"])
    def test_is_of_what_has_more_in_it_than_one_thing(
        self, client: ContractClient, ann: Member, path: str
    ) -> None:
        assert etag_of(client, path).startswith('W/"')

    @pytest.mark.parametrize("path", ["/posts/42?expand=counts", "/posts?expand=counts"])
    def test_changes_with_a_count_that_is_shown(
        self, client: ContractClient, make: Factory, ann: Member, path: str
    ) -> None:
        before = etag_of(client, path)

        make.like(ann, 42)

        assert etag_of(client, path) != before

    @pytest.mark.parametrize("path", ["/posts", "/posts/42/thread"])
    def test_is_another_under_another_secret_which_ends_the_cursors(
        self, app: Flask, new_app: Callable[..., Flask], client: ContractClient, ann: Member, path: str
    ) -> None:
        elsewhere = ContractClient(new_app(app.config["DATABASE_URL"], SECRET_KEY="another, " * 8))

        assert etag_of(elsewhere, path) != etag_of(client, path)

    @pytest.mark.parametrize("path", ["/posts/42?expand=viewer", "/posts?expand=viewer"])
    def test_changes_with_what_the_caller_does(
        self, client: ContractClient, make: Factory, ann: Member, path: str
    ) -> None:
        before = etag_of(client, path, ann)

        make.like(ann, 42)

        assert etag_of(client, path, ann) != before

    @pytest.mark.parametrize("path", ["/posts", "/posts?limit=2", "/posts?author=ann", "/posts/41/replies"])
    def test_of_a_list_changes_with_what_is_on_the_page_or_follows_it(
        self, client: ContractClient, make: Factory, ann: Member, path: str
    ) -> None:
        before = etag_of(client, path)

        make.post(ann, in_reply_to_id=41, is_reply=True)
        published = etag_of(client, path)
        client.patch("/me", json={"username": "Ann"}, headers=ann.signed_in)

        assert len({before, published, etag_of(client, path)}) == 3

    def test_of_a_list_changes_when_there_is_a_next_page(
        self, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        path = "/posts/41/replies?limit=1"
        before: Any = client.get(path)

        make.post(ann, id=43, in_reply_to_id=41, is_reply=True)
        after: Any = client.get(path)

        assert before.json["items"] == after.json["items"]
        assert before.headers["ETag"] != after.headers["ETag"]


@pytest.mark.parametrize(("path", "operation"), READS)
class TestEveryRead:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "written",
        [
            pytest.param("{}", id="the tag"),
            pytest.param('W/"other", {} ,"x,y"', id="a list"),
            pytest.param("*", id="a star"),
        ],
    )
    def test_answers_304_to_who_has_it(
        self,
        client: ContractClient,
        ann: Member,
        path: str,
        operation: dict[str, Any],
        method: str,
        written: str,
    ) -> None:
        path = example_path(path, operation)
        full = client.get(path, headers=ann.signed_in)
        known = {"If-None-Match": written.format(full.headers["ETag"])}

        response = client.open(path, method=method, headers={**ann.signed_in, **known})

        assert response.status_code == 304
        assert response.data == b""
        for name in ("ETag", "Cache-Control", "Vary"):
            assert response.headers[name] == full.headers[name]

    def test_compares_weakly(
        self, client: ContractClient, ann: Member, path: str, operation: dict[str, Any]
    ) -> None:
        path = example_path(path, operation)
        opaque = etag_of(client, path, ann).removeprefix("W/")

        for tag in (opaque, f"W/{opaque}"):
            response = client.get(path, headers={**ann.signed_in, "If-None-Match": tag})
            assert response.status_code == 304

    def test_answers_200_to_who_has_another(
        self, client: ContractClient, ann: Member, path: str, operation: dict[str, Any]
    ) -> None:
        known = {"If-None-Match": '"other", W/"one", ""'}

        response = client.get(example_path(path, operation), headers={**ann.signed_in, **known})

        assert response.status_code == 200

    @pytest.mark.parametrize("written", MALFORMED)
    def test_refuses_what_is_no_list_of_tags(
        self, client: ContractClient, ann: Member, path: str, operation: dict[str, Any], written: str
    ) -> None:
        known = {"If-None-Match": written}

        response = client.get(example_path(path, operation), headers={**ann.signed_in, **known})

        wrong = {"header": "If-None-Match", "code": "wrong_format"}
        assert_problem(response, 422, "invalid_input", wrong)

    def test_says_who_may_keep_it(
        self, client: ContractClient, ann: Member, path: str, operation: dict[str, Any]
    ) -> None:
        path = example_path(path, operation)
        for_ann = client.get(path, headers=ann.signed_in)
        for_all = client.get(path)

        is_confidential = operation["operationId"] in {"getAccount", "listTokens"}
        assert for_ann.headers["Cache-Control"] == ("no-store" if is_confidential else "private, no-cache")
        assert for_ann.headers["Vary"] == "Authorization"
        is_public = not operation["security"]
        assert for_all.headers["Cache-Control"] == ("public, no-cache" if is_public else "no-store")


def test_every_read_that_shows_something_is_conditional() -> None:
    shown = {
        operation["operationId"]
        for method, _, operation in operations()
        if method == "GET" and "200" in operation["responses"]
    }

    assert shown == {parameter.id for parameter in READS}


@pytest.mark.parametrize(("method", "path", "sent"), CHANGES)
class TestEveryChange:
    @pytest.mark.parametrize(
        "written",
        [
            pytest.param('"{}"', id="the tag"),
            pytest.param(' "other",,W/"{0}" , "{0}"', id="a list"),
            pytest.param("*", id="a star"),
            pytest.param(None, id="nothing"),
        ],
    )
    def test_is_made_to_what_the_caller_knows(
        self, client: ContractClient, ann: Member, method: str, path: str, sent: Any, written: str | None
    ) -> None:
        etag = etag_of(client, path, ann).strip('"')
        condition = {"If-Match": written.format(etag)} if written else {}

        response = client.open(path, method=method, json=sent, headers={**ann.signed_in, **condition})

        assert response.status_code in {200, 204}

    @pytest.mark.parametrize(
        "written",
        [
            pytest.param('"other"', id="another tag"),
            pytest.param('W/"{}"', id="a weak one"),
            pytest.param('"other", "W/{}", ""', id="a list of others"),
        ],
    )
    def test_is_refused_with_the_current_tag_to_who_knows_something_else(
        self, client: ContractClient, ann: Member, method: str, path: str, sent: Any, written: str
    ) -> None:
        before: Any = client.get(path, headers=ann.signed_in).json
        condition = {"If-Match": written.format(before["etag"])}

        response = client.open(path, method=method, json=sent, headers={**ann.signed_in, **condition})

        assert_problem(response, 412, "precondition_failed")
        assert response.json["etag"] == before["etag"]
        assert response.headers["ETag"] == f'"{before["etag"]}"'
        assert client.get(path, headers=ann.signed_in).json == before

    @pytest.mark.parametrize("written", MALFORMED)
    def test_is_refused_where_the_condition_cannot_be_read(
        self, client: ContractClient, ann: Member, method: str, path: str, sent: Any, written: str
    ) -> None:
        before: Any = client.get(path, headers=ann.signed_in).json

        response = client.open(path, method=method, json=sent, headers={**ann.signed_in, "If-Match": written})

        assert_problem(response, 422, "invalid_input", {"header": "If-Match", "code": "wrong_format"})
        assert client.get(path, headers=ann.signed_in).json == before

    def test_is_made_once_with_one_tag(
        self, app: Flask, client: ContractClient, ann: Member, method: str, path: str, sent: Any
    ) -> None:
        headers = {**ann.signed_in, "If-Match": etag_of(client, path, ann)}

        def change(number: int) -> int:
            fields = (
                {name: f"{value} {number}" for name, value in sent.items()} if method == "PATCH" else sent
            )
            response = ContractClient(app).open(path, method=method, json=fields, headers=headers)
            return response.status_code

        statuses = sorted(at_once(*(partial(change, number) for number in range(8))))

        # Once it is deleted, there is nothing, or nobody, to compare with.
        others = {"/posts/42": {404}, "/me": {401}}[path] if method == "DELETE" else {412}
        assert statuses[0] in {200, 204}
        assert set(statuses[1:]) == others


class TestCondition:
    def test_of_a_stranger_makes_no_difference(
        self, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        headers = {**make.user().signed_in, "If-Match": '"other"'}

        response = client.patch("/posts/42", json={"body": "Bye."}, headers=headers)

        assert_problem(response, 403, "forbidden")

    def test_holds_for_two_who_edit_one_after_the_other(self, client: ContractClient, ann: Member) -> None:
        first = {**ann.signed_in, "If-Match": etag_of(client, "/posts/42")}

        answer = client.patch("/posts/42", json={"body": "one"}, headers=first)
        late = client.patch("/posts/42", json={"body": "two"}, headers=first)
        again = client.patch(
            "/posts/42",
            json={"body": "three"},
            headers={**ann.signed_in, "If-Match": f'"{late.json["etag"]}"'},
        )

        assert [answer.status_code, late.status_code, again.status_code] == [200, 412, 200]

    def test_is_not_asked_of_requests_that_create(self, client: ContractClient, ann: Member) -> None:
        headers = {**ann.signed_in, "If-None-Match": "*"}

        response = client.post("/posts", json={"body": "Hello."}, headers=headers)

        assert response.status_code == 201
        assert response.headers["Cache-Control"] == "no-store"
