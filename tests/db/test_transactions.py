"""Transactions, depending on the method of the request."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from api.db import db
from api.models import User
from api.web.operation import View
from tests.support.factories import Account, Factory


@pytest.fixture
def serve(new_migrated_app: Callable[..., Flask], request: pytest.FixtureRequest) -> Callable[[View], Any]:
    """A function that serves a view at /view, for GET and POST, and returns a client and a user's account."""

    def make(view: View) -> Any:
        app = new_migrated_app(request.param)
        app.add_url_rule("/view", view_func=view, methods=["GET", "POST"])
        return app.test_client(), Factory(app).user("ann", about="Botanist.")

    return make


def rename() -> str:
    """Change a row and return its new value."""
    user = db.session.query(User).filter_by(username="ann").one()
    user.about = "Gardener."
    db.session.commit()
    return user.about


@pytest.mark.parametrize("serve", ["sqlite", "postgresql"], indirect=True)
class TestMethods:
    def test_a_view_for_get_cannot_change_rows(
        self, serve: Callable[[View], tuple[Any, Account]], caplog: pytest.LogCaptureFixture
    ) -> None:
        client, _ = serve(rename)

        response = client.get("/view")

        assert response.status_code == 500
        assert "GET requests run in autocommit and must not change rows" in caplog.text
        assert client.get("/api/v1/users/ann").json["about"] == "Botanist."

    def test_a_view_for_post_changes_rows(self, serve: Callable[[View], tuple[Any, Account]]) -> None:
        client, _ = serve(rename)

        assert client.post("/view").text == "Gardener."
        assert client.get("/api/v1/users/ann").json["about"] == "Gardener."


def test_transactions_on_one_connection_hold_the_write_lock_until_it_is_returned(
    new_migrated_app: Callable[..., Flask],
) -> None:
    app = new_migrated_app("sqlite")
    update = text("UPDATE users SET about = about")

    with app.app_context():
        with db.engine.connect() as connection:
            for _ in range(2):
                with connection.begin():
                    connection.execute(update)
        with db.engine.begin() as another:
            assert another.execute(update).rowcount == 0
