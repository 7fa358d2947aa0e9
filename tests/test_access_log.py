"""The log: a line of JSON for each answer, and nothing that people sent."""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.contract import ContractClient
from tests.factories import Factory


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that returns the lines logged since it was last asked."""
    capsys.readouterr()

    def take() -> list[dict[str, Any]]:
        printed = capsys.readouterr().out.splitlines()
        # PostgreSQL prints as well when it is started for the first test.
        return [orjson.loads(line) for line in printed if line.startswith("{")]

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
        "trace_id": None,
        "parent_id": None,
    }


def test_it_says_that_somebody_was_not_signed_in(client: ContractClient, make: Factory, lines: Any) -> None:
    make.user("ann")

    client.get("/users/ann")

    assert lines()[0]["user_id"] is None


def test_it_says_who_was_signed_in(client: ContractClient, make: Factory, lines: Any) -> None:
    ann = make.user("ann")

    client.get("/me", headers=ann.signed_in)

    assert lines()[0]["user_id"] == ann.id


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "is_good"),
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", True, id="today's version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01", True, id="a later version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-more", True, id="a later version with more"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", False, id="today's version with more"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01.more", False, id="a later version with other marks"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", False, id="no version"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", False, id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", False, id="no parent"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", False, id="upper case"),
        pytest.param(f"00-{TRACE[1:]}-{PARENT}-01", False, id="short"),
        pytest.param(f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01", False, id="two"),
        pytest.param("nonsense", False, id="nonsense"),
        pytest.param("", False, id="empty"),
    ],
)
def test_it_has_the_trace_that_a_request_belongs_to(
    client: ContractClient, lines: Any, traceparent: str, is_good: bool
) -> None:
    client.get("/posts", headers={"traceparent": traceparent})

    (line,) = lines()
    assert (line["trace_id"], line["parent_id"]) == ((TRACE, PARENT) if is_good else (None, None))


@pytest.mark.parametrize("request_id", ["a", "A-Za.z_0-9", "r" * 128])
def test_a_request_keeps_the_id_that_it_came_with(
    client: ContractClient, lines: Any, request_id: str
) -> None:
    response = client.get("/posts/1", headers={"X-Request-Id": request_id})

    assert response.headers["X-Request-Id"] == request_id
    assert response.json["request_id"] == request_id
    assert lines()[0]["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "r" * 129, "a b", "a/b", "é", '"a"', "a, b", "<a>"])
def test_a_request_is_given_an_id_if_it_came_with_none_that_is_good(
    client: ContractClient, lines: Any, request_id: str
) -> None:
    response = client.get("/posts/1", headers={"X-Request-Id": request_id})

    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])
    assert response.json["request_id"] == lines()[0]["request_id"] == response.headers["X-Request-Id"]


def test_it_has_the_unknown_addresses_too_but_not_what_they_were(client: ContractClient, lines: Any) -> None:
    client.get("/nothing%0Aof%20the%20kind?token=secret")

    (line,) = lines()
    assert (line["route"], line["status"]) == (None, 404)
    assert not {"nothing", "secret"} & set(str(line).split())


@pytest.mark.parametrize(
    ("method", "logged"), [("DELETE", "DELETE"), ("TRACE", "TRACE"), ("GOT", None), ("Z" * 3000, None)]
)
def test_it_has_the_methods_that_there_are(
    client: ContractClient, lines: Any, method: str, logged: str | None
) -> None:
    client.open("/posts", method=method)

    (line,) = lines()
    assert (line["method"], line["status"]) == (logged, 405)


def test_it_has_nothing_that_people_sent(client: ContractClient, lines: Any) -> None:
    client.post("/users", json={"username": "zoe", "email": "zoe@example.com", "password": "9 green horses"})
    client.post("/tokens", auth=("zoe", "9 green horses"))

    logged = lines()
    assert len(logged) == 2
    assert not any(word in str(logged) for word in ("zoe", "green", "argon2"))


def test_answers_do_without_an_output(client: ContractClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    assert client.get("/posts").status_code == 200


def test_answers_do_with_a_full_disk(client: ContractClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(OSError), Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)

        response = client.get("/posts")

    assert response.status_code == 200
