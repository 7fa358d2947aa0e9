"""The log: a line of JSON for each answer, and nothing that people sent."""

from typing import Any

import orjson
import pytest

from tests.contract import ContractClient
from tests.factories import Factory


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """A function that returns the lines logged since it was last asked."""
    caplog.set_level("INFO", logger="microblog.access")

    def take() -> list[dict[str, Any]]:
        texts = [record.message for record in caplog.records]
        caplog.clear()
        return [orjson.loads(text) for text in texts]

    return take


def test_it_says_what_was_asked_for_and_how_it_went(
    client: ContractClient, make: Factory, lines: Any
) -> None:
    ann = make.user("ann")

    response = client.get("/users/ann", headers=ann.signed_in)

    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line.pop("milliseconds") > 0
    assert line == {
        "request_id": response.headers["X-Request-Id"],
        "method": "GET",
        "route": "/api/v1/users/<username:username>",
        "status": 200,
        "user_id": ann.id,
    }


def test_it_says_that_somebody_was_not_signed_in(client: ContractClient, make: Factory, lines: Any) -> None:
    make.user("ann")

    client.get("/users/ann")

    assert lines()[0]["user_id"] is None


def test_it_says_who_was_signed_in(client: ContractClient, make: Factory, lines: Any) -> None:
    ann = make.user("ann")

    client.get("/me", headers=ann.signed_in)

    assert lines()[0]["user_id"] == ann.id


def test_it_has_the_unknown_addresses_too_but_not_what_they_were(client: ContractClient, lines: Any) -> None:
    client.get("/nothing%0Aof%20the%20kind?token=secret")

    (line,) = lines()
    assert (line["route"], line["status"]) == (None, 404)
    assert not {"nothing", "secret"} & set(str(line).split())


def test_it_has_nothing_that_people_sent(client: ContractClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="microblog.access")

    client.post("/users", json={"username": "zoe", "email": "zoe@example.com", "password": "9 green horses"})
    client.post("/tokens", auth=("zoe", "9 green horses"))

    assert len(caplog.records) == 2
    assert not any(word in caplog.text for word in ("zoe", "green", "argon2"))
