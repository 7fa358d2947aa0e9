"""Requests with an `Idempotency-Key`: retries return the stored response and change nothing."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from api.contract.idempotency import LIFETIME, PURGED_AT_ONCE
from api.db import db, utc_now
from api.models import IdempotencyKey
from tests.conftest import DATABASES, SECRET_KEY
from tests.support.concurrency import COMMITTING, concurrently, during_request
from tests.support.contract import PREFIX, ContractClient, operations
from tests.support.databases import on_sqlite
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.problems import assert_problem
from tests.support.server import JSON, Server, running_server
from tests.support.wait import wait_until

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
HELLO = {"body": "Hello."}
ZOE = {"username": "zoe", "email": "zoe@example.com", "password": PASSWORD}

# Operations whose responses contain secrets, or that are idempotent without a key.
WITHOUT_KEY = {
    "createToken",
    "refreshToken",
    "createPasswordReset",
    "redeemPasswordReset",
    "createEmailVerification",
    "redeemEmailVerification",
}


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


def publish(
    client: ContractClient, member: Account, key: str = KEY, body: str = "Hello.", query: str = ""
) -> TestResponse:
    """Publish a post, with a key."""
    headers = {**member.signed_in, "Idempotency-Key": key}
    return client.post(f"/posts{query}", json={"body": body}, headers=headers)


def register(client: ContractClient, **changes: str) -> TestResponse:
    """Register zoe, with a key."""
    return client.post("/users", json={**ZOE, **changes}, headers={"Idempotency-Key": KEY})


def count_of(client: ContractClient, path: str = "/posts") -> int:
    """Return the number of items of a list."""
    page: Any = client.get(f"{path}?limit=100").json
    return len(page["items"])


def stored_responses(app: Flask) -> int:
    """Return the number of stored responses."""
    with app.app_context():
        return db.session.scalars(select(func.count()).select_from(IdempotencyKey)).one()


def age(app: Flask, by: timedelta) -> None:
    """Make the stored responses older."""
    with app.app_context():
        db.session.execute(update(IdempotencyKey).values(created_at=utc_now() - by))
        db.session.commit()


def assert_replayed(again: TestResponse, first: TestResponse) -> None:
    """Assert that a response is the stored one."""
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.data) == (first.status_code, first.data)
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]


class TestSameRequest:
    def test_returns_the_stored_response_and_changes_nothing(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        first = publish(client, ann)
        client.patch(f"/posts/{first.json['id']}", json={"body": "Edited."}, headers=ann.signed_in)

        again = publish(client, ann)

        assert first.status_code == 201
        assert_replayed(again, first)
        assert count_of(client) == 1

    def test_registers_once(self, client: ContractClient) -> None:
        first = register(client)

        again = register(client)

        assert first.status_code == 201
        assert_replayed(again, first)
        assert count_of(client, "/users") == 1

    def test_is_processed_again_without_a_key(self, client: ContractClient, ann: Account) -> None:
        responses = [client.post("/posts", json=HELLO, headers=ann.signed_in) for _ in range(2)]

        assert [response.status_code for response in responses] == [201, 201]
        assert count_of(client) == 2

    def test_is_recognized_in_another_process(
        self, app: Flask, new_app: Callable[..., Flask], client: ContractClient, ann: Account
    ) -> None:
        first = publish(client, ann)

        again = publish(ContractClient(new_app(app.config["DATABASE_URL"])), ann)

        assert_replayed(again, first)

    def test_must_be_authenticated(self, client: ContractClient, ann: Account) -> None:
        publish(client, ann)

        response = client.post("/posts", json=HELLO, headers={"Idempotency-Key": KEY})

        assert_problem(response, 401, "authentication_required")


class TestReplay:
    """The response to a retry if the post was changed or deleted since."""

    def test_of_an_edited_post_has_the_first_version_and_its_tag(
        self, client: ContractClient, ann: Account
    ) -> None:
        first = publish(client, ann)
        path = f"/posts/{first.json['id']}"
        edited = client.patch(path, json={"body": "Edited."}, headers=ann.signed_in)

        again = publish(client, ann)
        late = {**ann.signed_in, "If-Match": again.headers["ETag"]}
        response = client.patch(path, json={"body": "Lost update."}, headers=late)

        assert_replayed(again, first)
        assert again.json["body"] == "Hello."
        assert_problem(response, 412, "precondition_failed")
        assert client.get(path).json == edited.json

    def test_of_a_deleted_post_is_gone(self, client: ContractClient, ann: Account) -> None:
        first = publish(client, ann)
        client.delete(f"/posts/{first.json['id']}", headers=ann.signed_in)

        responses = [publish(client, ann) for _ in range(2)]

        for response in responses:
            assert_problem(response, 410, "gone")
            assert response.headers["Idempotency-Replayed"] == "true"
            assert "Hello." not in response.text
        assert count_of(client) == 0

    def test_of_a_post_that_was_edited_and_deleted_is_gone(
        self, client: ContractClient, ann: Account
    ) -> None:
        path = f"/posts/{publish(client, ann).json['id']}"
        client.patch(path, json={"body": "Edited."}, headers=ann.signed_in)
        client.delete(path, headers=ann.signed_in)

        assert_problem(publish(client, ann), 410, "gone")
        assert count_of(client) == 0

    def test_of_another_request_is_refused_after_the_deletion_too(
        self, client: ContractClient, ann: Account
    ) -> None:
        client.delete(f"/posts/{publish(client, ann).json['id']}", headers=ann.signed_in)

        response = publish(client, ann, body="Bye.")

        reused = {"header": "Idempotency-Key", "code": "reused"}
        assert_problem(response, 422, "idempotency_key_reused", reused)
        assert count_of(client) == 0

    def test_of_a_post_with_later_ones_creates_none(self, client: ContractClient, ann: Account) -> None:
        first = publish(client, ann)
        client.delete(f"/posts/{first.json['id']}", headers=ann.signed_in)
        second = publish(client, ann, "another-key")

        assert publish(client, ann).status_code == 410
        assert second.json["id"] != first.json["id"]
        assert count_of(client) == 1

    def test_of_a_reply_remains_after_its_parent_is_deleted(
        self, client: ContractClient, ann: Account
    ) -> None:
        parent_id = publish(client, ann, "another-key").json["id"]
        sent = {
            "json": {**HELLO, "in_reply_to_id": parent_id},
            "headers": {**ann.signed_in, "Idempotency-Key": KEY},
        }
        first = client.post("/posts", **sent)
        client.delete(f"/posts/{parent_id}", headers=ann.signed_in)

        again = client.post("/posts", **sent)

        assert_replayed(again, first)
        assert again.json["in_reply_to_id"] == parent_id

    def test_of_a_post_whose_author_was_deleted_is_unauthorized(
        self, client: ContractClient, ann: Account
    ) -> None:
        publish(client, ann)
        client.delete("/me", json={"password": PASSWORD}, headers=ann.signed_in)

        assert_problem(publish(client, ann), 401, "invalid_token")
        assert count_of(client) == 0

    def test_of_a_registration_after_the_account_is_deleted_registers_again(
        self, client: ContractClient
    ) -> None:
        first = register(client)
        pair: Any = client.post("/tokens", auth=("zoe", PASSWORD)).json
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        client.delete("/me", json={"password": PASSWORD}, headers=headers)

        again = register(client)

        assert again.status_code == 201
        assert "Idempotency-Replayed" not in again.headers
        assert again.json["id"] != first.json["id"]
        assert count_of(client, "/users") == 1


class TestOtherRequest:
    @pytest.mark.parametrize(
        "other",
        [{"body": "Bye."}, {"query": "?expand=counts"}, {"body": ""}],
        ids=["body", "query", "invalid"],
    )
    def test_is_refused(self, client: ContractClient, ann: Account, other: dict[str, str]) -> None:
        publish(client, ann)

        response = publish(client, ann, **other)

        reused = {"header": "Idempotency-Key", "code": "reused"}
        assert_problem(response, 422, "idempotency_key_reused", reused)
        assert count_of(client) == 1

    @pytest.mark.parametrize("change", [{"password": "7 blue bicycles"}, {"username": "zoe2"}])
    def test_for_registration_does_not_reveal_the_first(
        self, client: ContractClient, change: dict[str, str]
    ) -> None:
        register(client)

        response = register(client, **change)

        assert_problem(
            response, 422, "idempotency_key_reused", {"header": "Idempotency-Key", "code": "reused"}
        )
        assert "zoe" not in response.text
        assert count_of(client, "/users") == 1

    def test_of_another_user_is_processed(self, client: ContractClient, make: Factory, ann: Account) -> None:
        responses = [publish(client, ann), publish(client, make.user("bob"))]

        assert [response.json["author"]["username"] for response in responses] == ["ann", "bob"]

    def test_to_another_path_is_processed(self, client: ContractClient, ann: Account) -> None:
        responses = [publish(client, ann), register(client)]

        assert [response.status_code for response in responses] == [201, 201]
        assert "Idempotency-Replayed" not in responses[1].headers


class TestKey:
    @pytest.mark.parametrize(
        ("written", "again"),
        [
            pytest.param(KEY, f'"{KEY}"', id="UUID"),
            pytest.param("a", '"a"', id="1"),
            pytest.param("k" * 255, f'"{"k" * 255}"', id="255"),
            pytest.param("YWJj+/==:_.~!", '"YWJj+/==:_.~!"', id="punctuation"),
            pytest.param("a\\b", '"a\\\\b"', id="escaped"),
            pytest.param('"\\""', '"\\""', id="a quote"),
        ],
    )
    def test_may_be_in_quotes_or_not(
        self, client: ContractClient, ann: Account, written: str, again: str
    ) -> None:
        first = publish(client, ann, written)

        assert_replayed(publish(client, ann, again), first)

    @on_sqlite
    @pytest.mark.parametrize(
        "written",
        [
            pytest.param("", id="empty"),
            pytest.param('""', id="empty in quotes"),
            pytest.param("k" * 256, id="256"),
            pytest.param(f'"{"k" * 256}"', id="256 in quotes"),
            pytest.param("a b", id="space"),
            pytest.param('"a b"', id="space in quotes"),
            pytest.param('"a', id="no closing quote"),
            pytest.param('a"', id="no opening quote"),
            pytest.param('"a\\b"', id="invalid escape"),
            pytest.param('"a";b=1', id="parameter"),
            pytest.param("a,b", id="two keys"),
            pytest.param("\N{LATIN SMALL LETTER E WITH ACUTE}", id="outside ASCII"),
            pytest.param("a\tb", id="tab"),
        ],
    )
    def test_that_is_invalid_is_refused(self, client: ContractClient, ann: Account, written: str) -> None:
        response = publish(client, ann, written)

        wrong = {"header": "Idempotency-Key", "code": "wrong_format"}
        assert_problem(response, 422, "invalid_input", wrong)
        assert count_of(client) == 0

    def test_is_accepted_by_all_operations_that_create_and_return_no_secret(self) -> None:
        takes = {
            operation["operationId"]
            for _, _, operation in operations()
            if "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
        }

        assert takes == {
            operation["operationId"]
            for method, _, operation in operations()
            if method == "POST" and operation["operationId"] not in WITHOUT_KEY
        }


class TestFailure:
    def test_of_validation_is_not_stored(self, app: Flask, client: ContractClient, ann: Account) -> None:
        invalid = publish(client, ann, body="")

        valid = publish(client, ann)

        assert [invalid.status_code, valid.status_code] == [422, 201]
        assert stored_responses(app) == 1

    def test_of_a_unique_constraint_is_not_stored(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        zoe = make.user("zoe", email="other@example.com")

        taken = register(client)
        client.patch("/me", json={"username": "zoey"}, headers=zoe.signed_in)
        free = register(client)

        assert_problem(taken, 409, "already_taken", {"pointer": "/username", "code": "already_taken"})
        assert free.status_code == 201
        assert "Idempotency-Replayed" not in free.headers


class TestLifetime:
    def test_ends_after_24_hours(self, app: Flask, client: ContractClient, ann: Account) -> None:
        first = publish(client, ann)

        age(app, LIFETIME - timedelta(minutes=1))
        second = publish(client, ann)
        age(app, LIFETIME + timedelta(minutes=1))
        third = publish(client, ann, body="Bye.")

        assert_replayed(second, first)
        assert third.json["body"] == "Bye."
        assert stored_responses(app) == 1

    def test_ends_with_the_next_use_of_a_key(self, app: Flask, client: ContractClient, ann: Account) -> None:
        for number in range(3):
            publish(client, ann, f"key {number}".replace(" ", "-"))
        age(app, LIFETIME)

        publish(client, ann)

        assert stored_responses(app) == 1

    def test_ends_for_a_limited_number_at_once(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        with app.app_context():
            db.session.add_all(
                IdempotencyKey(
                    hashed=bytes([number, *range(31)]),
                    fingerprint=bytes(32),
                    user_id=ann.id,
                    status=201,
                    headers={},
                    body=b"{}",
                )
                for number in range(PURGED_AT_ONCE + 5)
            )
            db.session.commit()
        age(app, LIFETIME)

        publish(client, ann)

        assert stored_responses(app) == 5 + 1

    def test_ends_with_the_account(self, app: Flask, client: ContractClient, ann: Account) -> None:
        publish(client, ann)
        register(client)
        pair: Any = client.post("/tokens", auth=("zoe", PASSWORD)).json
        zoe = {"Authorization": f"Bearer {pair['access_token']}"}

        for headers, left in ((ann.signed_in, 1), (zoe, 0)):
            client.delete("/me", json={"password": PASSWORD}, headers=headers)
            assert stored_responses(app) == left


class TestConcurrentRequests:
    def test_publish_once(self, app: Flask, client: ContractClient, ann: Account) -> None:
        responses = concurrently(*[lambda: publish(ContractClient(app), ann)] * 8)

        statuses = {response.status_code for response in responses}
        assert {201} <= statuses <= {201, 409}
        assert len({response.data for response in responses if response.status_code == 201}) == 1
        assert all("Retry-After" in response.headers for response in responses if response.status_code == 409)
        assert count_of(client) == 1

    def test_register_once(self, app: Flask, client: ContractClient) -> None:
        responses = concurrently(*[lambda: register(ContractClient(app))] * 8)

        statuses = {response.status_code for response in responses}
        assert {201} <= statuses <= {201, 409}
        assert len({response.data for response in responses if response.status_code == 201}) == 1
        assert all(
            response.json["code"] == "in_progress" for response in responses if response.status_code == 409
        )
        assert count_of(client, "/users") == 1

    # On SQLite a transaction that writes blocks all other writers.
    @pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
    def test_are_refused_while_the_first_is_processed(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        late: list[TestResponse] = []

        def publish_concurrently() -> None:
            late.append(publish(ContractClient(app), ann))

        with during_request(app, publish_concurrently, COMMITTING):
            first = publish(client, ann)

        assert first.status_code == 201
        assert_problem(late[0], 409, "in_progress")
        assert int(late[0].headers["Retry-After"]) > 0
        assert_replayed(publish(client, ann), first)

    def test_return_no_post_that_is_deleted_meanwhile(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        first = publish(client, ann)
        path = f"/posts/{first.json['id']}"

        responses = concurrently(
            lambda: ContractClient(app).delete(path, headers=ann.signed_in),
            *[lambda: publish(ContractClient(app), ann)] * 4,
        )

        assert responses[0].status_code == 204
        assert {response.status_code for response in responses[1:]} <= {201, 409, 410}
        assert publish(client, ann).status_code == 410
        assert count_of(client) == 0

    def test_return_the_response_that_was_stored_first(self, app: Flask, client: ContractClient) -> None:
        fast: list[TestResponse] = []

        # The transaction that found no stored response ends before the password is hashed.
        with during_request(app, lambda: fast.append(register(ContractClient(app)))):
            slow = register(client)

        assert_replayed(slow, fast[0])
        assert count_of(client, "/users") == 1


@pytest.fixture(params=DATABASES)
def crashing_server(
    request: pytest.FixtureRequest, tmp_path: Path, new_migrated_database_url: Any
) -> Iterator[Server]:
    """The service in processes that a request can kill, and that are then restarted."""
    command = "granian --interface wsgi --host 127.0.0.1 --port {port} --respawn-failed-workers"
    database = new_migrated_database_url(request.param)
    settings = {"DATABASE_URL": database, "SECRET_KEY": SECRET_KEY}
    with running_server(tmp_path, [*command.split(), "tests.support.crash:app"], **settings) as running:
        yield running


@pytest.fixture
def author(crashing_server: Server) -> dict[str, str]:
    """The headers of a request that publishes a post."""
    ann = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
    crashing_server.send("POST", f"{PREFIX}/users", json=ann)
    basic = {"Authorization": "Basic YW5uOjkgZ3JlZW4gaG9yc2Vz"}
    _, _, pair = crashing_server.send("POST", f"{PREFIX}/tokens", basic)
    return {"Authorization": f"Bearer {pair['access_token']}", "Idempotency-Key": KEY}


def bodies(server: Server) -> list[str]:
    """Return the bodies of all posts."""
    _, page = server.get(f"{PREFIX}/posts")
    return [post["body"] for post in page["items"]]


@pytest.mark.slow
class TestLostResponse:
    @pytest.mark.parametrize(("crash", "replayed"), [("before_commit", None), ("after_commit", "true")])
    def test_of_a_killed_server_creates_no_second_post(
        self, crashing_server: Server, author: dict[str, str], crash: str, replayed: str | None
    ) -> None:
        ask = partial(crashing_server.send, "POST", f"{PREFIX}/posts", json=HELLO)

        with pytest.raises((OSError, HTTPException)):
            ask({**author, "Die": crash})
        status, headers, post = wait_until(lambda: ask(author), (OSError, HTTPException))

        assert (status, headers["Idempotency-Replayed"]) == (201, replayed)
        assert post["body"] == "Hello."
        assert bodies(crashing_server) == ["Hello."]

    def test_of_a_closed_connection_creates_no_second_post(
        self, crashing_server: Server, author: dict[str, str]
    ) -> None:
        connection = HTTPConnection("127.0.0.1", crashing_server.port)
        connection.request("POST", f"{PREFIX}/posts", orjson.dumps(HELLO), {**JSON, **author})
        wait_until(
            lambda: bodies(crashing_server)[0], IndexError
        )  # The request was processed, but the response is not read.
        connection.close()

        status, headers, post = crashing_server.send("POST", f"{PREFIX}/posts", author, HELLO)

        assert (status, headers["Idempotency-Replayed"]) == (201, "true")
        assert post["body"] == "Hello."
        assert bodies(crashing_server) == ["Hello."]
