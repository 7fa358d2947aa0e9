"""Entity tags: their changes, 304 for unchanged representations, and 412 for concurrent edits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.operations import ANYONE, OPERATIONS, Operation, cases
from tests.support.concurrency import concurrently
from tests.support.contract import ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import Account, Factory
from tests.support.problems import assert_problem
from tests.support.world import World, make_world

READS = cases(lambda operation: "304" in operation.contract["responses"])
CHANGES = cases(lambda operation: "If-Match" in operation.names("header"))
MALFORMED = [
    pytest.param("", id="empty"),
    pytest.param(" , ", id="no tag"),
    pytest.param("abc", id="not in quotes"),
    pytest.param('"abc', id="no closing quote"),
    pytest.param('"abc" "def"', id="no comma"),
    pytest.param('"abc", *', id="a star after a tag"),
    pytest.param('w/"abc"', id="weak in lower case"),
    pytest.param('W/ "abc"', id="a space within"),
    pytest.param('"a c"', id="a space in the tag"),
    pytest.param('"' * 8001, id="quotes"),
    pytest.param(" " * 8000 + "x", id="spaces"),
]


@pytest.fixture
def ann(make: Factory) -> Account:
    """The author of post 42, a reply to post 41 by bob."""
    ann, bob = make.user("ann"), make.user("bob")
    make.follow(bob, ann)
    make.post(bob, id=41)
    make.post(ann, id=42, in_reply_to_id=41, is_reply=True)
    return ann


def etag_of(client: ContractClient, path: str, member: Account | None = None) -> str:
    """Return the entity tag of the resource at a path."""
    return client.get(path, headers=member.signed_in if member else {}).headers["ETag"]


class TestStrongTag:
    @pytest.mark.parametrize("path", ["/posts/42", "/users/ann", "/me"])
    def test_is_the_member_etag(self, client: ContractClient, ann: Account, path: str) -> None:
        response = client.get(path, headers=ann.signed_in)

        assert response.headers["ETag"] == f'"{response.json["etag"]}"'

    @pytest.mark.parametrize(("path", "listed"), [("/posts/42", "/posts"), ("/users/ann", "/users?q=ann")])
    def test_is_the_same_in_lists(self, client: ContractClient, ann: Account, path: str, listed: str) -> None:
        page: Any = client.get(listed).json

        assert f'"{page["items"][0]["etag"]}"' == etag_of(client, path)

    def test_is_returned_for_a_new_post(self, client: ContractClient, ann: Account) -> None:
        body = "Hi @bob, the #garden is green."

        response = client.post(
            "/posts?expand=counts", json={"body": body, "in_reply_to_id": 42}, headers=ann.signed_in
        )

        post: Any = response.json
        assert len(post["entities"]) == 2
        assert response.headers["ETag"] == f'"{post["etag"]}"' == etag_of(client, f"/posts/{post['id']}")

    def test_is_returned_for_a_changed_post(self, client: ContractClient, ann: Account) -> None:
        before = etag_of(client, "/posts/42")

        response = client.patch("/posts/42", json={"body": "Hi @bob."}, headers=ann.signed_in)

        assert response.headers["ETag"] == etag_of(client, "/posts/42") != before

    def test_is_returned_for_a_changed_account(self, client: ContractClient, ann: Account) -> None:
        response = client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in)

        assert response.headers["ETag"] == etag_of(client, "/me", ann)

    @pytest.mark.parametrize(
        ("path", "method", "changed", "sent", "who"),
        [
            pytest.param("/posts/42", "PATCH", "/posts/42", {"body": "Bye."}, "ann", id="post: text"),
            pytest.param("/posts/42", "PATCH", "/me", {"username": "anna"}, "ann", id="post: author"),
            pytest.param("/posts/42", "DELETE", "/posts/41", None, "bob", id="post: parent"),
            pytest.param("/posts/43", "PATCH", "/me", {"username": "bobby"}, "bob", id="post: mention"),
            pytest.param(
                "/posts/43",
                "DELETE",
                "/me",
                {"password": "9 green horses"},
                "bob",
                id="post: mentioned user deleted",
            ),
            pytest.param("/users/ann", "PATCH", "/me", {"about": "Botanist."}, "ann", id="user: about"),
            pytest.param(
                "/users/ann", "PATCH", "/me", {"username": "Ann"}, "ann", id="user: case of the name"
            ),
        ],
    )
    def test_changes_with_every_member(
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

    def test_differs_for_another_user_with_the_same_name(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        before = etag_of(client, "/users/ann")
        client.patch("/me", json={"username": "anna"}, headers=ann.signed_in)

        make.user("ann", email="ann@example.org")

        assert etag_of(client, "/users/ann") != before

    def test_does_not_change_with_likes_replies_and_follows(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        paths = ("/posts/42", "/users/ann")
        before = [etag_of(client, path) for path in paths]
        zoe = make.user("zoe")

        for path in ("/me/likes/42", "/me/following/ann"):
            client.put(path, headers=zoe.signed_in)
        client.post("/posts", json={"body": "@ann", "in_reply_to_id": 42}, headers=zoe.signed_in)

        assert [etag_of(client, path) for path in paths] == before

    def test_of_a_profile_does_not_change_with_private_members(
        self, client: ContractClient, ann: Account
    ) -> None:
        before, mine = etag_of(client, "/users/ann"), etag_of(client, "/me", ann)
        sent = {"email": "other@example.com", "current_password": ann.password}

        client.patch("/me", json=sent, headers=ann.signed_in)

        assert etag_of(client, "/users/ann") == before
        assert etag_of(client, "/me", ann) != mine


class TestWeakTag:
    @pytest.mark.parametrize("path", ["/posts/42?expand=counts", "/posts", "/posts/42/thread"])
    def test_is_returned_for_lists_and_expanded_representations(
        self, client: ContractClient, ann: Account, path: str
    ) -> None:
        assert etag_of(client, path).startswith('W/"')

    @pytest.mark.parametrize("path", ["/posts/42?expand=counts", "/posts?expand=counts"])
    def test_changes_with_an_expanded_count(
        self, client: ContractClient, make: Factory, ann: Account, path: str
    ) -> None:
        before = etag_of(client, path)

        make.like(ann, 42)

        assert etag_of(client, path) != before

    @pytest.mark.parametrize("path", ["/posts", "/posts/42/thread"])
    def test_changes_with_the_secret_key_which_signs_the_cursors(
        self, app: Flask, new_app: Callable[..., Flask], client: ContractClient, ann: Account, path: str
    ) -> None:
        elsewhere = ContractClient(new_app(app.config["DATABASE_URL"], SECRET_KEY="another, " * 8))

        assert etag_of(elsewhere, path) != etag_of(client, path)

    @pytest.mark.parametrize("path", ["/posts/42?expand=viewer", "/posts?expand=viewer"])
    def test_changes_with_the_relation_to_the_caller(
        self, client: ContractClient, make: Factory, ann: Account, path: str
    ) -> None:
        before = etag_of(client, path, ann)

        make.like(ann, 42)

        assert etag_of(client, path, ann) != before

    @pytest.mark.parametrize("path", ["/posts", "/posts?limit=2", "/posts?author=ann", "/posts/41/replies"])
    def test_of_a_list_changes_with_the_items_and_cursors_of_the_page(
        self, client: ContractClient, make: Factory, ann: Account, path: str
    ) -> None:
        before = etag_of(client, path)

        make.post(ann, in_reply_to_id=41, is_reply=True)
        published = etag_of(client, path)
        client.patch("/me", json={"username": "Ann"}, headers=ann.signed_in)

        assert len({before, published, etag_of(client, path)}) == 3

    def test_of_a_list_changes_when_there_is_a_next_page(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        path = "/posts/41/replies?limit=1"
        before: Any = client.get(path)

        make.post(ann, id=43, in_reply_to_id=41, is_reply=True)
        after: Any = client.get(path)

        assert before.json["items"] == after.json["items"]
        assert before.headers["ETag"] != after.headers["ETag"]


@pytest.fixture
def world(make: Factory) -> World:
    """The rows that the operations need."""
    return make_world(make)


@pytest.mark.parametrize("operation", READS)
class TestEveryRead:
    def test_is_not_modified_for_its_tag(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        full = operation.send(client, world)
        opaque = full.headers["ETag"].removeprefix("W/")

        for tag in (opaque, f"W/{opaque}"):  # The comparison is weak.
            response = operation.send(client, world, headers={**world.ann.signed_in, "If-None-Match": tag})

            assert response.status_code == 304
            assert response.data == b""
            for name in ("ETag", "Cache-Control", "Vary"):
                assert response.headers[name] == full.headers[name]

    @on_sqlite
    def test_is_complete_for_another_tag(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        headers = {**world.ann.signed_in, "If-None-Match": '"other", W/"one", ""'}

        response = operation.send(client, world, headers=headers)

        assert response.status_code == 200

    @on_sqlite
    def test_refuses_what_is_not_a_list_of_tags(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        headers = {**world.ann.signed_in, "If-None-Match": "abc"}

        response = operation.send(client, world, headers=headers)

        wrong = {"header": "If-None-Match", "code": "wrong_format"}
        assert_problem(response, 422, "invalid_input", wrong)

    @on_sqlite
    def test_states_which_caches_may_store_it(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        with_token = operation.send(client, world)
        without = operation.send(client, world, headers={})

        private = "no-store" if operation.is_confidential else "private, no-cache"
        public = "public, no-cache" if operation.caller is ANYONE else "no-store"
        assert with_token.headers["Cache-Control"] == private
        assert with_token.headers["Vary"] == "Authorization"
        assert without.headers["Cache-Control"] == public


def test_every_read_with_a_body_is_conditional() -> None:
    with_body = [
        operation
        for operation in OPERATIONS.values()
        if operation.is_safe and "200" in operation.contract["responses"]
    ]

    assert with_body == [case.values[0] for case in READS]


class TestIfNoneMatch:
    """All forms of the header, which `getPost` evaluates like every read."""

    @on_sqlite
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "written",
        [
            pytest.param("{}", id="the tag"),
            pytest.param('W/"other", {} ,"x,y"', id="a list"),
            pytest.param("*", id="a star"),
        ],
    )
    def test_contains_the_tag(self, client: ContractClient, world: World, method: str, written: str) -> None:
        path = f"/posts/{world.post_id}"
        known = written.format(etag_of(client, path))

        response = client.open(path, method=method, headers={"If-None-Match": known})

        assert response.status_code == 304

    @on_sqlite
    @pytest.mark.parametrize("written", MALFORMED)
    def test_is_a_list_of_tags(self, client: ContractClient, world: World, written: str) -> None:
        response = client.get(f"/posts/{world.post_id}", headers={"If-None-Match": written})

        wrong = {"header": "If-None-Match", "code": "wrong_format"}
        assert_problem(response, 422, "invalid_input", wrong)


def read(client: ContractClient, world: World, operation: Operation) -> Any:
    """Return the representation that an operation changes."""
    return operation.send(client, world, method="GET", json=None).json


def change(client: ContractClient, world: World, operation: Operation, condition: str) -> TestResponse:
    """Send the request of an operation with a condition."""
    return operation.send(client, world, headers={**world.ann.signed_in, "If-Match": condition})


@on_sqlite
class TestIfMatch:
    """All forms of the header, which `updatePost` evaluates like every change."""

    OPERATION = OPERATIONS["updatePost"]

    @pytest.mark.parametrize(
        "written",
        [
            pytest.param('"{}"', id="the tag"),
            pytest.param(' "other",,W/"{0}" , "{0}"', id="a list"),
            pytest.param('W/"{}"', id="weakened by nginx"),
            pytest.param('"other", W/"{}"', id="a list with a weakened one"),
            pytest.param("*", id="a star"),
        ],
    )
    def test_contains_the_tag(self, client: ContractClient, world: World, written: str) -> None:
        etag = read(client, world, self.OPERATION)["etag"]

        response = change(client, world, self.OPERATION, written.format(etag))

        assert response.status_code == 200

    @pytest.mark.parametrize(
        "written",
        [
            pytest.param('"other"', id="another tag"),
            pytest.param('W/"other"', id="another weak one"),
            pytest.param('"other", "W/{}", ""', id="a list of others"),
            pytest.param('"{}-other"', id="another suffix"),
        ],
    )
    def test_does_not_contain_the_tag(self, client: ContractClient, world: World, written: str) -> None:
        etag = read(client, world, self.OPERATION)["etag"]

        response = change(client, world, self.OPERATION, written.format(etag))

        assert_problem(response, 412, "precondition_failed")

    @pytest.mark.parametrize("written", MALFORMED)
    def test_is_a_list_of_tags(self, client: ContractClient, world: World, written: str) -> None:
        response = change(client, world, self.OPERATION, written)

        assert_problem(response, 422, "invalid_input", {"header": "If-Match", "code": "wrong_format"})


@pytest.mark.parametrize("operation", CHANGES)
class TestEveryChange:
    @pytest.mark.parametrize("written", ['"{}"', "*", None])
    def test_succeeds_if_the_condition_holds(
        self, client: ContractClient, world: World, operation: Operation, written: str | None
    ) -> None:
        etag = read(client, world, operation)["etag"]
        condition = {"If-Match": written.format(etag)} if written else {}

        response = operation.send(client, world, headers={**world.ann.signed_in, **condition})

        assert response.status_code in {200, 204}

    def test_is_refused_with_the_current_tag_if_the_condition_fails(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        before = read(client, world, operation)

        response = change(client, world, operation, '"other"')

        assert_problem(response, 412, "precondition_failed")
        assert response.json["etag"] == before["etag"]
        assert response.headers["ETag"] == f'"{before["etag"]}"'
        assert read(client, world, operation) == before

    @on_sqlite
    def test_is_refused_if_the_condition_is_malformed(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        before = read(client, world, operation)

        response = change(client, world, operation, "abc")

        assert_problem(response, 422, "invalid_input", {"header": "If-Match", "code": "wrong_format"})
        assert read(client, world, operation) == before

    def test_succeeds_once_for_concurrent_requests_with_the_same_tag(
        self, app: Flask, client: ContractClient, world: World, operation: Operation
    ) -> None:
        etag = read(client, world, operation)["etag"]
        headers = {**world.ann.signed_in, "If-Match": f'"{etag}"'}

        def send(number: int) -> int:
            body = operation.body and operation.body(world)
            if body and operation.method == "PATCH":
                body = {name: f"{value} {number}" for name, value in body.items()}
            return operation.send(ContractClient(app), world, headers=headers, json=body).status_code

        statuses = sorted(concurrently(*(partial(send, number) for number in range(8))))

        # A row that is deleted has no tag; a token of a deleted account is invalid.
        others = {412} if operation.method == "PATCH" else {401, 404}
        assert statuses[0] in {200, 204}
        assert set(statuses[1:]) <= others


class TestMarksOfCompression:
    """Forms in which compressing proxies pass a tag on."""

    FORMS = [
        pytest.param('W/"{}"', id="nginx, Varnish, Cloudflare"),
        pytest.param('"{}-gzip"', id="Apache"),
        pytest.param('W/"{}-gzip"', id="Apache behind nginx"),
        pytest.param('"{}-br"', id="Apache with Brotli"),
        pytest.param('"{}-zstd"', id="Caddy"),
        pytest.param('"{}--gzip"', id="Jetty"),
        pytest.param('"{};gzip"', id="Django before 1.11"),
        pytest.param('"{}:gzip"', id="Flask-Compress"),
        pytest.param('"{}-gzip-gzip"', id="two proxies"),
    ]

    @on_sqlite
    @pytest.mark.parametrize("form", FORMS)
    def test_do_not_change_the_version_that_a_change_is_for(
        self, client: ContractClient, ann: Account, form: str
    ) -> None:
        etag = client.get("/posts/42").json["etag"]
        headers = {**ann.signed_in, "If-Match": form.format(etag)}

        first = client.patch("/posts/42", json={"body": "one"}, headers=headers)
        late = client.delete("/posts/42", headers=headers)

        assert first.status_code == 200
        assert_problem(late, 412, "precondition_failed")

    @on_sqlite
    @pytest.mark.parametrize("path", ["/posts/42", "/posts"])
    @pytest.mark.parametrize("form", FORMS)
    def test_do_not_change_the_copy_of_a_client(
        self, client: ContractClient, ann: Account, form: str, path: str
    ) -> None:
        opaque = etag_of(client, path).removeprefix("W/").strip('"')

        response = client.get(path, headers={"If-None-Match": form.format(opaque)})

        assert response.status_code == 304

    def test_do_not_make_the_tag_of_another_representation_match(
        self, client: ContractClient, ann: Account
    ) -> None:
        headers = {**ann.signed_in, "If-Match": etag_of(client, "/posts/42?expand=counts")}

        response = client.patch("/posts/42", json={"body": "one"}, headers=headers)

        assert_problem(response, 412, "precondition_failed")


class TestCondition:
    def test_does_not_allow_other_users_to_change_the_resource(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        headers = {**make.user().signed_in, "If-Match": '"other"'}

        response = client.patch("/posts/42", json={"body": "Bye."}, headers=headers)

        assert_problem(response, 403, "forbidden")

    def test_holds_for_two_edits_in_sequence(self, client: ContractClient, ann: Account) -> None:
        first = {**ann.signed_in, "If-Match": etag_of(client, "/posts/42")}

        response = client.patch("/posts/42", json={"body": "one"}, headers=first)
        late = client.patch("/posts/42", json={"body": "two"}, headers=first)
        again = client.patch(
            "/posts/42",
            json={"body": "three"},
            headers={**ann.signed_in, "If-Match": f'"{late.json["etag"]}"'},
        )

        assert [response.status_code, late.status_code, again.status_code] == [200, 412, 200]

    def test_is_ignored_by_requests_that_create(self, client: ContractClient, ann: Account) -> None:
        headers = {**ann.signed_in, "If-None-Match": "*"}

        response = client.post("/posts", json={"body": "Hello."}, headers=headers)

        assert response.status_code == 201
        assert response.headers["Cache-Control"] == "no-store"
