"""Email verifications: of the address at registration, and of a changed address."""

from datetime import timedelta

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.password_resets.test_password_resets import SUBJECT, WRONG_TOKEN, change_email
from tests.support.concurrency import concurrently
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.mailbox import Mailbox, let_pass
from tests.support.problems import assert_problem
from tests.users.test_users import account_of, bearer, registration, sign_in

VERIFY = "Verify your email address for Microblog"
CHANGED = "Your Microblog email address was changed"


def request_verification(client: ContractClient, member: Account) -> TestResponse:
    """Request a verification email."""
    return client.post("/email-verifications", headers=member.signed_in)


def redeem(client: ContractClient, token: str) -> TestResponse:
    """Verify an address."""
    return client.post("/email-verifications/redeem", json={"token": token})


def is_verified(client: ContractClient, member: Account) -> bool:
    """Return whether a user's address is verified."""
    return account_of(client, member)["email_verified_at"] is not None


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


@pytest.fixture
def token(client: ContractClient, ann: Account, mailbox: Mailbox) -> str:
    """The token in the email to ann."""
    request_verification(client, ann)
    return mailbox.token(VERIFY)


class TestCreateEmailVerification:
    def test_an_email_is_sent_at_registration(self, client: ContractClient, mailbox: Mailbox) -> None:
        client.post("/users", json=registration())

        (received,) = mailbox.received()
        assert received.to == ["bob@example.com"]
        assert received.text.startswith("Hello bob,\n\nPlease confirm that this is the email address")
        assert "POST /api/v1/email-verifications/redeem." in received.text
        assert redeem(client, mailbox.token(VERIFY)).status_code == 204
        assert client.get("/me", headers=bearer(sign_in(client, "bob"))).json["email_verified_at"]

    def test_no_email_is_sent_if_registration_fails(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        client.post("/users", json=registration(email=ann.email))

        assert mailbox.received() == []

    def test_contains_the_page_of_the_front_end(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(app.config, "EMAIL_VERIFICATION_URL", "https://app.example/{token}/verify")

        request_verification(client, ann)

        assert f"\nhttps://app.example/{mailbox.token(VERIFY)}/verify\n" in mailbox.received()[0].text

    def test_sends_another_email_after_a_minute(
        self, app: Flask, client: ContractClient, ann: Account, token: str, mailbox: Mailbox
    ) -> None:
        assert request_verification(client, ann).status_code == 202
        assert len(mailbox.received()) == 1
        let_pass(app, timedelta(seconds=61))

        assert request_verification(client, ann).status_code == 202

        assert len(mailbox.received()) == 2
        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert redeem(client, mailbox.token(VERIFY)).status_code == 204

    def test_sends_no_email_to_a_verified_address(
        self, app: Flask, client: ContractClient, ann: Account, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)
        let_pass(app, timedelta(seconds=61))

        assert request_verification(client, ann).status_code == 202

        assert len(mailbox.received()) == 1


class TestRedeemEmailVerification:
    def test_verifies_the_address(self, client: ContractClient, ann: Account, token: str) -> None:
        before = account_of(client, ann)

        response = redeem(client, token)

        after = account_of(client, ann)
        assert response.status_code == 204
        verified = {name: after[name] for name in ("email_verified_at", "etag")}
        assert after == {**before, **verified}
        assert after["email_verified_at"] > before["created_at"]

    def test_works_once_of_many_concurrent_requests(self, app: Flask, token: str) -> None:
        statuses = concurrently(*[lambda: redeem(ContractClient(app), token).status_code] * 6)

        assert sorted(statuses) == [204] + [403] * 5

    @pytest.mark.parametrize(("minutes", "status"), [(29, 204), (31, 403)])
    def test_works_for_30_minutes(
        self, app: Flask, client: ContractClient, token: str, minutes: int, status: int
    ) -> None:
        let_pass(app, timedelta(minutes=minutes))

        assert redeem(client, token).status_code == status

    def test_refuses_a_token_of_another_kind(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        client.post("/password-resets", json={"email": ann.email})

        response = redeem(client, mailbox.token(SUBJECT))

        assert_problem(response, 403, "wrong_token", WRONG_TOKEN)
        assert not is_verified(client, ann)


class TestChangedAddress:
    def test_is_unverified_until_its_token_is_redeemed(
        self, client: ContractClient, ann: Account, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)

        response = change_email(client, ann, "cleo@example.com")

        assert response.json["email"] == "cleo@example.com"
        assert response.json["email_verified_at"] is None
        assert mailbox.subjects("cleo@example.com") == [VERIFY]
        assert redeem(client, mailbox.token(VERIFY)).status_code == 204
        assert is_verified(client, ann)

    def test_is_announced_to_the_old_address_without_the_new_one(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        change_email(client, ann, "cleo@example.com")

        assert mailbox.subjects("ann@example.com") == [CHANGED]
        (received,) = [received for received in mailbox.received() if received.subject == CHANGED]
        assert "Hello ann,\n\nThe email address of your Microblog account was changed" in received.text
        assert "cleo" not in received.text

    def test_revokes_the_token_that_was_sent_to_the_old_address(
        self, client: ContractClient, ann: Account, token: str
    ) -> None:
        change_email(client, ann, "cleo@example.com")

        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert not is_verified(client, ann)

    def test_in_another_case_must_be_verified_again(
        self, client: ContractClient, ann: Account, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)

        change_email(client, ann, "Ann@example.com")

        assert not is_verified(client, ann)

    def test_that_is_the_same_stays_verified(
        self, client: ContractClient, ann: Account, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)

        change_email(client, ann, ann.email)

        assert is_verified(client, ann)
        assert len(mailbox.received()) == 1

    def test_is_not_announced_if_the_change_fails(
        self, client: ContractClient, make: Factory, ann: Account, mailbox: Mailbox
    ) -> None:
        bob = make.user("bob")

        change_email(client, ann, bob.email)
        client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in)

        assert mailbox.received() == []

    def test_back_and_forth_sends_each_email_once(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        for email in ["zoe@example.com", "ann@example.com"] * 3:
            change_email(client, ann, email)

        # The verification email goes to the address at the time when the email is composed.
        subjects = mailbox.subjects("zoe@example.com")
        assert CHANGED in subjects
        assert len(subjects) == len(set(subjects))
