"""Requests with an `Idempotency-Key`: whoever has lost the answer asks again, and nothing is done twice."""

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

from api.database import db, utc_now
from api.idempotency import LIFE, PURGED_AT_ONCE
from api.models import IdempotencyKey
from tests.conftest import DATABASES, SECRET_KEY
from tests.contract import PREFIX, ContractClient, operations
from tests.factories import PASSWORD, Factory, Member
from tests.patience import patiently
from tests.problems import assert_problem
from tests.races import COMMITTING, at_once, meanwhile
from tests.server import JSON, Server, running_server

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
HELLO = {"body": "Hello."}
ZOE = {"username": "zoe", "email": "zoe@example.com", "password": PASSWORD}

# They answer with secrets, or can be repeated as they are.
TAKES_NONE = {
    "createToken",
    "refreshToken",
    "createPasswordReset",
    "redeemPasswordReset",
    "createEmailVerification",
    "redeemEmailVerification",
}


@pytest.fixture
def ann(make: Factory) -> Member:
    """Somebody with an account."""
    return make.user("ann")


def publish(
    client: ContractClient, member: Member, key: str = KEY, body: str = "Hello.", query: str = ""
) -> TestResponse:
    """Publish a post, with a key."""
    headers = {**member.signed_in, "Idempotency-Key": key}
    return client.post(f"/posts{query}", json={"body": body}, headers=headers)


def register(client: ContractClient, **changes: str) -> TestResponse:
    """Register zoe, with a key."""
    return client.post("/users", json={**ZOE, **changes}, headers={"Idempotency-Key": KEY})


def how_many(client: ContractClient, path: str = "/posts") -> int:
    """Return how many items a list has."""
    page: Any = client.get(f"{path}?limit=100").json
    return len(page["items"])


def kept(app: Flask) -> int:
    """Return how many answers are kept."""
    with app.app_context():
        return db.session.scalars(select(func.count()).select_from(IdempotencyKey)).one()


def age(app: Flask, by: timedelta) -> None:
    """Let time pass for the answers that are kept."""
    with app.app_context():
        db.session.execute(update(IdempotencyKey).values(created_at=utc_now() - by))
        db.session.commit()


def assert_replayed(again: TestResponse, first: TestResponse) -> None:
    """Assert that an answer is one that was given before."""
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.data) == (first.status_code, first.data)
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]


class TestSameRequest:
    def test_is_answered_as_before_and_not_done_again(
        self, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        first = publish(client, ann)
        client.patch(f"/posts/{first.json['id']}", json={"body": "Edited."}, headers=ann.signed_in)

        again = publish(client, ann)

        assert first.status_code == 201
        assert_replayed(again, first)
        assert how_many(client) == 1

    def test_registers_once(self, client: ContractClient) -> None:
        first = register(client)

        again = register(client)

        assert first.status_code == 201
        assert_replayed(again, first)
        assert how_many(client, "/users") == 1

    def test_is_done_again_without_a_key(self, client: ContractClient, ann: Member) -> None:
        answers = [client.post("/posts", json=HELLO, headers=ann.signed_in) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [201, 201]
        assert how_many(client) == 2

    def test_is_the_same_in_another_process(
        self, app: Flask, new_app: Callable[..., Flask], client: ContractClient, ann: Member
    ) -> None:
        first = publish(client, ann)

        again = publish(ContractClient(new_app(app.config["DATABASE_URL"])), ann)

        assert_replayed(again, first)

    def test_must_be_of_somebody_signed_in(self, client: ContractClient, ann: Member) -> None:
        publish(client, ann)

        response = client.post("/posts", json=HELLO, headers={"Idempotency-Key": KEY})

        assert_problem(response, 401, "authentication_required")


class TestOtherRequest:
    @pytest.mark.parametrize(
        "other",
        [{"body": "Bye."}, {"query": "?expand=counts"}, {"body": ""}],
        ids=["body", "query", "invalid"],
    )
    def test_is_refused(self, client: ContractClient, ann: Member, other: dict[str, str]) -> None:
        publish(client, ann)

        response = publish(client, ann, **other)

        reused = {"header": "Idempotency-Key", "code": "reused"}
        assert_problem(response, 422, "idempotency_key_reused", reused)
        assert how_many(client) == 1

    @pytest.mark.parametrize("change", [{"password": "7 blue bicycles"}, {"username": "zoe2"}])
    def test_that_registers_learns_nothing_of_the_first(
        self, client: ContractClient, change: dict[str, str]
    ) -> None:
        register(client)

        response = register(client, **change)

        assert_problem(
            response, 422, "idempotency_key_reused", {"header": "Idempotency-Key", "code": "reused"}
        )
        assert "zoe" not in response.text
        assert how_many(client, "/users") == 1

    def test_of_somebody_else_is_their_own(self, client: ContractClient, make: Factory, ann: Member) -> None:
        answers = [publish(client, ann), publish(client, make.user("bob"))]

        assert [answer.json["author"]["username"] for answer in answers] == ["ann", "bob"]

    def test_to_another_address_is_another(self, client: ContractClient, ann: Member) -> None:
        answers = [publish(client, ann), register(client)]

        assert [answer.status_code for answer in answers] == [201, 201]
        assert "Idempotency-Replayed" not in answers[1].headers


class TestKey:
    @pytest.mark.parametrize(
        ("written", "again"),
        [
            pytest.param(KEY, f'"{KEY}"', id="UUID"),
            pytest.param("a", '"a"', id="1"),
            pytest.param("k" * 255, f'"{"k" * 255}"', id="255"),
            pytest.param("YWJj+/==:_.~!", '"YWJj+/==:_.~!"', id="marks"),
            pytest.param("a\\b", '"a\\\\b"', id="escaped"),
            pytest.param('"\\""', '"\\""', id="a quote"),
        ],
    )
    def test_may_be_in_quotes_or_not(
        self, client: ContractClient, ann: Member, written: str, again: str
    ) -> None:
        first = publish(client, ann, written)

        assert_replayed(publish(client, ann, again), first)

    @pytest.mark.parametrize(
        "written",
        [
            pytest.param("", id="empty"),
            pytest.param('""', id="empty in quotes"),
            pytest.param("k" * 256, id="256"),
            pytest.param(f'"{"k" * 256}"', id="256 in quotes"),
            pytest.param("a b", id="space"),
            pytest.param('"a b"', id="space in quotes"),
            pytest.param('"a', id="no end"),
            pytest.param('a"', id="no beginning"),
            pytest.param('"a\\b"', id="escape of nothing"),
            pytest.param('"a";b=1', id="parameter"),
            pytest.param("a,b", id="two"),
            pytest.param("\N{LATIN SMALL LETTER E WITH ACUTE}", id="beyond ASCII"),
            pytest.param("a\tb", id="tab"),
        ],
    )
    def test_that_is_none_is_refused(self, client: ContractClient, ann: Member, written: str) -> None:
        response = publish(client, ann, written)

        wrong = {"header": "Idempotency-Key", "code": "wrong_format"}
        assert_problem(response, 422, "invalid_input", wrong)
        assert how_many(client) == 0

    def test_is_taken_by_all_that_creates_and_answers_with_no_secret(self) -> None:
        takes = {
            operation["operationId"]
            for _, _, operation in operations()
            if "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
        }

        assert takes == {
            operation["operationId"]
            for method, _, operation in operations()
            if method == "POST" and operation["operationId"] not in TAKES_NONE
        }


class TestFailure:
    def test_of_validation_is_not_kept(self, app: Flask, client: ContractClient, ann: Member) -> None:
        invalid = publish(client, ann, body="")

        valid = publish(client, ann)

        assert [invalid.status_code, valid.status_code] == [422, 201]
        assert kept(app) == 1

    def test_of_a_name_that_is_taken_is_not_kept(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        zoe = make.user("zoe", email="other@example.com")

        taken = register(client)
        client.patch("/me", json={"username": "zoey"}, headers=zoe.signed_in)
        free = register(client)

        assert_problem(taken, 409, "already_taken", {"pointer": "/username", "code": "already_taken"})
        assert free.status_code == 201
        assert "Idempotency-Replayed" not in free.headers


class TestLife:
    def test_ends_after_24_hours(self, app: Flask, client: ContractClient, ann: Member) -> None:
        first = publish(client, ann)

        age(app, LIFE - timedelta(minutes=1))
        second = publish(client, ann)
        age(app, LIFE + timedelta(minutes=1))
        third = publish(client, ann, body="Bye.")

        assert_replayed(second, first)
        assert third.json["body"] == "Bye."
        assert kept(app) == 1

    def test_ends_with_the_next_key(self, app: Flask, client: ContractClient, ann: Member) -> None:
        for number in range(3):
            publish(client, ann, f"key {number}".replace(" ", "-"))
        age(app, LIFE)

        publish(client, ann)

        assert kept(app) == 1

    def test_ends_for_so_many_at_once(self, app: Flask, client: ContractClient, ann: Member) -> None:
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
        age(app, LIFE)

        publish(client, ann)

        assert kept(app) == 5 + 1

    def test_ends_with_the_account(self, app: Flask, client: ContractClient, ann: Member) -> None:
        publish(client, ann)
        register(client)
        pair: Any = client.post("/tokens", auth=("zoe", PASSWORD)).json
        zoe = {"Authorization": f"Bearer {pair['access_token']}"}

        for headers, left in ((ann.signed_in, 1), (zoe, 0)):
            client.delete("/me", json={"password": PASSWORD}, headers=headers)
            assert kept(app) == left


class TestTwins:
    def test_publish_once(self, app: Flask, client: ContractClient, ann: Member) -> None:
        answers = at_once(*[lambda: publish(ContractClient(app), ann)] * 8)

        statuses = {answer.status_code for answer in answers}
        assert {201} <= statuses <= {201, 409}
        assert len({answer.data for answer in answers if answer.status_code == 201}) == 1
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 409)
        assert how_many(client) == 1

    def test_register_once(self, app: Flask, client: ContractClient) -> None:
        answers = at_once(*[lambda: register(ContractClient(app))] * 8)

        statuses = {answer.status_code for answer in answers}
        assert {201} <= statuses <= {201, 409}
        assert len({answer.data for answer in answers if answer.status_code == 201}) == 1
        assert all(answer.json["code"] == "in_progress" for answer in answers if answer.status_code == 409)
        assert how_many(client, "/users") == 1

    # On SQLite the one transaction that writes keeps all others waiting.
    @pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
    def test_that_comes_while_the_first_is_answered_is_told_to_wait(
        self, app: Flask, client: ContractClient, ann: Member
    ) -> None:
        late: list[TestResponse] = []

        def publish_elsewhere() -> None:
            late.append(publish(ContractClient(app), ann))

        with meanwhile(app, publish_elsewhere, COMMITTING):
            first = publish(client, ann)

        assert first.status_code == 201
        assert_problem(late[0], 409, "in_progress")
        assert int(late[0].headers["Retry-After"]) > 0
        assert_replayed(publish(client, ann), first)

    def test_that_was_faster_is_answered_for_both(self, app: Flask, client: ContractClient) -> None:
        fast: list[TestResponse] = []

        # The transaction that found no answer ends before the password is hashed.
        with meanwhile(app, lambda: fast.append(register(ContractClient(app)))):
            slow = register(client)

        assert_replayed(slow, fast[0])
        assert how_many(client, "/users") == 1


@pytest.fixture(params=DATABASES)
def dying(request: pytest.FixtureRequest, tmp_path: Path, new_database_url: Any) -> Iterator[Server]:
    """The service in processes that a request can kill; they are started anew."""
    command = "-m granian --interface wsgi --host 127.0.0.1 --port {port} --respawn-failed-workers"
    database = new_database_url(request.param)
    settings = {"DATABASE_URL": database, "SECRET_KEY": SECRET_KEY, "PASSWORD_HASH_MEMORY": "8"}
    with running_server(tmp_path, [*command.split(), "tests.dying:app"], **settings) as running:
        yield running


@pytest.fixture
def author(dying: Server) -> dict[str, str]:
    """The headers of a request that publishes."""
    ann = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
    dying.send("POST", f"{PREFIX}/users", json=ann)
    basic = {"Authorization": "Basic YW5uOjkgZ3JlZW4gaG9yc2Vz"}
    _, _, pair = dying.send("POST", f"{PREFIX}/tokens", basic)
    return {"Authorization": f"Bearer {pair['access_token']}", "Idempotency-Key": KEY}


def bodies(server: Server) -> list[str]:
    """Return the texts of all posts."""
    _, page = server.get(f"{PREFIX}/posts")
    return [post["body"] for post in page["items"]]


class TestLostAnswer:
    @pytest.mark.parametrize(("moment", "replayed"), [("before_commit", None), ("after_commit", "true")])
    def test_of_a_server_that_is_killed_makes_no_second_post(
        self, dying: Server, author: dict[str, str], moment: str, replayed: str | None
    ) -> None:
        ask = partial(dying.send, "POST", f"{PREFIX}/posts", json=HELLO)

        with pytest.raises((OSError, HTTPException)):
            ask({**author, "Die": moment})
        status, headers, post = patiently(lambda: ask(author), (OSError, HTTPException))

        assert (status, headers["Idempotency-Replayed"]) == (201, replayed)
        assert post["body"] == "Hello."
        assert bodies(dying) == ["Hello."]

    def test_of_a_connection_that_is_cut_makes_no_second_post(
        self, dying: Server, author: dict[str, str]
    ) -> None:
        connection = HTTPConnection("127.0.0.1", dying.port)
        connection.request("POST", f"{PREFIX}/posts", orjson.dumps(HELLO), {**JSON, **author})
        patiently(lambda: bodies(dying)[0], IndexError)  # It is done; but nobody reads the answer.
        connection.close()

        status, headers, post = dying.send("POST", f"{PREFIX}/posts", author, HELLO)

        assert (status, headers["Idempotency-Replayed"]) == (201, "true")
        assert post["body"] == "Hello."
        assert bodies(dying) == ["Hello."]
