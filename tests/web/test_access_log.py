"""The log: one line of JSON for each response and each other record, without data of clients."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from api.web import access_log
from tests.support.contract import ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import Factory

pytestmark = on_sqlite


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that returns the lines logged since the last call."""
    capsys.readouterr()

    def read() -> list[dict[str, Any]]:
        printed = capsys.readouterr().out.splitlines()
        # PostgreSQL also prints when the first test starts it.
        return [json.loads(line) for line in printed if line.startswith("{")]

    return read


def test_a_line_describes_the_request_and_the_response(
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


def test_the_user_id_is_null_without_a_token(client: ContractClient, make: Factory, lines: Any) -> None:
    make.user("ann")

    client.get("/users/ann")

    assert lines()[0]["user_id"] is None


def test_the_user_id_is_the_caller(client: ContractClient, make: Factory, lines: Any) -> None:
    ann = make.user("ann")

    client.get("/me", headers=ann.signed_in)

    assert lines()[0]["user_id"] == ann.id


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "is_good"),
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", True, id="version 00"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01", True, id="a later version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-more", True, id="a later version with more fields"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", False, id="version 00 with more fields"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01.more", False, id="a later version with another separator"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", False, id="the invalid version"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", False, id="the invalid trace id"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", False, id="the invalid parent id"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", False, id="upper case"),
        pytest.param(f"00-{TRACE[1:]}-{PARENT}-01", False, id="short"),
        pytest.param(f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01", False, id="two values"),
        pytest.param("nonsense", False, id="nonsense"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_valid_traceparent_is_logged(
    client: ContractClient, lines: Any, traceparent: str, is_good: bool
) -> None:
    client.get("/posts", headers={"traceparent": traceparent})

    (line,) = lines()
    assert (line["trace_id"], line["parent_id"]) == ((TRACE, PARENT) if is_good else (None, None))


@pytest.mark.parametrize("request_id", ["a", "A-Za.z_0-9", "r" * 128])
def test_a_valid_request_id_is_accepted(client: ContractClient, lines: Any, request_id: str) -> None:
    response = client.get("/posts/1", headers={"X-Request-Id": request_id})

    assert response.headers["X-Request-Id"] == request_id
    assert response.json["request_id"] == request_id
    assert lines()[0]["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "r" * 129, "a b", "a/b", "é", '"a"', "a, b", "<a>"])
def test_an_invalid_request_id_is_replaced(client: ContractClient, lines: Any, request_id: str) -> None:
    response = client.get("/posts/1", headers={"X-Request-Id": request_id})

    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])
    assert response.json["request_id"] == lines()[0]["request_id"] == response.headers["X-Request-Id"]


def test_an_unknown_path_is_not_logged(client: ContractClient, lines: Any) -> None:
    client.get("/nothing%0Aof%20the%20kind?token=secret")

    (line,) = lines()
    assert (line["route"], line["status"]) == (None, 404)
    assert not {"nothing", "secret"} & set(str(line).split())


@pytest.mark.parametrize(
    ("method", "logged"), [("DELETE", "DELETE"), ("TRACE", "TRACE"), ("GOT", None), ("Z" * 3000, None)]
)
def test_only_standard_methods_are_logged(
    client: ContractClient, lines: Any, method: str, logged: str | None
) -> None:
    client.open("/posts", method=method)

    (line,) = lines()
    assert (line["method"], line["status"]) == (logged, 405)


def test_no_data_of_clients_is_logged(client: ContractClient, lines: Any) -> None:
    client.post("/users", json={"username": "zoe", "email": "zoe@example.com", "password": "9 green horses"})
    client.post("/tokens", auth=("zoe", "9 green horses"))

    logged = lines()
    assert len(logged) == 2
    assert not any(word in str(logged) for word in ("zoe", "green", "argon2"))


def test_responses_are_sent_with_a_closed_standard_output(
    client: ContractClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", closed_stream())

    assert client.get("/posts").status_code == 200
    assert "Logging error" in capsys.readouterr().err


def test_nothing_is_logged_if_there_is_no_standard_output(
    client: ContractClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    assert client.get("/posts").status_code == 200
    assert capsys.readouterr().err == ""


def closed_stream() -> io.StringIO:
    """Return a stream that accepts no text."""
    stream = io.StringIO()
    stream.close()
    return stream


def test_responses_are_sent_when_the_disk_is_full(
    client: ContractClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(OSError), Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)

        response = client.get("/posts")

    assert response.status_code == 200


def test_a_warning_has_the_id_of_its_request(app: Flask, lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log.service_log, "propagate", False)  # xdist cannot send lone surrogates.

    with app.test_request_context(headers={"X-Request-Id": "the-request"}):
        app.logger.warning("Wait for %s.\n{}\r\x1b\x85\u2028\ud800\U0001f600", "Redis")

    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "message": "Wait for Redis.\n{}\r\x1b\x85\u2028\ud800\U0001f600",
        "request_id": "the-request",
        "traceback": None,
    }


def test_an_error_outside_of_a_request_has_its_traceback(app: Flask, lines: Any) -> None:
    app.logger.error("failed", exc_info=RuntimeError("The secret is 42."))

    (line,) = lines()
    assert (line["level"], line["message"], line["request_id"]) == ("ERROR", "failed", None)
    assert line["traceback"] == "RuntimeError: The secret is 42."


def test_a_record_that_cannot_be_formatted_is_reported_on_standard_error(
    app: Flask, lines: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log.service_log, "propagate", False)  # The handler of pytest raises.

    app.logger.warning("%d", "no number")

    captured = capsys.readouterr()
    assert "no number" in captured.err
    assert captured.out == ""


@pytest.fixture
def silent_access_log() -> Iterator[None]:
    """Disable the access log by its level."""
    access_log.access_log.setLevel(logging.WARNING)
    yield
    access_log.access_log.setLevel(logging.NOTSET)


def test_the_access_log_can_be_disabled_by_its_level(
    silent_access_log: None, client: ContractClient, lines: Any
) -> None:
    assert client.get("/posts").status_code == 200
    assert lines() == []


def test_several_applications_in_a_process_log_a_response_once(
    app: Flask, new_app: Callable[..., Flask], lines: Any
) -> None:
    root_handlers = list(logging.root.handlers)
    another = new_app(app.config["DATABASE_URL"])

    another.test_client().get("/livez")

    assert len(lines()) == 1
    assert logging.root.handlers == root_handlers
