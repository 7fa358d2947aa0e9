"""How often callers may ask: who is counted together, what it costs, and what they are told."""

import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api import quotas, rate_limits
from api.errors import RETRY_AFTER_SECONDS
from tests.contract import PREFIX, ContractClient
from tests.factories import PASSWORD, Factory, Member
from tests.mailbox import Mailbox
from tests.problems import assert_problem
from tests.races import at_once, meanwhile
from tests.server import free_port, running_server, wait_until_open
from tests.statements import recorded_statements

Limited = Callable[..., Flask]

RESET = "A new password for Microblog"
YEAR = 360 * 24 * 3600  # As the library has it.
NEW_PASSWORD = "7 blue bicycles"
needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="there is no redis-server")
# What must have the current password.
ASKING = [
    ("PUT", "/me/password"),
    ("PATCH", "/me"),
    ("DELETE", "/me"),
]
ZOE = {"username": "zoe", "email": "zoe@example.com", "password": NEW_PASSWORD}


@pytest.fixture
def limited(app: Flask, new_app: Callable[..., Flask]) -> Limited:
    """A function that makes a service on the same database, with settings that limit it."""

    def make(**settings: Any) -> Flask:
        return new_app(app.config["DATABASE_URL"], **settings)

    return make


def at(address: str) -> dict[str, Any]:
    """Return what makes a request come from an address."""
    return {"environ_overrides": {"REMOTE_ADDR": address}}


def sign_in(app: Flask, name: str, password: str = PASSWORD, address: str = "192.0.2.1") -> TestResponse:
    """Ask for tokens, from an address."""
    return ContractClient(app).post("/tokens", auth=(name, password), **at(address))


def statuses(*responses: TestResponse) -> list[int]:
    """Return how requests were answered."""
    return [response.status_code for response in responses]


class Redis:
    """A Redis server of our own, on one port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[None]:  # pragma: no cover -- needs redis-server
        """Start it, and stop it."""
        options = {"port": self._port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        command = [
            "redis-server",
            *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                wait_until_open(self._port)
                yield
            finally:
                process.terminate()


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where requests are counted: in the process, then in a Redis."""
    redis = Redis(tmp_path)
    with redis.running() if request.param == "redis" else nullcontext():
        yield redis.url if request.param == "redis" else "memory://"


class TestFields:
    def test_tell_the_policy_and_what_is_left_of_it(self, limited: Limited) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="2/year"))

        first, second = client.get("/posts"), client.get("/posts")

        assert first.headers["RateLimit-Policy"] == f'"reads";q=2;w={YEAR}'
        assert first.headers["RateLimit"].startswith('"reads";r=1;t=')
        assert second.headers["RateLimit"].startswith('"reads";r=0;t=')
        assert 0 <= int(second.headers["RateLimit"].rpartition("=")[2]) <= YEAR

    def test_tell_of_every_policy_that_a_sign_in_comes_under(self, limited: Limited, make: Factory) -> None:
        make.user("ann")
        app = limited(
            RATE_LIMIT_SIGN_IN="9/minute",
            RATE_LIMIT_SIGN_IN_FAILURES="5/15 minutes",
            RATE_LIMIT_ACCOUNT_FAILURES="7/hour",
        )

        response = sign_in(app, "ann", "not hers")

        assert response.headers["RateLimit-Policy"] == (
            '"sign_in";q=9;w=60, "sign_in_failures";q=5;w=900, "account_failures";q=7;w=3600'
        )
        assert [part[:-1].rpartition(";")[0] for part in response.headers["RateLimit"].split(", ")] == [
            '"sign_in";r=8',
            '"sign_in_failures";r=4',
            '"account_failures";r=6',
        ]

    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json", "/openapi.yaml"])
    def test_are_not_needed_where_there_is_no_limit(self, limited: Limited, path: str) -> None:
        client = limited(RATE_LIMIT_READS="1/year").test_client()

        responses = [client.get(path) for _ in range(3)]

        assert statuses(*responses) == [200] * 3
        assert not any("RateLimit" in response.headers for response in responses)

    def test_are_there_when_the_service_fails(self, limited: Limited) -> None:
        app = limited()

        @app.get(f"{PREFIX}/view")
        def view() -> Any:
            raise RuntimeError

        response = app.test_client().get(f"{PREFIX}/view")

        assert_problem(response, 500, "internal_error")
        assert {"RateLimit", "RateLimit-Policy"} <= set(response.headers.keys())


@pytest.mark.parametrize("endpoint", [*rate_limits.BY_ADDRESS, *rate_limits.WRONG_PASSWORD])
def test_what_is_counted_apart_is_there(migrated_app: Flask, endpoint: str) -> None:
    assert endpoint in migrated_app.view_functions


class TestTooMany:
    def test_are_refused_and_told_when_to_come_back(self, limited: Limited) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="2/minute"))

        response = [client.get("/posts") for _ in range(5)][-1]

        assert_problem(response, 429, "too_many_requests")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert response.headers["RateLimit-Policy"] == '"reads";q=2;w=60'
        assert response.headers["RateLimit"].startswith('"reads";r=0;t=')

    def test_of_reads_leave_writes(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))

        reads = [client.get("/posts", headers=ann.signed_in) for _ in range(2)]
        write = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert statuses(*reads, write) == [200, 429, 201]

    def test_of_writes_leave_reads(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        client = ContractClient(limited(RATE_LIMIT_WRITES="1/year"))

        sent = {"json": {"body": "Hello."}, "headers": ann.signed_in}
        writes = [client.post("/posts", **sent) for _ in range(2)]
        read = client.get("/posts", headers=ann.signed_in)

        assert statuses(*writes, read) == [201, 429, 200]

    @pytest.mark.parametrize(
        ("method", "path", "sent"),
        [
            pytest.param("GET", "/posts", {}, id="a read"),
            pytest.param("POST", "/users", {"json": ZOE}, id="a registration"),
            pytest.param("POST", "/tokens", {"auth": ("ann", PASSWORD)}, id="a sign-in"),
            pytest.param("POST", "/tokens/refresh", {"json": {"refresh_token": "a"}}, id="a renewal"),
            pytest.param("DELETE", "/me", {"json": {"password": PASSWORD}}, id="a write"),
        ],
    )
    def test_do_not_reach_the_database(
        self, limited: Limited, make: Factory, method: str, path: str, sent: dict[str, Any]
    ) -> None:
        ann = make.user("ann")
        policies = ("READS", "WRITES", "SIGN_IN", "REGISTRATION")
        app = limited(**{f"RATE_LIMIT_{policy}": "1/year" for policy in policies})
        client = ContractClient(app)
        sent = {"headers": ann.signed_in, **sent}
        client.open(path, method=method, **(sent | {"json": None}))

        with recorded_statements(app) as reached:
            response = client.open(path, method=method, **sent)

        assert response.status_code == 429
        assert reached == []

    @pytest.mark.parametrize(
        ("path", "sent", "status"),
        [
            pytest.param("/users/ann", {"data": b"a" * 70_000}, 413, id="too large"),
            pytest.param("/posts", {}, 401, id="not signed in"),
            pytest.param("/nothing", {}, 404, id="at no address"),
            pytest.param("/posts/1", {}, 405, id="by no method"),
        ],
    )
    def test_are_those_that_come_to_nothing_too(
        self, limited: Limited, path: str, sent: dict[str, Any], status: int
    ) -> None:
        client = ContractClient(limited(RATE_LIMIT_WRITES="1/year"))

        responses = [client.post(path, **sent) for _ in range(2)]

        assert statuses(*responses) == [status, 429]

    @pytest.mark.parametrize("tag", [None, "*"])
    def test_are_those_that_found_nothing_new_too(self, limited: Limited, tag: str | None) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="3/year"))
        etag = client.get("/posts").headers["ETag"]

        responses = [client.get("/posts", headers={"If-None-Match": tag or etag}) for _ in range(3)]

        assert statuses(*responses) == [304, 304, 429]
        assert responses[0].headers["RateLimit"].startswith('"reads";r=1;')


class TestCaller:
    def test_is_an_account_wherever_it_is_signed_in(self, limited: Limited, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))
        elsewhere = sign_in(limited(), "ann").json["access_token"]

        responses = [
            client.get("/posts", headers=ann.signed_in),
            client.get("/posts", headers={"Authorization": f"bearer {elsewhere}"}, **at("192.0.2.9")),
            client.get("/posts", headers=bob.signed_in),
            client.get("/posts"),
        ]

        assert statuses(*responses) == [200, 429, 200, 200]

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param("Bearer", id="no token"),
            pytest.param("Bearer a{number}", id="a token that is none"),
            pytest.param("Bearer WzEsMSw5OTk5OTk5OTk5LDFd.{number}", id="a token of another secret"),
            pytest.param("Basic bm9ib2R5OnBhc3N3b3Jk", id="a password"),
            pytest.param("Digest a={number}", id="another scheme"),
        ],
    )
    def test_is_an_address_if_no_good_token_says_whose(self, limited: Limited, header: str) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))

        responses = [
            client.get("/me", headers={"Authorization": header.format(number=number)}) for number in range(2)
        ]

        assert statuses(*responses) == [401, 429]

    @pytest.mark.parametrize(
        ("first", "second", "status"),
        [
            pytest.param("192.0.2.1", "192.0.2.1", 429, id="the same"),
            pytest.param("192.0.2.1", "192.0.2.2", 200, id="its neighbour"),
            pytest.param("192.0.2.1", "::ffff:192.0.2.1", 429, id="the same on a socket for both"),
            pytest.param("::ffff:192.0.2.1", "::ffff:192.0.2.2", 200, id="its neighbour there"),
            pytest.param("2001:db8::1", "2001:db8::ffff:0:0:2", 429, id="the same network"),
            pytest.param("2001:db8::1", "2001:db8:0:1::1", 200, id="the next network"),
            pytest.param("fe80::1%eth0", "fe80::2%eth0", 429, id="the same link"),
            pytest.param("", "", 429, id="none"),
            pytest.param("unknown", "_hidden", 200, id="names"),
        ],
    )
    def test_is_an_address_or_a_network(self, limited: Limited, first: str, second: str, status: int) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))

        responses = client.get("/posts", **at(first)), client.get("/posts", **at(second))

        assert statuses(*responses) == [200, status]

    @pytest.mark.parametrize(
        ("proxies", "first", "second", "status"),
        [
            pytest.param(0, "192.0.2.1", "192.0.2.2", 429, id="nobody trusted"),
            pytest.param(1, "192.0.2.1", "192.0.2.2", 200, id="one trusted"),
            pytest.param(1, "192.0.2.8, 192.0.2.1", "192.0.2.9, 192.0.2.1", 429, id="one trusted, and a lie"),
            pytest.param(2, "192.0.2.8, 192.0.2.1", "192.0.2.9, 192.0.2.1", 200, id="two trusted"),
            pytest.param(2, "1, 192.0.2.8, 192.0.2.1", "2, 192.0.2.8, 192.0.2.1", 429, id="two, and a lie"),
        ],
    )
    def test_is_who_the_trusted_proxies_say(
        self, limited: Limited, proxies: int, first: str, second: str, status: int
    ) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="1/year", TRUSTED_PROXIES=proxies))

        responses = [client.get("/posts", headers={"X-Forwarded-For": who}) for who in (first, second)]

        assert statuses(*responses) == [200, status]


class TestSignIn:
    def test_is_limited_by_address_with_renewals(self, limited: Limited, make: Factory) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN="2/year")

        pair = sign_in(app, "ann")
        renewed = ContractClient(app).post(
            "/tokens/refresh", json={"refresh_token": pair.json["refresh_token"]}, **at("192.0.2.1")
        )
        again, elsewhere = sign_in(app, "ann"), sign_in(app, "ann", address="192.0.2.2")

        assert statuses(pair, renewed, again, elsewhere) == [200, 200, 429, 200]

    @pytest.mark.parametrize("name", ["ann", "nobody"])
    def test_with_wrong_passwords_is_limited_whether_there_is_an_account_or_not(
        self, limited: Limited, make: Factory, name: str
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/year")

        responses = [sign_in(app, name, f"guess {number}") for number in range(3)]

        assert statuses(*responses) == [401, 401, 429]
        assert_problem(responses[-1], 429, "too_many_requests")

    def test_with_wrong_passwords_is_limited_however_the_name_is_written(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")
        latin = b64encode(b"Ann:cr\xe8me").decode()

        responses = [
            sign_in(app, "ann", "not hers"),
            sign_in(app, "ANN", "not hers"),
            ContractClient(app).post(
                "/tokens", headers={"Authorization": f"basic {latin}"}, **at("192.0.2.1")
            ),
        ]

        assert statuses(*responses) == [401, 429, 429]

    def test_with_the_right_password_costs_nothing_of_that(self, limited: Limited, make: Factory) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/year", RATE_LIMIT_ACCOUNT_FAILURES="2/year")

        responses = [sign_in(app, "ann", password) for password in ("a", PASSWORD, PASSWORD, "b", PASSWORD)]

        assert statuses(*responses) == [401, 200, 200, 401, 429]

    def test_is_open_to_the_owner_while_somebody_guesses_elsewhere(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/year", RATE_LIMIT_ACCOUNT_FAILURES="3/year")

        guesses = [sign_in(app, "ann", "a guess", "192.0.2.66") for _ in range(9)]
        owner = sign_in(app, "ann")

        assert statuses(*guesses, owner) == [401] * 2 + [429] * 7 + [200]

    def test_is_open_where_the_owner_signed_in_before_even_if_many_guess(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="3/year")
        before = sign_in(app, "ann", address="192.0.2.1")

        guesses = [sign_in(app, "ann", "a guess", f"198.51.100.{number}") for number in range(5)]
        here, elsewhere = sign_in(app, "ann", address="192.0.2.1"), sign_in(app, "ann", address="192.0.2.2")

        assert statuses(*guesses) == [401, 401, 401, 429, 429]
        assert statuses(before, here, elsewhere) == [200, 200, 429]

    def test_is_open_where_the_owner_signed_in_since(
        self, limited: Limited, make: Factory, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="1/year", RATELIMIT_STORAGE_URL=store)
        with monkeypatch.context() as patch:
            patch.setattr(quotas, "KNOWN_SECONDS", 1)
            first = sign_in(app, "ann")
        again = sign_in(app, "ann")
        time.sleep(1.1)  # What the first one left is over.

        guess = sign_in(app, "ann", "a guess", "198.51.100.1")
        here, elsewhere = sign_in(app, "ann"), sign_in(app, "ann", address="192.0.2.2")

        assert statuses(first, again, guess, here, elsewhere) == [200, 200, 401, 200, 429]

    @pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
    def test_is_not_what_other_methods_do(self, limited: Limited, make: Factory, method: str) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="1/year")
        sign_in(app, "ann", "a guess", "198.51.100.1")

        app.test_client().open(f"{PREFIX}/tokens", method=method, auth=("ann", "a guess"), **at("192.0.2.1"))
        response = sign_in(app, "ann", "a guess", "192.0.2.1")

        assert response.status_code == 429

    def test_with_the_right_password_is_refused_for_moments_while_others_are_answered(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")
        twins: list[TestResponse] = []

        with meanwhile(app, lambda: twins.append(sign_in(app, "ann"))):
            first = sign_in(app, "ann")
        later, wrong, after_that = sign_in(app, "ann"), sign_in(app, "ann", "a guess"), sign_in(app, "ann")

        assert statuses(first, *twins, later, wrong, after_that) == [200, 429, 200, 401, 429]
        assert twins[0].headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
        assert int(after_that.headers["Retry-After"]) > RETRY_AFTER_SECONDS


class TestPasswordBelowMe:
    def ask(
        self, app: Flask, member: Member, method: str, path: str, password: str, **kwargs: Any
    ) -> TestResponse:
        """Send what must have the current password."""
        sent = {
            "PUT": {"current_password": password, "new_password": NEW_PASSWORD},
            "PATCH": {"current_password": password, "email": "new@example.com"},
            "DELETE": {"password": password},
        }[method]
        sent = kwargs.pop("json", sent)
        return ContractClient(app).open(path, method=method, json=sent, headers=member.signed_in, **kwargs)

    @pytest.mark.parametrize(("method", "path"), ASKING)
    def test_is_guessed_as_seldom_as_at_the_door(
        self, limited: Limited, make: Factory, method: str, path: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/15 minutes", RATE_LIMIT_WRITES="9/minute")

        guesses = [self.ask(app, ann, method, path, f"guess {number}") for number in range(2)]
        right = self.ask(app, ann, method, path, PASSWORD, **at("192.0.2.9"))
        of_bob = self.ask(app, bob, method, path, PASSWORD)

        assert statuses(*guesses) == [403, 403]
        assert guesses[0].headers["RateLimit-Policy"] == '"writes";q=9;w=60, "sign_in_failures";q=2;w=900'
        assert '"sign_in_failures";r=1;' in guesses[0].headers["RateLimit"]
        assert_problem(right, 429, "too_many_requests")
        assert RETRY_AFTER_SECONDS < int(right.headers["Retry-After"]) <= 900
        assert of_bob.status_code in {200, 204}

    def test_is_guessed_as_seldom_in_all_ways_together(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="3/year")

        guesses = [self.ask(app, ann, method, path, "a guess") for method, path in ASKING * 2]

        assert statuses(*guesses) == [403] * 3 + [429] * 3

    def test_costs_nothing_if_it_is_right(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")

        responses = [
            self.ask(app, ann, "PATCH", "/me", PASSWORD),
            self.ask(app, ann, "PUT", "/me/password", PASSWORD),
            self.ask(app, ann, "PATCH", "/me", NEW_PASSWORD),
            self.ask(app, ann, "DELETE", "/me", NEW_PASSWORD),
        ]

        assert statuses(*responses) == [200, 204, 200, 204]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param({"about": "I like snow."}, 200, id="none needed"),
            pytest.param({"email": "new@example.com"}, 422, id="none given"),
            pytest.param({"mood": "good"}, 422, id="nonsense"),
        ],
    )
    def test_costs_nothing_if_it_is_not_asked_for(
        self, limited: Limited, make: Factory, body: dict[str, str], status: int
    ) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")

        responses = [self.ask(app, ann, "PATCH", "/me", PASSWORD, json=body) for _ in range(3)]

        assert statuses(*responses) == [status] * 3

    def test_has_a_limit_apart_from_signing_in(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")

        guesses = [self.ask(app, ann, "DELETE", "/me", "a guess") for _ in range(2)]
        at_the_door = [sign_in(app, "ann"), sign_in(app, "ann", "a guess"), sign_in(app, "ann")]

        assert statuses(*guesses, *at_the_door) == [403, 429, 200, 401, 429]


class TestPasswordReset:
    @pytest.fixture
    def guessed(self, limited: Limited, make: Factory, mailbox: Mailbox, store: str) -> Flask:
        """A service where ann's limits are used up, for both her names, at home and everywhere."""
        ann = make.user("ann")
        app = limited(
            RATE_LIMIT_SIGN_IN_FAILURES="1/year",
            RATE_LIMIT_ACCOUNT_FAILURES="2/year",
            RATELIMIT_STORAGE_URL=store,
            MAIL_URL=mailbox.url,
        )
        for name in (ann.username, ann.email):
            sign_in(app, name, "a guess", "192.0.2.1")
            sign_in(app, name, "a guess", "198.51.100.1")
        ContractClient(app).delete("/me", json={"password": "a guess"}, headers=ann.signed_in)
        ContractClient(app).post("/password-resets", json={"email": ann.email})
        return app

    def redeem(self, app: Flask, token: str) -> TestResponse:
        """Choose a new password, at home."""
        sent = {"token": token, "new_password": NEW_PASSWORD}
        return ContractClient(app).post("/password-resets/redeem", json=sent, **at("192.0.2.1"))

    @pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.2"])
    @pytest.mark.parametrize("name", ["ann", "ann@example.com"])
    def test_lets_the_owner_sign_in_again(
        self, guessed: Flask, mailbox: Mailbox, name: str, address: str
    ) -> None:
        before = sign_in(guessed, name, NEW_PASSWORD, address)

        redeemed = self.redeem(guessed, mailbox.token(RESET))
        after = sign_in(guessed, name, NEW_PASSWORD, address)

        assert statuses(before, redeemed, after) == [429, 204, 200]

    def test_lets_the_owner_change_the_account_again(self, guessed: Flask, mailbox: Mailbox) -> None:
        self.redeem(guessed, mailbox.token(RESET))
        pair = sign_in(guessed, "ann", NEW_PASSWORD)

        headers = {"Authorization": f"Bearer {pair.json['access_token']}"}
        response = ContractClient(guessed).delete("/me", json={"password": NEW_PASSWORD}, headers=headers)

        assert response.status_code == 204

    @pytest.mark.parametrize("name", ["ann", "ann@example.com"])
    def test_makes_the_place_known_to_the_account(self, guessed: Flask, mailbox: Mailbox, name: str) -> None:
        self.redeem(guessed, mailbox.token(RESET))

        guesses = [sign_in(guessed, name, "a guess", f"198.51.100.{number}") for number in (2, 3, 4)]
        here, elsewhere = (sign_in(guessed, name, NEW_PASSWORD, f"192.0.2.{number}") for number in (1, 2))

        assert statuses(*guesses, here, elsewhere) == [401, 401, 429, 200, 429]

    def test_leaves_who_guesses_elsewhere_where_they_were(self, guessed: Flask, mailbox: Mailbox) -> None:
        redeemed = self.redeem(guessed, mailbox.token(RESET))

        guesser, other = (sign_in(guessed, "ann", "a guess", f"198.51.100.{number}") for number in (1, 2))

        assert statuses(redeemed, guesser, other) == [204, 429, 401]

    def test_changes_nothing_if_it_is_refused(self, guessed: Flask) -> None:
        refused = self.redeem(guessed, "nonsense")

        assert statuses(refused, sign_in(guessed, "ann")) == [403, 429]


def test_registrations_are_limited_by_address(limited: Limited) -> None:
    client = ContractClient(limited(RATE_LIMIT_REGISTRATION="1/year", RATE_LIMIT_WRITES="1/year"))

    responses = [
        client.post("/users", json={}, **at(address)) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2")
    ]

    assert statuses(*responses) == [422, 429, 422]


def test_without_redis_requests_are_served_and_counted_and_it_is_logged_once(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://:a-secret@127.0.0.1:{free_port()}"
    client = ContractClient(limited(RATE_LIMIT_READS="3/year", RATELIMIT_STORAGE_URL=url))

    responses = [client.get("/posts") for _ in range(4)]

    assert statuses(*responses) == [200, 200, 200, 429]
    assert caplog.text.count("Redis is away") == 1
    assert "a-secret" not in caplog.text


def test_redis_is_asked_once_if_it_does_not_answer(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        client = ContractClient(limited(RATE_LIMIT_READS="1/year", RATELIMIT_STORAGE_URL=url))

        responses = [client.get("/posts") for _ in range(2)]

        silent.setblocking(False)
        connection, _ = silent.accept()
        connection.close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert statuses(*responses) == [200, 429]
    assert caplog.text.count("Redis is away") == 1


@needs_redis
class TestRedis:  # pragma: no cover -- needs redis-server
    def test_counts_for_several_processes_exactly(self, tmp_path: Path) -> None:
        redis = Redis(tmp_path)
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        settings = {"RATE_LIMIT_READS": "20/year", "RATELIMIT_STORAGE_URL": redis.url}
        with (
            redis.running(),
            running_server(tmp_path / "one", **settings) as one,
            running_server(tmp_path / "two", **settings) as two,
        ):
            calls = [lambda server=server: server.get(f"{PREFIX}/posts")[0] for server in (one, two) * 30]
            answers = at_once(*calls)

        assert sorted(answers) == [200] * 20 + [429] * 40

    def test_may_go_and_come_back(
        self,
        limited: Limited,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(quotas, "REDIS_PAUSE_SECONDS", 0)
        redis = Redis(tmp_path)
        client = ContractClient(limited(RATE_LIMIT_READS="2/year", RATELIMIT_STORAGE_URL=redis.url))

        with redis.running():
            before = [client.get("/posts") for _ in range(3)]
        away = [client.get("/posts") for _ in range(3)]
        with redis.running():
            back = [client.get("/posts") for _ in range(3)]
        away_again = client.get("/posts")

        assert statuses(*before, *away, *back) == [200, 200, 429] * 3
        assert away_again.status_code == 429
        assert caplog.text.count("Redis is away") == 2

    def test_keeps_no_names(self, limited: Limited, make: Factory, tmp_path: Path) -> None:
        make.user("ann")
        redis = Redis(tmp_path)
        app = limited(RATELIMIT_STORAGE_URL=redis.url)

        with redis.running():
            sign_in(app, "ann")
            sign_in(app, "ann", "not hers")
            keys = app.extensions["rate_limits"].store.shared.storage.storage.keys()

        assert len(keys) >= 3
        assert not any(b"ann" in key for key in keys)
