"""E-mail verifications: of the address that one registers with, and of one that is changed."""

from datetime import timedelta

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.contract import ContractClient
from tests.factories import Factory, Member
from tests.mailbox import Mailbox, let_pass
from tests.problems import assert_problem
from tests.races import at_once
from tests.test_password_resets import WRONG_TOKEN, change_email
from tests.test_users import account_of, bearer, registration, sign_in

VERIFY = "Is this your e-mail address?"
CHANGED = "Your account has another e-mail address"


def ask(client: ContractClient, member: Member) -> TestResponse:
    """Ask for the verification of one's address."""
    return client.post("/email-verifications", headers=member.signed_in)


def redeem(client: ContractClient, token: str) -> TestResponse:
    """Verify an address."""
    return client.post("/email-verifications/redeem", json={"token": token})


def is_verified(client: ContractClient, member: Member) -> bool:
    """Say whether an account's address is verified."""
    return account_of(client, member)["email_verified_at"] is not None


@pytest.fixture
def ann(make: Factory) -> Member:
    """Somebody with an account."""
    return make.user("ann")


@pytest.fixture
def token(client: ContractClient, ann: Member, mailbox: Mailbox) -> str:
    """What ann was mailed."""
    ask(client, ann)
    return mailbox.token(VERIFY)


class TestCreateEmailVerification:
    def test_is_done_for_whoever_registers(self, client: ContractClient, mailbox: Mailbox) -> None:
        client.post("/users", json=registration())

        (received,) = mailbox.received()
        assert received.to == ["bob@example.com"]
        assert received.text.startswith("Hello bob,\n\nyour account on Microblog has this e-mail address.")
        assert "POST /api/v1/email-verifications/redeem." in received.text
        assert redeem(client, mailbox.token(VERIFY)).status_code == 204
        assert client.get("/me", headers=bearer(sign_in(client, "bob"))).json["email_verified_at"]

    def test_is_not_done_for_whoever_could_not_register(
        self, client: ContractClient, ann: Member, mailbox: Mailbox
    ) -> None:
        client.post("/users", json=registration(email=ann.email))

        assert mailbox.received() == []

    def test_gives_the_page_of_the_front_end(
        self,
        app: Flask,
        client: ContractClient,
        ann: Member,
        mailbox: Mailbox,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(app.config, "EMAIL_VERIFICATION_URL", "https://app.example/{token}/verify")

        ask(client, ann)

        assert f"\nhttps://app.example/{mailbox.token(VERIFY)}/verify\n" in mailbox.received()[0].text

    def test_writes_again_after_a_minute(
        self, app: Flask, client: ContractClient, ann: Member, token: str, mailbox: Mailbox
    ) -> None:
        assert ask(client, ann).status_code == 202
        assert len(mailbox.received()) == 1
        let_pass(app, timedelta(seconds=61))

        assert ask(client, ann).status_code == 202

        assert len(mailbox.received()) == 2
        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert redeem(client, mailbox.token(VERIFY)).status_code == 204

    def test_does_nothing_about_an_address_that_is_verified(
        self, app: Flask, client: ContractClient, ann: Member, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)
        let_pass(app, timedelta(seconds=61))

        assert ask(client, ann).status_code == 202

        assert len(mailbox.received()) == 1


class TestRedeemEmailVerification:
    def test_verifies_the_address(self, client: ContractClient, ann: Member, token: str) -> None:
        before = account_of(client, ann)

        response = redeem(client, token)

        after = account_of(client, ann)
        assert response.status_code == 204
        verified = {name: after[name] for name in ("email_verified_at", "etag")}
        assert after == {**before, **verified}
        assert after["email_verified_at"] > before["created_at"]

    def test_works_once_of_many_at_once(self, app: Flask, token: str) -> None:
        statuses = at_once(*[lambda: redeem(ContractClient(app), token).status_code] * 6)

        assert sorted(statuses) == [204] + [403] * 5

    @pytest.mark.parametrize(("minutes", "status"), [(29, 204), (31, 403)])
    def test_works_for_half_an_hour(
        self, app: Flask, client: ContractClient, token: str, minutes: int, status: int
    ) -> None:
        let_pass(app, timedelta(minutes=minutes))

        assert redeem(client, token).status_code == status

    def test_refuses_a_token_for_something_else(
        self, client: ContractClient, ann: Member, mailbox: Mailbox
    ) -> None:
        client.post("/password-resets", json={"email": ann.email})

        response = redeem(client, mailbox.token("A new password for Microblog"))

        assert_problem(response, 403, "wrong_token", WRONG_TOKEN)
        assert not is_verified(client, ann)


class TestChangedAddress:
    def test_is_not_verified_until_it_is(
        self, client: ContractClient, ann: Member, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)

        response = change_email(client, ann, "cleo@example.com")

        assert response.json["email"] == "cleo@example.com"
        assert response.json["email_verified_at"] is None
        assert mailbox.subjects("cleo@example.com") == [VERIFY]
        assert redeem(client, mailbox.token(VERIFY)).status_code == 204
        assert is_verified(client, ann)

    def test_is_told_to_the_old_one_which_does_not_learn_the_new_one(
        self, client: ContractClient, ann: Member, mailbox: Mailbox
    ) -> None:
        change_email(client, ann, "cleo@example.com")

        assert mailbox.subjects("ann@example.com") == [CHANGED]
        (received,) = [received for received in mailbox.received() if received.subject == CHANGED]
        assert "Hello ann,\n\nyour account on Microblog has another e-mail address" in received.text
        assert "cleo" not in received.text

    def test_ends_the_token_that_was_mailed_to_the_old_one(
        self, client: ContractClient, ann: Member, token: str
    ) -> None:
        change_email(client, ann, "cleo@example.com")

        assert_problem(redeem(client, token), 403, "wrong_token", WRONG_TOKEN)
        assert not is_verified(client, ann)

    def test_in_another_case_is_another_one(
        self, client: ContractClient, ann: Member, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)

        change_email(client, ann, "Ann@example.com")

        assert not is_verified(client, ann)

    def test_that_is_the_same_changes_nothing(
        self, client: ContractClient, ann: Member, token: str, mailbox: Mailbox
    ) -> None:
        redeem(client, token)

        change_email(client, ann, ann.email)

        assert is_verified(client, ann)
        assert len(mailbox.received()) == 1

    def test_is_not_told_where_nothing_was_changed(
        self, client: ContractClient, make: Factory, ann: Member, mailbox: Mailbox
    ) -> None:
        bob = make.user("bob")

        change_email(client, ann, bob.email)
        client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in)

        assert mailbox.received() == []

    def test_back_and_forth_floods_nobody(
        self, client: ContractClient, ann: Member, mailbox: Mailbox
    ) -> None:
        for email in ["zoe@example.com", "ann@example.com"] * 3:
            change_email(client, ann, email)

        # What is to be verified is the address that it is when the letter is written.
        subjects = mailbox.subjects("zoe@example.com")
        assert CHANGED in subjects
        assert len(subjects) == len(set(subjects))
