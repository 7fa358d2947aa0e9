"""Password resets: with a token in an email, once, without revealing which addresses have an account."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from api.db import db
from api.mail.kinds import PASSWORD_RESET
from api.models import EmailToken
from tests.support.concurrency import concurrently, during_request
from tests.support.contract import ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.mailbox import Mailbox, let_pass
from tests.support.problems import assert_problem
from tests.users.test_users import (
    ACCEPTED_PASSWORDS,
    NAMES_FOR_PASSWORDS,
    NEW_PASSWORD,
    REFUSED_PASSWORDS,
    SURROUNDINGS,
    account_of,
    bearer,
    change_password,
    delete_account,
    errors_of,
    sign_in,
)

SUBJECT = "Reset your Microblog password"
WRONG_TOKEN = {"pointer": "/token", "code": "wrong_token"}


def request_reset(client: ContractClient, email: str = "ann@example.com") -> TestResponse:
    """Request a password reset."""
    return client.post("/password-resets", json={"email": email})


def redeem(client: ContractClient, token: str, new_password: str = NEW_PASSWORD) -> TestResponse:
    """Choose a new password with a token."""
    sent = {"token": token, "new_password": new_password}
    return client.post("/password-resets/redeem", json=sent)


def change_email(client: ContractClient, member: Account, email: str) -> TestResponse:
    """Change the email address."""
    sent = {"email": email, "current_password": member.password}
    return client.patch("/me", json=sent, headers=member.signed_in)


def visible_parts(response: TestResponse) -> tuple[int, bytes, dict[str, str]]:
    """Return a response without its request id and rate-limit headers."""
    own = {"X-Request-Id", "RateLimit"}
    headers = {name: value for name, value in response.headers if name not in own}
    return response.status_code, response.data, headers


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


@pytest.fixture
def token(client: ContractClient, ann: Account, mailbox: Mailbox) -> str:
    """The token in the email to ann."""
    request_reset(client)
    return mailbox.token(SUBJECT)


class TestCreatePasswordReset:
    def test_sends_an_email_to_the_user_with_the_address(
        self, client: ContractClient, make: Factory, ann: Account, mailbox: Mailbox
    ) -> None:
        make.user("bob")

        response = request_reset(client)

        assert response.status_code == 202
        (received,) = mailbox.received()
        assert received.to == ["ann@example.com"]
        assert received.message["To"] == "ann@example.com"
        assert received.message["From"] == "Microblog <microblog@localhost>"
        assert received.message["Auto-Submitted"] == "auto-generated"
        assert received.message.get_content_type() == "text/plain"
        assert received.subject == SUBJECT
        assert received.text.startswith("Hello ann,\n\nWe received a request to reset the password")
        assert "POST /api/v1/password-resets/redeem." in received.text
        assert received.text.endswith("\nMicroblog\n")

    def test_contains_the_page_of_the_front_end(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(app.config, "PASSWORD_RESET_URL", "https://app.example/reset#{token}")

        request_reset(client)

        assert f"\nhttps://app.example/reset#{mailbox.token(SUBJECT)}\n" in mailbox.received()[0].text
        assert "POST" not in mailbox.received()[0].text

    @pytest.mark.parametrize(
        ("stored", "requested"),
        [
            pytest.param("Ann@example.com", "ANN@Example.COM", id="in another case"),
            pytest.param("ann@xn--bcher-kva.example", "ann@bücher.example", id="outside ASCII"),
            pytest.param("ann@xn--bcher-kva.example", "ann@bu\u0308cher.example", id="not composed"),
        ],
    )
    def test_finds_the_address_in_every_equivalent_form(
        self, client: ContractClient, make: Factory, mailbox: Mailbox, stored: str, requested: str
    ) -> None:
        make.user("ann", email=stored)

        request_reset(client, requested)

        assert mailbox.subjects(stored) == [SUBJECT]

    @on_sqlite
    @pytest.mark.parametrize("surrounded", SURROUNDINGS)
    def test_ignores_white_space_around_the_address(
        self, client: ContractClient, ann: Account, mailbox: Mailbox, surrounded: str
    ) -> None:
        request_reset(client, surrounded.format(ann.email))

        assert mailbox.subjects(ann.email) == [SUBJECT]

    def test_finds_the_address_of_a_domain_that_is_no_longer_allowed(
        self, client: ContractClient, make: Factory, mailbox: Mailbox
    ) -> None:
        make.user("ann", email="ann@corp.local")

        request_reset(client, "Ann@CORP.local")

        assert mailbox.subjects("ann@corp.local") == [SUBJECT]

    def test_does_not_reveal_whether_an_account_exists(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        known, again, unknown = (
            request_reset(client),
            request_reset(client),
            request_reset(client, "unknown@example.com"),
        )

        assert visible_parts(known) == visible_parts(again) == visible_parts(unknown)
        assert [received.to for received in mailbox.received()] == [["ann@example.com"]]

    @on_sqlite
    @pytest.mark.parametrize("email", ["ann", "ann@example.com\n.", "a@example.com, b@example.com"])
    def test_refuses_an_invalid_address(
        self, client: ContractClient, ann: Account, mailbox: Mailbox, email: str
    ) -> None:
        response = request_reset(client, email)

        assert_problem(response, 422, "invalid_input", {"pointer": "/email", "code": "wrong_format"})
        assert mailbox.received() == []

    def test_stores_only_a_hash_of_the_token(self, app: Flask, token: str) -> None:
        with app.app_context():
            email_token = db.session.scalars(select(EmailToken)).one()

        assert email_token.token_hash == sha256(token.encode()).hexdigest()

    def test_replaces_the_previous_token(
        self, app: Flask, client: ContractClient, token: str, mailbox: Mailbox
    ) -> None:
        let_pass(app, timedelta(seconds=61))
        request_reset(client)
        new_token = mailbox.token(SUBJECT)

        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert redeem(client, new_token).status_code == 204

    def test_sends_one_email_a_minute_for_any_number_of_requests(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        responses = concurrently(*[lambda: request_reset(ContractClient(app))] * 6)
        let_pass(app, timedelta(seconds=55))
        request_reset(client)

        assert {response.status_code for response in responses} == {202}
        assert mailbox.subjects("ann@example.com") == [SUBJECT]

    def test_waits_a_minute_even_if_the_token_was_used(
        self, client: ContractClient, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)
        change_password(client, bearer(sign_in(client, "ann", NEW_PASSWORD)), NEW_PASSWORD, PASSWORD)

        request_reset(client)

        assert mailbox.subjects("ann@example.com") == [SUBJECT]

    def test_deletes_records_of_old_emails(
        self, app: Flask, client: ContractClient, ann: Account, token: str
    ) -> None:
        change_email(client, ann, "cleo@example.com")
        let_pass(app, timedelta(minutes=31))

        request_reset(client, "cleo@example.com")

        let_pass(app, timedelta())
        with app.app_context():
            assert db.session.scalars(select(EmailToken.email)).all() == ["cleo@example.com"]


class TestRedeemPasswordReset:
    @pytest.fixture
    def token(self, make: Factory, ann: Account) -> str:
        """The token of ann, as if it had been sent."""
        return make.email_token(ann, PASSWORD_RESET)

    def test_replaces_the_password(self, client: ContractClient, token: str) -> None:
        response = redeem(client, token)

        assert response.status_code == 204
        assert sign_in(client, "ann", PASSWORD).status_code == 401
        assert sign_in(client, "ann", NEW_PASSWORD).status_code == 200

    @on_sqlite
    @pytest.mark.parametrize("surrounded", SURROUNDINGS)
    def test_ignores_white_space_around_the_token(
        self, client: ContractClient, token: str, surrounded: str
    ) -> None:
        response = redeem(client, surrounded.format(token))

        assert response.status_code == 204

    def test_ends_all_sessions_of_the_user(
        self, client: ContractClient, make: Factory, ann: Account, token: str
    ) -> None:
        bob, pair = make.user("bob"), sign_in(client, "ann")

        redeem(client, token)

        refresh = {"refresh_token": pair.json["refresh_token"]}
        assert client.get("/me", headers=ann.signed_in).status_code == 401
        assert client.get("/me", headers=bearer(pair)).status_code == 401
        assert client.post("/tokens/refresh", json=refresh).status_code == 401
        assert client.get("/me", headers=bob.signed_in).status_code == 200

    def test_works_once(self, client: ContractClient, token: str) -> None:
        redeem(client, token)

        response = redeem(client, token, "5 red balloons")

        assert_problem(response, 403, "wrong_token", WRONG_TOKEN)
        assert sign_in(client, "ann", NEW_PASSWORD).status_code == 200

    def test_works_once_of_many_concurrent_requests(
        self, app: Flask, client: ContractClient, token: str
    ) -> None:
        chosen = [f"{number} green horses" for number in range(10, 16)]

        def choose(password: str) -> Callable[[], int]:
            return lambda: redeem(ContractClient(app), token, password).status_code

        statuses = concurrently(*map(choose, chosen))

        assert sorted(statuses) == [204] + [403] * 5
        assert sign_in(client, "ann", chosen[statuses.index(204)]).status_code == 200

    @pytest.mark.parametrize(("minutes", "status"), [(29, 204), (31, 403)])
    def test_works_for_30_minutes(
        self, app: Flask, client: ContractClient, token: str, minutes: int, status: int
    ) -> None:
        let_pass(app, timedelta(minutes=minutes))

        assert redeem(client, token).status_code == status

    @pytest.mark.parametrize("wrong", ["a", "a" * 43, "a" * 100, "ä", "{hash}"])
    def test_refuses_a_token_that_was_not_sent(self, client: ContractClient, token: str, wrong: str) -> None:
        response = redeem(client, wrong.format(hash=sha256(token.encode()).hexdigest()))

        assert_problem(response, 403, "wrong_token", WRONG_TOKEN)
        assert redeem(client, token).status_code == 204

    def test_refuses_a_token_of_another_kind(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        client.post("/email-verifications", headers=ann.signed_in)
        token = mailbox.token("Verify your email address for Microblog")

        response = redeem(client, token)

        assert_problem(response, 403, "wrong_token", WRONG_TOKEN)
        assert client.post("/email-verifications/redeem", json={"token": token}).status_code == 204

    @on_sqlite
    @pytest.mark.parametrize("password", ACCEPTED_PASSWORDS)
    def test_accepts_a_strong_password(self, client: ContractClient, token: str, password: str) -> None:
        assert redeem(client, token, password).status_code == 204
        assert sign_in(client, "ann", password).status_code == 200

    @on_sqlite
    @pytest.mark.parametrize(("password", "code"), REFUSED_PASSWORDS)
    def test_refuses_a_weak_password_and_the_token_stays_valid(
        self, client: ContractClient, token: str, password: Any, code: str
    ) -> None:
        response = redeem(client, token, password)

        assert response.status_code == 422
        assert errors_of(response) == [("/new_password", code)]
        assert redeem(client, token).status_code == 204

    @pytest.mark.parametrize("password", NAMES_FOR_PASSWORDS)
    def test_refuses_a_name_as_the_password_and_the_token_stays_valid(
        self, client: ContractClient, make: Factory, mailbox: Mailbox, password: str
    ) -> None:
        bob = make.user("bob.dylan")
        request_reset(client, bob.email)
        token = mailbox.token(SUBJECT)

        response = redeem(client, token, password)

        assert response.status_code == 422
        assert errors_of(response) == [("/new_password", "same_as_name")]
        assert client.get("/me", headers=bob.signed_in).status_code == 200
        assert redeem(client, token).status_code == 204

    def test_refuses_a_token_issued_before_a_password_change(
        self, client: ContractClient, ann: Account, token: str
    ) -> None:
        change_password(client, ann.signed_in, new_password="5 red balloons")

        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert sign_in(client, "ann", "5 red balloons").status_code == 200

    def test_refuses_a_token_that_was_sent_to_a_previous_address(
        self, client: ContractClient, ann: Account, token: str
    ) -> None:
        change_email(client, ann, "cleo@example.com")

        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert sign_in(client, "ann", PASSWORD).status_code == 200

    def test_refuses_a_token_of_a_deleted_account(
        self, app: Flask, client: ContractClient, ann: Account, token: str
    ) -> None:
        delete_account(client, ann)

        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        with app.app_context():
            assert db.session.scalars(select(EmailToken)).all() == []

    @pytest.mark.parametrize(
        "act",
        [
            pytest.param(lambda client, ann: delete_account(client, ann), id="account deleted"),
            pytest.param(lambda client, ann: change_password(client, ann.signed_in), id="password changed"),
            pytest.param(
                lambda client, ann: change_email(client, ann, "c@example.com"), id="address changed"
            ),
        ],
    )
    def test_refuses_a_token_that_is_revoked_while_the_password_is_hashed(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        token: str,
        act: Callable[[ContractClient, Account], TestResponse],
    ) -> None:
        with during_request(app, partial(act, ContractClient(app), ann)):
            response = redeem(client, token, "5 red balloons")

        assert_problem(response, 403, "wrong_token", WRONG_TOKEN)
        assert sign_in(client, "ann", "5 red balloons").status_code == 401

    def test_leaves_no_session_started_with_the_old_password(
        self, app: Flask, client: ContractClient, token: str
    ) -> None:
        def sign_in_concurrently() -> list[TestResponse]:
            return [sign_in(ContractClient(app), "ann") for _ in range(3)]

        def choose() -> list[TestResponse]:
            return [redeem(ContractClient(app), token)]

        *signed_in, [chosen] = concurrently(*[sign_in_concurrently] * 4, choose)

        pairs = [pair for pairs in signed_in for pair in pairs]
        assert chosen.status_code == 204
        assert {pair.status_code for pair in pairs} <= {200, 401}
        here = bearer(sign_in(client, "ann", NEW_PASSWORD))
        assert len(client.get("/tokens", headers=here).json["items"]) == 1

    def test_does_not_change_whether_the_address_is_verified(
        self, client: ContractClient, ann: Account, token: str
    ) -> None:
        before = account_of(client, ann)
        redeem(client, token)

        after = client.get("/me", headers=bearer(sign_in(client, "ann", NEW_PASSWORD))).json

        assert after == before
