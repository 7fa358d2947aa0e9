"""Replacing `SECRET_KEY` while clients hold tokens and cursors signed with the former key."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.mail.kinds import EMAIL_VERIFICATION, PASSWORD_RESET
from api.tokens.routes import COOKIE
from tests.conftest import SECRET_KEY
from tests.support.concurrency import COMMITTING, concurrently, during_request
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_postgresql
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.problems import assert_problem

NEW_KEY = "the next key, the next key, the next key"
# The steps of a rotation without downtime (docs/operating.md): the key, and those that are accepted.
INTRODUCED = (SECRET_KEY, [NEW_KEY])
ROTATED = (NEW_KEY, [SECRET_KEY])
FINISHED: tuple[str, list[str]] = (NEW_KEY, [])
SAME_ORIGIN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
NEW_PASSWORD = "7 blue bicycles"


@pytest.fixture
def at(app: Flask, shared_app: Callable[..., Flask]) -> Callable[[tuple[str, list[str]]], ContractClient]:
    """A function that returns a client of another process of the service, at a step of a rotation."""

    def make_client(step: tuple[str, list[str]]) -> ContractClient:
        key, others = step
        settings = {"SECRET_KEY": key, "SECRET_KEY_FALLBACKS": orjson.dumps(others).decode()}
        return ContractClient(shared_app(app.config["DATABASE_URL"], **settings))

    return make_client


def refresh(client: ContractClient, token: str) -> TestResponse:
    """Exchange a refresh token."""
    return client.post("/tokens/refresh", json={"refresh_token": token})


def cookie_in(response: TestResponse) -> str:
    """Return the refresh token that a response sets as a cookie."""
    name, _, rest = response.headers["Set-Cookie"].partition("=")
    assert name == COOKIE
    return rest.partition(";")[0]


def status_with(client: ContractClient, access_token: str) -> int:
    """Return the status of a request with an access token."""
    return client.get("/me", headers={"Authorization": f"Bearer {access_token}"}).status_code


def publish(client: ContractClient, author: Account, body: str = "Hello.") -> TestResponse:
    """Publish a post, with an idempotency key."""
    headers = {**author.signed_in, "Idempotency-Key": "4f6e0a1c-5b2d-4f8e-9a3b-7c1d2e3f4a5b"}
    return client.post("/posts", json={"body": body}, headers=headers)


class TestFormerKey:
    def test_has_signed_access_tokens_that_are_accepted(self, at: Any, make: Factory) -> None:
        ann = make.user("ann")

        statuses = [status_with(at(step), ann.access_token) for step in (INTRODUCED, ROTATED, FINISHED)]

        assert statuses == [200, 200, 401]

    def test_has_signed_refresh_tokens_whose_next_pair_has_the_present_key(
        self, at: Any, make: Factory
    ) -> None:
        former = make.refresh_token(make.user("ann"))

        pair: Any = refresh(at(ROTATED), former).json

        assert status_with(at(FINISHED), pair["access_token"]) == 200
        assert refresh(at(FINISHED), pair["refresh_token"]).status_code == 200

    def test_has_signed_used_refresh_tokens_that_have_their_grace_period(
        self, at: Any, make: Factory, client: ContractClient
    ) -> None:
        used = make.refresh_token(make.user("ann"))
        first: Any = refresh(client, used).json

        again: Any = refresh(at(ROTATED), used).json

        assert status_with(at(FINISHED), again["access_token"]) == 200
        assert refresh(at(ROTATED), first["refresh_token"]).status_code == 200

    def test_has_signed_cookies_that_are_replaced(
        self, at: Any, make: Factory, client: ContractClient
    ) -> None:
        make.user("ann")
        signed_in = client.post("/tokens?cookie=true", auth=("ann", PASSWORD), headers=SAME_ORIGIN)
        cookies = [cookie_in(signed_in)]

        for step in (ROTATED, FINISHED):
            browser = at(step)
            browser.set_cookie(COOKIE, cookies[-1], path=f"{PREFIX}/tokens")
            refreshed = browser.post("/tokens/refresh", json={}, headers=SAME_ORIGIN)

            assert refreshed.status_code == 200
            cookies.append(cookie_in(refreshed))

    def test_has_signed_cursors_that_are_accepted(
        self, at: Any, make: Factory, client: ContractClient
    ) -> None:
        ids = [make.post() for _ in range(3)]
        first: Any = client.get("/posts?limit=1").json

        second = at(ROTATED).get(f"/posts?limit=1&cursor={first['next_cursor']}").json
        third = at(FINISHED).get(f"/posts?limit=1&cursor={second['next_cursor']}").json
        refused = at(FINISHED).get(f"/posts?limit=1&cursor={first['next_cursor']}")

        assert [page["items"][0]["id"] for page in (first, second, third)] == ids[::-1]
        assert_problem(refused, 400, "invalid_cursor")

    def test_has_hashed_idempotency_keys_that_are_recognized(
        self, at: Any, make: Factory, client: ContractClient
    ) -> None:
        ann = make.user("ann")
        first = publish(client, ann)

        retried = [publish(at(step), ann) for step in (INTRODUCED, ROTATED)]
        other = publish(at(ROTATED), ann, "Another.")

        assert [again.headers.get("Idempotency-Replayed") for again in (first, *retried)] == [
            None,
            "true",
            "true",
        ]
        assert {again.data for again in retried} == {first.data}
        assert other.json["code"] == "idempotency_key_reused"

    @pytest.mark.parametrize("kind", [PASSWORD_RESET, EMAIL_VERIFICATION])
    def test_has_no_part_in_the_tokens_in_emails(self, at: Any, make: Factory, kind: Any) -> None:
        token = make.email_token(make.user("ann"), kind)

        redeemed = {
            PASSWORD_RESET: lambda: at(FINISHED).post(
                "/password-resets/redeem", json={"token": token, "new_password": NEW_PASSWORD}
            ),
            EMAIL_VERIFICATION: lambda: at(FINISHED).post(
                "/email-verifications/redeem", json={"token": token}
            ),
        }[kind]()

        assert redeemed.status_code in {200, 204}


def test_the_next_key_is_accepted_before_it_signs(at: Any, make: Factory) -> None:
    make.user("ann")
    pair: Any = at(ROTATED).post("/tokens", auth=("ann", PASSWORD)).json

    assert status_with(at(INTRODUCED), pair["access_token"]) == 200
    assert refresh(at(INTRODUCED), pair["refresh_token"]).status_code == 200


class TestProcessesAtDifferentSteps:
    def test_publish_once(self, at: Any, make: Factory) -> None:
        ann = make.user("ann")
        clients = [at(INTRODUCED), at(ROTATED)]

        responses = concurrently(*[lambda client=client: publish(client, ann) for client in clients * 4])

        statuses = {response.status_code for response in responses}
        assert {201} <= statuses <= {201, 409}
        assert len(clients[0].get("/posts").json["items"]) == 1

    @on_postgresql  # On SQLite, a transaction that writes blocks all other writers.
    @pytest.mark.parametrize(("first", "second"), [(INTRODUCED, ROTATED), (ROTATED, INTRODUCED)])
    def test_refuse_a_request_that_the_other_is_processing(
        self, at: Any, make: Factory, first: Any, second: Any
    ) -> None:
        ann, processing, other = make.user("ann"), at(first), at(second)
        late: list[TestResponse] = []

        with during_request(processing.application, lambda: late.append(publish(other, ann)), COMMITTING):
            published = publish(processing, ann)

        assert published.status_code == 201
        assert_problem(late[0], 409, "in_progress")
