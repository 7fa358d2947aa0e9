"""Accounts that the operator suspends and restores."""

from typing import Any

from flask import Flask

from api.db import db
from api.mail.kinds import PASSWORD_RESET
from api.models import User
from tests.support.concurrency import EXECUTING, during_request
from tests.support.contract import ContractClient
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.problems import assert_problem


def run(app: Flask, *arguments: str) -> None:
    """Run a command of `flask users`, which succeeds."""
    result = app.test_cli_runner().invoke(args=["users", *arguments])
    assert result.exit_code == 0, result.output


def sign_in(client: ContractClient, name: str = "ann", password: str = PASSWORD) -> Any:
    """Request tokens."""
    return client.post("/tokens", auth=(name, password))


class TestSuspendedUser:
    def test_cannot_sign_in(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        run(app, "suspend", "ann")

        assert_problem(sign_in(client), 403, "account_suspended")
        assert_problem(sign_in(client, ann.email), 403, "account_suspended")

    def test_is_not_revealed_to_callers_without_the_password(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")
        run(app, "suspend", "ann")

        assert_problem(sign_in(client, password="another"), 401, "invalid_credentials")

    def test_loses_all_sessions_at_once(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        run(app, "suspend", "ANN@example.com")

        assert_problem(client.get("/me", headers=ann.signed_in), 401, "invalid_token")
        refreshed = client.post("/tokens/refresh", json={"refresh_token": make.refresh_token(ann)})
        assert_problem(refreshed, 401, "invalid_token")
        assert client.get("/me", headers=bob.signed_in).status_code == 200

    def test_keeps_profile_posts_and_name(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        post_id = make.post(ann)
        run(app, "suspend", "ann")

        assert client.get("/users/ann").status_code == 200
        assert client.get(f"/posts/{post_id}").json["author"]["username"] == "ann"
        taken = {"username": "Ann", "email": "a@example.com", "password": PASSWORD}
        assert client.post("/users", json=taken).status_code == 409

    def test_can_choose_a_new_password_but_not_sign_in(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        token = make.email_token(make.user("ann"), PASSWORD_RESET)
        run(app, "suspend", "ann")

        reset = {"token": token, "new_password": "7 blue bicycles"}
        assert client.post("/password-resets/redeem", json=reset).status_code == 204
        assert_problem(sign_in(client, password="7 blue bicycles"), 403, "account_suspended")

    def test_can_sign_in_again_after_being_restored(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")
        run(app, "suspend", "ann")
        run(app, "restore", "ann")

        assert sign_in(client).status_code == 200

    def test_stays_suspended_since_the_first_time(self, app: Flask, make: Factory) -> None:
        ann = make.user("ann")

        times = set()
        for _ in range(2):
            run(app, "suspend", "ann")
            times.add(suspended_at(app, ann))

        assert len(times) == 1
        assert None not in times


def suspended_at(app: Flask, user: Account) -> Any:
    """Return when a user was suspended."""
    with app.app_context():
        return db.session.get_one(User, user.id).suspended_at


def test_a_sign_in_during_the_suspension_is_refused(
    app: Flask, client: ContractClient, make: Factory
) -> None:
    make.user("ann")

    # After the password is verified, before the row is locked.
    with during_request(app, lambda: run(app, "suspend", "ann"), EXECUTING):
        assert_problem(sign_in(client), 403, "account_suspended")
