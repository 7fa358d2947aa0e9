"""`clients/python` against a running service, behind a proxy that loses or replaces responses."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import requests
from generate_operations import BY_HAND, OUTPUT, generate, method_name
from microblog_client import (
    Client,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidInputError,
    NotFoundError,
    Pager,
    PreconditionFailedError,
    ProblemError,
    ServerError,
    SessionEndedError,
    TooManyRequestsError,
    UnauthorizedError,
)
from microblog_client.operations import Operations

from api.config import ROOT
from tests.support.contract import CONTRACT, PREFIX
from tests.support.server import Server, running_server
from tests.support.wait import TIMEOUT_SECONDS, wait_until

PASSWORD = "7 blue bicycles"
LOST = "the connection is closed instead of the response"
README = (ROOT / "clients" / "python" / "README.md").read_text("utf-8")


class Proxy(ThreadingHTTPServer):
    """Forwards requests to the service, and records them."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.url = f"http://127.0.0.1:{self.server_port}{PREFIX}"
        self.service_port = port
        self.requests: list[SimpleNamespace] = []
        self.faults: dict[str, list[Any]] = {}

    def fail(self, path: str, *faults: Any) -> None:
        """Set what happens to the next requests to a path."""
        self.faults[PREFIX + path] = list(faults)

    def refreshes(self) -> list[str]:
        """Return the refresh tokens that were sent."""
        sent = [request.body for request in self.requests if request.path.endswith("/tokens/refresh")]
        return [orjson.loads(body)["refresh_token"] for body in sent]


class Forwarding(BaseHTTPRequestHandler):
    """A connection to the proxy."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = SimpleNamespace(method=self.command, path=self.path, headers=self.headers, body=body)
        self.server.requests.append(request)
        faults = self.server.faults.get(self.path.partition("?")[0])
        fault = faults.pop(0) if faults else None
        if isinstance(fault, tuple):
            status, headers, content = fault
        else:
            connection = HTTPConnection("127.0.0.1", self.server.service_port, timeout=TIMEOUT_SECONDS)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            status, headers, content = response.status, dict(response.headers), response.read()
            connection.close()
        if fault is LOST:
            self.close_connection = True
            return
        if callable(fault):
            content = fault(content)
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "date", "server", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815 -- names of http.server

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


def problem(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return an error response for `Proxy.fail`."""
    document = {"type": "", "title": "", "status": status, "detail": "", "code": code, "request_id": ""}
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/problem+json", **headers}, orjson.dumps(document)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose access tokens expire after three seconds, and which allows four writes a second."""
    settings = {
        "ACCESS_TOKEN_SECONDS": "3",
        "RATE_LIMIT_READS": "1000000/second",
        "RATE_LIMIT_WRITES": "4/second",
        "RATE_LIMIT_SIGN_IN": "1000000/second",
        "RATE_LIMIT_REGISTRATION": "1000000/second",
    }
    with running_server(tmp_path_factory.mktemp("server"), **settings) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy in front of the service."""
    with Proxy(server.port) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times for which the client waits, which it does not here."""
    sleeps: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleeps.append)
    monkeypatch.setattr("microblog_client.client.time", clock)
    return sleeps


@pytest.fixture
def client(proxy: Proxy, request: pytest.FixtureRequest) -> Client:
    """A client of a user who has just signed in."""
    return signed_in(proxy, name_of(request))


def name_of(request: pytest.FixtureRequest) -> str:
    """Return a username for a test."""
    return "u" + re.sub(r"\W", "", request.node.name.title())[-60:].replace("_", "")


def signed_in(proxy: Proxy, name: str, **members: int) -> Client:
    """Register a user, and return a client. `members` replace those of the response with the tokens."""
    client = Client(proxy.url)
    proxy.fail("/tokens", lambda content: orjson.dumps(orjson.loads(content) | members))
    client.create_user(username=name, email=f"{name}@example.com", password=PASSWORD)
    client.sign_in(name, PASSWORD)
    return client


def wait_until_expired(proxy: Proxy) -> None:
    """Wait until the access token of the latest request has expired."""
    headers = {"Authorization": proxy.requests[-1].headers["Authorization"]}

    def expired() -> None:
        assert requests.get(f"{proxy.url}/me", headers=headers, timeout=TIMEOUT_SECONDS).status_code == 401

    wait_until(expired)


def end_session(client: Client, proxy: Proxy, name: str) -> None:
    """End the session of a client, from another one."""
    other = Client(proxy.url)
    other.sign_in(name, PASSWORD)
    for session in other.list_tokens():
        if not session["is_current"]:
            other.delete_token(session["id"])


class TestTokens:
    def test_eight_threads_share_one_refresh(
        self, client: Client, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        with monkeypatch.context() as patch:
            # The other client learns from the service that its token has expired.
            patch.setattr("microblog_client.client.time", SimpleNamespace(monotonic=lambda: inf))
            other = Client(proxy.url)
            other.sign_in(name_of(request), PASSWORD)
        other.get_account()
        wait_until_expired(proxy)

        with ThreadPoolExecutor(16) as threads:
            accounts = list(threads.map(lambda client: client.get_account(), [client, other] * 8))

        assert {account["username"] for account in accounts} == {name_of(request)}
        assert len(set(proxy.refreshes())) == len(proxy.refreshes()) == 2

    def test_a_refresh_whose_response_is_lost_is_repeated(
        self, proxy: Proxy, request: pytest.FixtureRequest, sleeps: list[float]
    ) -> None:
        client = signed_in(proxy, name_of(request), expires_in=0)
        proxy.fail("/tokens/refresh", LOST)

        assert client.get_account()

        first, second = proxy.refreshes()
        assert first == second

    def test_a_refused_refresh_ends_the_session_for_all_threads(
        self, client: Client, proxy: Proxy, request: pytest.FixtureRequest
    ) -> None:
        end_session(client, proxy, name_of(request))

        def read(_: int) -> None:
            with pytest.raises(SessionEndedError, match="expired or revoked") as caught:
                client.get_account()
            assert caught.value.code == "invalid_token"

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(read, range(8)))

        assert len(proxy.refreshes()) == 1
        client.sign_in(name_of(request), PASSWORD)
        assert client.get_account()

    def test_signing_out_makes_requests_anonymous(self, client: Client, proxy: Proxy) -> None:
        client.sign_out()
        client.sign_out()

        with pytest.raises(UnauthorizedError) as caught:
            client.get_account()
        assert caught.value.code == "authentication_required"
        assert [request.method for request in proxy.requests].count("DELETE") == 1

    def test_signing_out_of_an_ended_session_is_no_error(
        self, client: Client, proxy: Proxy, request: pytest.FixtureRequest
    ) -> None:
        end_session(client, proxy, name_of(request))

        client.sign_out()

        assert client.list_posts()

    def test_a_failure_to_reach_the_service_does_not_end_the_session(
        self, proxy: Proxy, request: pytest.FixtureRequest, sleeps: list[float]
    ) -> None:
        client = signed_in(proxy, name_of(request), expires_in=0)
        proxy.fail("/tokens/refresh", *[problem(503, "unavailable")] * 6)

        with pytest.raises(ServerError):
            client.get_account()

        assert client.get_account()

    def test_passwords_of_netrc_are_not_sent(
        self, client: Client, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

        Client(proxy.url).list_posts().pages().__next__()
        client.get_account()

        anonymous, signed = proxy.requests[-2:]
        assert anonymous.headers["Authorization"] is None
        assert signed.headers["Authorization"].startswith("Bearer ")


class TestRetries:
    def test_a_lost_response_does_not_lead_to_a_second_post(
        self, client: Client, proxy: Proxy, sleeps: list[float]
    ) -> None:
        proxy.fail("/posts", LOST, LOST)

        post = client.create_post(body="Once.")

        author = post["author"]["username"]
        assert [found["id"] for found in client.list_user_posts(author)] == [post["id"]]
        assert sleeps == [0.5, 1]

    def test_an_edit_whose_response_is_lost_is_not_repeated(self, client: Client, proxy: Proxy) -> None:
        post = client.create_post(body="Before.")
        proxy.fail(f"/posts/{post['id']}", LOST)

        with pytest.raises(requests.ConnectionError):
            client.update_post(post["id"], body="After.")

        assert client.get_post(post["id"])["body"] == "After."

    def test_it_waits_as_long_as_a_rate_limit_asks_for(self, client: Client, proxy: Proxy) -> None:
        started = time.monotonic()

        bodies = [client.create_post(body=f"{number}")["body"] for number in range(9)]

        assert bodies == [f"{number}" for number in range(9)]
        assert time.monotonic() - started > 1
        assert 1 <= len([request for request in proxy.requests if request.path == f"{PREFIX}/posts"]) - 9 <= 5

    def test_it_does_not_wait_longer_than_it_may(self, client: Client, proxy: Proxy) -> None:
        proxy.fail("/posts", problem(429, "too_many_requests", Retry_After="61"))

        with pytest.raises(TooManyRequestsError) as caught:
            client.create_post(body="Now.")

        assert caught.value.retry_after == 61

    def test_a_request_whose_key_is_in_use_is_repeated(
        self, client: Client, proxy: Proxy, sleeps: list[float]
    ) -> None:
        proxy.fail("/posts", problem(409, "in_progress", Retry_After="3"))

        post = client.create_post(body="Once.")

        assert len(list(client.list_user_posts(post["author"]["username"]))) == 1
        assert sleeps == [3]

    @pytest.mark.parametrize(
        "fault",
        [
            problem(503, "unavailable", Retry_After="1"),
            (502, {"Retry-After": "Fri, 27 Nov 2026 17:30:00 GMT"}, b""),
        ],
    )
    def test_it_gives_up_after_five_retries(
        self, client: Client, proxy: Proxy, sleeps: list[float], fault: Any
    ) -> None:
        proxy.fail("/me", *[fault] * 6)

        with pytest.raises(ServerError) as caught:
            client.get_account()

        assert (caught.value.status, len(sleeps)) == (fault[0], 5)
        assert client.get_account()

    def test_a_redirect_is_not_followed(self, client: Client, proxy: Proxy) -> None:
        proxy.fail("/me", (301, {"Location": f"{proxy.url}/posts"}, b""))

        with pytest.raises(ProblemError, match="The response is 301 Moved Permanently"):
            client.get_account()

    def test_an_internal_error_is_not_repeated(self, client: Client, proxy: Proxy) -> None:
        proxy.fail("/me", problem(500, "internal_error"))

        with pytest.raises(ServerError):
            client.get_account()

        assert client.get_account()


class TestProblems:
    def test_a_taken_name_is_located(self, client: Client, request: pytest.FixtureRequest) -> None:
        with pytest.raises(ConflictError) as caught:
            client.create_user(username=name_of(request), email="new@example.com", password=PASSWORD)

        assert (caught.value.status, caught.value.code) == (409, "already_taken")
        assert [error["pointer"] for error in caught.value.errors] == ["/username"]

    def test_an_invalid_value_is_located(self, client: Client) -> None:
        with pytest.raises(InvalidInputError, match="Must not be blank") as caught:
            client.create_post(body=" ")

        [error] = caught.value.errors
        assert (error["pointer"], error["code"]) == ("/body", "blank")

    def test_an_edit_of_an_old_version_returns_the_current_tag(self, client: Client) -> None:
        post = client.create_post(body="First.")
        edited = client.update_post(post["id"], if_match=post["etag"], body="Second.")

        with pytest.raises(PreconditionFailedError) as caught:
            client.update_post(post["id"], if_match=post["etag"], body="Third.")

        assert caught.value.etag == edited["etag"]

    def test_a_key_of_a_deleted_post_is_gone(self, client: Client) -> None:
        post = client.create_post(body="Once.", idempotency_key="a")
        client.delete_post(post["id"])

        with pytest.raises(GoneError):
            client.create_post(body="Once.", idempotency_key="a")

    @pytest.mark.parametrize(
        ("error", "call"),
        [
            (UnauthorizedError, lambda client: client.sign_in("ann", "wrong")),
            (ForbiddenError, lambda client: client.delete_account(password="wrong")),
            (NotFoundError, lambda client: client.get_user("a/posts?x=#")),
            (ProblemError, lambda client: client.list_posts(cursor="wrong").pages().__next__()),
        ],
    )
    def test_statuses_have_classes(
        self, client: Client, error: type[ProblemError], call: Callable[[Client], Any]
    ) -> None:
        with pytest.raises(ProblemError) as caught:
            call(client)

        assert type(caught.value) is error


class TestLists:
    def test_both_directions_are_complete_while_posts_are_added(self, client: Client) -> None:
        def publish(*bodies: str) -> list[str]:
            return [client.create_post(body=body)["body"] for body in bodies]

        old = publish("1", "2", "3", "4", "5")
        name = client.get_account()["username"]
        first = next(client.list_user_posts(name, limit=2).pages())
        downwards = []
        for post in client.list_user_posts(name, limit=2):
            downwards.append(post["body"])
            if post["body"] in {"5", "3"}:
                publish(f"after {post['body']}")
        upwards = reversed(client.list_user_posts(name, limit=1, cursor=first["prev_cursor"]))

        assert downwards == list(reversed(old))
        assert next(upwards)["body"] == "after 5"
        publish("last")
        assert [post["body"] for post in upwards] == ["after 3", "last"]

    def test_the_last_page_upwards_says_where_to_look_later(self, client: Client) -> None:
        name = client.create_post(body="1")["author"]["username"]
        [first, empty] = client.list_user_posts(name).pages("prev")
        client.create_post(body="2")

        [page, end] = client.list_user_posts(name, cursor=empty["prev_cursor"]).pages("prev")

        assert [len(page["items"]) for page in (first, empty, page, end)] == [1, 0, 1, 0]
        assert page["items"][0]["body"] == "2"

    def test_an_empty_list_has_no_previous_page(self, client: Client) -> None:
        [page] = client.list_likes().pages("prev")

        assert page == {"items": [], "next_cursor": None, "prev_cursor": None}


class TestRepresentations:
    def test_members_that_were_added_later_are_ignored(self, client: Client, proxy: Proxy) -> None:
        proxy.fail("/me", lambda content: orjson.dumps({**orjson.loads(content), "mood": "good"}))

        account: Any = client.get_account()

        assert account["mood"] == "good"

    def test_expanded_parts_know_the_caller(self, client: Client) -> None:
        post = client.create_post(body="Mine.")
        client.create_like(post["id"])

        [found] = client.list_feed(expand=["counts", "viewer"])

        assert (found["viewer"], found["counts"]) == ({"liked": True}, {"like_count": 1, "reply_count": 0})


def test_the_readme_works(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

    exec(code.replace(f"http://127.0.0.1:8000{PREFIX}", proxy.url), {})  # noqa: S102

    printed = "ann The first snowdrops are out. #garden {'like_count': 0, 'reply_count': 0}\n"
    assert capsys.readouterr().out == printed
    assert len(code.splitlines()) <= 15


class Recorder(Operations):
    """Records what the methods of the operations send."""

    def call(self, method: str, path: str, **parts: Any) -> Any:
        self.sent = method, path, parts
        return {"items": [], "next_cursor": None, "prev_cursor": None}


OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
    if operation["operationId"] not in BY_HAND
]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_each_operation_is_a_method(method: str, path: str, operation: dict[str, Any]) -> None:
    values: dict[str, Any] = {name: 7 if "id" in name else "a/b" for name in re.findall(r"{(\w+)}", path)}
    recorder = Recorder()

    result = getattr(recorder, method_name(operation))(**values)
    if isinstance(result, Pager):
        assert list(result) == []

    expected = path.format(**{name: quote(str(value), safe="") for name, value in values.items()})
    assert recorder.sent[:2] == (method, expected)
    assert ("body" in recorder.sent[2]) is ("requestBody" in operation)


def test_the_module_of_the_operations_is_current() -> None:
    assert OUTPUT.read_text("utf-8") == generate(CONTRACT), "Run `make openapi`."
