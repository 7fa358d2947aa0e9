"""Rate limits through HTTP: which requests are counted together, what is refunded, and the fields.

Units are counted in memory or in Redis, and not in the database: the tests run on SQLite only.
"""

import re
import socket
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.rate_limiting import limiter as limiter_module
from api.web.problems import RETRY_AFTER_SECONDS
from tests.support.concurrency import EXECUTING, concurrently, during_request
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.mailbox import Mailbox
from tests.support.problems import assert_problem
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import free_port, running_server
from tests.support.statements import recorded_statements

Limited = Callable[..., Flask]

RESET = "Reset your Microblog password"
YEAR_SECONDS = 360 * 24 * 3600  # As the `limits` library defines a year.
NEW_PASSWORD = "7 blue bicycles"
# The operations that need the current password in the body.
PASSWORD_OPERATIONS = [
    ("PUT", "/me/password"),
    ("PATCH", "/me"),
    ("DELETE", "/me"),
]
ZOE = {"username": "zoe", "email": "zoe@example.com", "password": NEW_PASSWORD}


@pytest.fixture
def limited(app: Flask, new_app: Callable[..., Flask]) -> Limited:
    """A function that creates an application on the same database, with the given limits."""

    def make(**settings: Any) -> Flask:
        return new_app(app.config["DATABASE_URL"], **settings)

    return make


def at(address: str) -> dict[str, Any]:
    """Return the arguments of a request from an address."""
    return {"environ_overrides": {"REMOTE_ADDR": address}}


def sign_in(app: Flask, name: str, password: str = PASSWORD, address: str = "192.0.2.1") -> TestResponse:
    """Request tokens, from an address."""
    return ContractClient(app).post("/tokens", auth=(name, password), **at(address))


def statuses(*responses: TestResponse) -> list[int]:
    """Return the status of each response."""
    return [response.status_code for response in responses]


@on_sqlite
class TestFields:
    def test_have_the_policy_and_the_units_left(self, limited: Limited) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="2/year"))

        first, second = client.get("/posts"), client.get("/posts")

        assert first.headers["RateLimit-Policy"] == f'"reads";q=2;w={YEAR_SECONDS}'
        assert first.headers["RateLimit"].startswith('"reads";r=1;t=')
        assert second.headers["RateLimit"].startswith('"reads";r=0;t=')
        assert 0 <= int(second.headers["RateLimit"].rpartition("=")[2]) <= YEAR_SECONDS

    def test_have_every_policy_of_a_sign_in(self, limited: Limited, make: Factory) -> None:
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
    def test_are_absent_from_unlimited_paths(self, limited: Limited, path: str) -> None:
        client = limited(RATE_LIMIT_READS="1/year").test_client()

        responses = [client.get(path) for _ in range(3)]

        assert statuses(*responses) == [200] * 3
        assert not any("RateLimit" in response.headers for response in responses)

    def test_are_present_on_an_internal_error(self, limited: Limited) -> None:
        app = limited()

        @app.get(f"{PREFIX}/view")
        def view() -> Any:
            raise RuntimeError

        response = app.test_client().get(f"{PREFIX}/view")

        assert_problem(response, 500, "internal_error")
        assert {"RateLimit", "RateLimit-Policy"} <= set(response.headers.keys())


@on_sqlite
class TestRefusal:
    def test_has_retry_after_and_the_exhausted_policy(self, limited: Limited) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="2/minute"))

        response = [client.get("/posts") for _ in range(5)][-1]

        assert_problem(response, 429, "too_many_requests")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert response.headers["RateLimit-Policy"] == '"reads";q=2;w=60'
        assert response.headers["RateLimit"].startswith('"reads";r=0;t=')

    def test_of_reads_does_not_affect_writes(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))

        reads = [client.get("/posts", headers=ann.signed_in) for _ in range(2)]
        write = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert statuses(*reads, write) == [200, 429, 201]

    def test_of_writes_does_not_affect_reads(self, limited: Limited, make: Factory) -> None:
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
            pytest.param("POST", "/tokens/refresh", {"json": {"refresh_token": "a"}}, id="a refresh"),
            pytest.param("DELETE", "/me", {"json": {"password": PASSWORD}}, id="a write"),
        ],
    )
    def test_executes_no_statement(
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
            pytest.param("/nothing", {}, 404, id="an unknown path"),
            pytest.param("/posts/1", {}, 405, id="an unknown method"),
        ],
    )
    def test_follows_failed_requests_too(
        self, limited: Limited, path: str, sent: dict[str, Any], status: int
    ) -> None:
        client = ContractClient(limited(RATE_LIMIT_WRITES="1/year"))

        responses = [client.post(path, **sent) for _ in range(2)]

        assert statuses(*responses) == [status, 429]

    @pytest.mark.parametrize("tag", [None, "*"])
    def test_follows_responses_without_content_too(self, limited: Limited, tag: str | None) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="3/year"))
        etag = client.get("/posts").headers["ETag"]

        responses = [client.get("/posts", headers={"If-None-Match": tag or etag}) for _ in range(3)]

        assert statuses(*responses) == [304, 304, 429]
        assert responses[0].headers["RateLimit"].startswith('"reads";r=1;')


@on_sqlite
class TestCallerKey:
    def test_is_the_account_in_all_sessions(self, limited: Limited, make: Factory) -> None:
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
            pytest.param("Bearer a{number}", id="no valid token"),
            pytest.param("Bearer WzEsMSw5OTk5OTk5OTk5LDFd.{number}", id="a token of another secret"),
            pytest.param("Basic bm9ib2R5OnBhc3N3b3Jk", id="a password"),
            pytest.param("Digest a={number}", id="another scheme"),
        ],
    )
    def test_is_the_address_without_a_valid_token(self, limited: Limited, header: str) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))

        responses = [
            client.get("/me", headers={"Authorization": header.format(number=number)}) for number in range(2)
        ]

        assert statuses(*responses) == [401, 429]

    @pytest.mark.parametrize(
        ("first", "second", "status"),
        [
            pytest.param("192.0.2.1", "192.0.2.1", 429, id="the same"),
            pytest.param("192.0.2.1", "192.0.2.2", 200, id="another"),
            pytest.param("192.0.2.1", "::ffff:192.0.2.1", 429, id="the same, mapped to IPv6"),
            pytest.param("::ffff:192.0.2.1", "::ffff:192.0.2.2", 200, id="another, mapped to IPv6"),
            pytest.param("2001:db8::1", "2001:db8::ffff:0:0:2", 429, id="the same network"),
            pytest.param("2001:db8::1", "2001:db8:0:1::1", 200, id="the next network"),
            pytest.param("fe80::1%eth0", "fe80::2%eth0", 429, id="the same link"),
            pytest.param("", "", 429, id="none"),
            pytest.param("unknown", "_hidden", 429, id="names in place of addresses"),
        ],
    )
    def test_is_the_address_or_network(self, limited: Limited, first: str, second: str, status: int) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="1/year"))

        responses = client.get("/posts", **at(first)), client.get("/posts", **at(second))

        assert statuses(*responses) == [200, status]

    @pytest.mark.parametrize(
        ("proxies", "first", "second", "status"),
        [
            pytest.param(0, "192.0.2.1", "192.0.2.2", 429, id="none trusted"),
            pytest.param(1, "192.0.2.1", "192.0.2.2", 200, id="one trusted"),
            pytest.param(1, "192.0.2.8, 192.0.2.1", "192.0.2.9, 192.0.2.1", 429, id="one of two trusted"),
            pytest.param(2, "192.0.2.8, 192.0.2.1", "192.0.2.9, 192.0.2.1", 200, id="two trusted"),
            pytest.param(
                2, "1, 192.0.2.8, 192.0.2.1", "2, 192.0.2.8, 192.0.2.1", 429, id="two of three trusted"
            ),
        ],
    )
    def test_is_the_address_that_the_trusted_proxies_report(
        self, limited: Limited, proxies: int, first: str, second: str, status: int
    ) -> None:
        client = ContractClient(limited(RATE_LIMIT_READS="1/year", TRUSTED_PROXIES=proxies))

        responses = [client.get("/posts", headers={"X-Forwarded-For": sent}) for sent in (first, second)]

        assert statuses(*responses) == [200, status]


@on_sqlite
class TestSignIn:
    def test_is_limited_by_address_together_with_refreshing(self, limited: Limited, make: Factory) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN="2/year")

        pair = sign_in(app, "ann")
        renewed = ContractClient(app).post(
            "/tokens/refresh", json={"refresh_token": pair.json["refresh_token"]}, **at("192.0.2.1")
        )
        again, elsewhere = sign_in(app, "ann"), sign_in(app, "ann", address="192.0.2.2")

        assert statuses(pair, renewed, again, elsewhere) == [200, 200, 429, 200]

    @pytest.mark.parametrize("name", ["ann", "unknown"])
    def test_with_wrong_passwords_is_limited_for_existing_and_unknown_names(
        self, limited: Limited, make: Factory, name: str
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/year")

        responses = [sign_in(app, name, f"guess {number}") for number in range(3)]

        assert statuses(*responses) == [401, 401, 429]
        assert_problem(responses[-1], 429, "too_many_requests")

    @pytest.mark.parametrize(
        "names",
        [
            pytest.param(["ann", "ann@example.com", "ann", "ann@example.com"], id="in turn"),
            pytest.param(["ANN", " ann ", "Ann@Example.com", "ann@example.com\t"], id="as they are typed"),
            pytest.param(["zoe", "zoe", "ZOE ", "zoe"], id="of no account"),
            pytest.param(
                ["z@corp.local", "Z@corp.LOCAL", "z@corp.local ", "z@corp.local"], id="no account's"
            ),
        ],
    )
    def test_with_wrong_passwords_has_one_limit_for_all_names_of_an_account(
        self, limited: Limited, make: Factory, names: list[str]
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="3/year", RATE_LIMIT_ACCOUNT_FAILURES="9/year")

        *guesses, refused = [sign_in(app, name, "a guess") for name in names]

        assert statuses(*guesses, refused) == [401, 401, 401, 429]
        assert [
            re.findall('_failures";r=([0-9])', each.headers["RateLimit"]) for each in (*guesses, refused)
        ] == [["2", "8"], ["1", "7"], ["0", "6"], ["0"]]

    def test_with_wrong_passwords_from_many_addresses_has_one_limit_for_both_names(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="3/year")

        guesses = [
            sign_in(app, name, "a guess", f"198.51.100.{number}")
            for number, name in enumerate(["ann", "ann@example.com"] * 2)
        ]

        assert statuses(*guesses) == [401, 401, 401, 429]

    def test_makes_the_address_known_for_both_names(self, limited: Limited, make: Factory) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="1/year")
        sign_in(app, "ann")

        guess = sign_in(app, "ann@example.com", "a guess", "198.51.100.1")
        here, elsewhere = sign_in(app, "ann@example.com"), sign_in(app, "ann", address="192.0.2.2")

        assert statuses(guess, here, elsewhere) == [401, 200, 429]

    def test_with_wrong_passwords_is_limited_regardless_of_case_and_encoding(
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

    def test_with_the_right_password_is_refunded(self, limited: Limited, make: Factory) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/year", RATE_LIMIT_ACCOUNT_FAILURES="2/year")

        responses = [sign_in(app, "ann", password) for password in ("a", PASSWORD, PASSWORD, "b", PASSWORD)]

        assert statuses(*responses) == [401, 200, 200, 401, 429]

    def test_stays_possible_for_the_owner_during_guesses_from_another_address(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/year", RATE_LIMIT_ACCOUNT_FAILURES="3/year")

        guesses = [sign_in(app, "ann", "a guess", "192.0.2.66") for _ in range(9)]
        owner = sign_in(app, "ann")

        assert statuses(*guesses, owner) == [401] * 2 + [429] * 7 + [200]

    def test_stays_possible_from_a_known_address_during_guesses_from_many_addresses(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="3/year")
        before = sign_in(app, "ann", address="192.0.2.1")

        guesses = [sign_in(app, "ann", "a guess", f"198.51.100.{number}") for number in range(5)]
        here, elsewhere = sign_in(app, "ann", address="192.0.2.1"), sign_in(app, "ann", address="192.0.2.2")

        assert statuses(*guesses) == [401, 401, 401, 429, 429]
        assert statuses(before, here, elsewhere) == [200, 200, 429]

    @pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
    def test_is_not_recorded_for_other_methods(self, limited: Limited, make: Factory, method: str) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_ACCOUNT_FAILURES="1/year")
        sign_in(app, "ann", "a guess", "198.51.100.1")

        app.test_client().open(f"{PREFIX}/tokens", method=method, auth=("ann", "a guess"), **at("192.0.2.1"))
        response = sign_in(app, "ann", "a guess", "192.0.2.1")

        assert response.status_code == 429

    def test_is_refused_briefly_if_requests_in_flight_hold_all_units(
        self, limited: Limited, make: Factory
    ) -> None:
        make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")
        twins: list[TestResponse] = []

        with during_request(app, lambda: twins.append(sign_in(app, "ann")), EXECUTING):
            first = sign_in(app, "ann")
        later, wrong, after_that = sign_in(app, "ann"), sign_in(app, "ann", "a guess"), sign_in(app, "ann")

        assert statuses(first, *twins, later, wrong, after_that) == [200, 429, 200, 401, 429]
        assert twins[0].headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
        assert int(after_that.headers["Retry-After"]) > RETRY_AFTER_SECONDS


@on_sqlite
class TestPasswordInTheBody:
    def send(
        self, app: Flask, member: Account, method: str, path: str, password: str, **kwargs: Any
    ) -> TestResponse:
        """Send a request with the current password in its body."""
        sent = {
            "PUT": {"current_password": password, "new_password": NEW_PASSWORD},
            "PATCH": {"current_password": password, "email": "new@example.com"},
            "DELETE": {"password": password},
        }[method]
        sent = kwargs.pop("json", sent)
        return ContractClient(app).open(path, method=method, json=sent, headers=member.signed_in, **kwargs)

    @pytest.mark.parametrize(("method", "path"), PASSWORD_OPERATIONS)
    def test_has_the_limit_of_failed_sign_ins(
        self, limited: Limited, make: Factory, method: str, path: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="2/15 minutes", RATE_LIMIT_WRITES="9/minute")

        guesses = [self.send(app, ann, method, path, f"guess {number}") for number in range(2)]
        right = self.send(app, ann, method, path, PASSWORD, **at("192.0.2.9"))
        of_bob = self.send(app, bob, method, path, PASSWORD)

        assert statuses(*guesses) == [403, 403]
        assert guesses[0].headers["RateLimit-Policy"] == '"writes";q=9;w=60, "sign_in_failures";q=2;w=900'
        assert '"sign_in_failures";r=1;' in guesses[0].headers["RateLimit"]
        assert_problem(right, 429, "too_many_requests")
        assert RETRY_AFTER_SECONDS < int(right.headers["Retry-After"]) <= 900
        assert of_bob.status_code in {200, 204}

    def test_has_one_limit_for_all_operations_together(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="3/year")

        guesses = [self.send(app, ann, method, path, "a guess") for method, path in PASSWORD_OPERATIONS * 2]

        assert statuses(*guesses) == [403] * 3 + [429] * 3

    def test_is_refunded_if_it_is_right(self, limited: Limited, make: Factory) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")

        responses = [
            self.send(app, ann, "PATCH", "/me", PASSWORD),
            self.send(app, ann, "PUT", "/me/password", PASSWORD),
            self.send(app, ann, "PATCH", "/me", NEW_PASSWORD),
            self.send(app, ann, "DELETE", "/me", NEW_PASSWORD),
        ]

        assert statuses(*responses) == [200, 204, 200, 204]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param({"about": "I like snow."}, 200, id="not needed"),
            pytest.param({"email": "new@example.com"}, 422, id="not sent"),
            pytest.param({"mood": "good"}, 422, id="unknown member"),
        ],
    )
    def test_is_refunded_if_it_was_not_checked(
        self, limited: Limited, make: Factory, body: dict[str, str], status: int
    ) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year")

        responses = [self.send(app, ann, "PATCH", "/me", PASSWORD, json=body) for _ in range(3)]

        assert statuses(*responses) == [status] * 3

    @pytest.mark.parametrize("name", ["ann", "ann@example.com"])
    def test_is_counted_together_with_signing_in_from_the_same_address(
        self, limited: Limited, make: Factory, name: str
    ) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="3/year")
        here, elsewhere = at("192.0.2.1"), at("192.0.2.2")

        guesses = [
            self.send(app, ann, "DELETE", "/me", "a guess", **here),
            sign_in(app, name, "a guess"),
            self.send(app, ann, "DELETE", "/me", "a guess", **here),
        ]
        refused = [sign_in(app, name), self.send(app, ann, "DELETE", "/me", PASSWORD, **here)]
        owner = [
            sign_in(app, name, address="192.0.2.2"),
            self.send(app, ann, "DELETE", "/me", PASSWORD, **elsewhere),
        ]

        assert statuses(*guesses, *refused, *owner) == [403, 401, 403, 429, 429, 200, 204]
        assert '"sign_in_failures";r=0;' in guesses[-1].headers["RateLimit"]
        assert guesses[-1].headers["RateLimit"].count("sign_in_failures") == 1

    def test_stays_possible_for_the_owner_during_guesses_from_many_addresses(
        self, limited: Limited, make: Factory
    ) -> None:
        ann = make.user("ann")
        app = limited(RATE_LIMIT_SIGN_IN_FAILURES="1/year", RATE_LIMIT_ACCOUNT_FAILURES="3/year")

        guesses = [sign_in(app, "ann", "a guess", f"198.51.100.{number}") for number in range(5)]
        owner = self.send(app, ann, "DELETE", "/me", PASSWORD)

        assert statuses(*guesses, owner) == [401] * 3 + [429] * 2 + [204]


@on_sqlite
class TestPasswordReset:
    @pytest.fixture
    def guessed(self, limited: Limited, make: Factory, mailbox: Mailbox, storage_url: str) -> Flask:
        """An application where ann has no failure units left, by either name and from any address."""
        ann = make.user("ann")
        app = limited(
            RATE_LIMIT_SIGN_IN_FAILURES="1/year",
            RATE_LIMIT_ACCOUNT_FAILURES="2/year",
            RATELIMIT_STORAGE_URL=storage_url,
            MAIL_URL=mailbox.url,
        )
        for name in (ann.username, ann.email):
            sign_in(app, name, "a guess", "192.0.2.1")
            sign_in(app, name, "a guess", "198.51.100.1")
        guess = {"json": {"password": "a guess"}, "headers": ann.signed_in}
        ContractClient(app).delete("/me", **guess, **at("203.0.113.1"))
        ContractClient(app).post("/password-resets", json={"email": ann.email})
        return app

    def redeem(self, app: Flask, token: str) -> TestResponse:
        """Redeem a token, from the owner's address."""
        sent = {"token": token, "new_password": NEW_PASSWORD}
        return ContractClient(app).post("/password-resets/redeem", json=sent, **at("192.0.2.1"))

    @pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.2"])
    @pytest.mark.parametrize("name", ["ann", "ann@example.com"])
    def test_resets_the_failed_sign_ins(
        self, guessed: Flask, mailbox: Mailbox, name: str, address: str
    ) -> None:
        before = sign_in(guessed, name, NEW_PASSWORD, address)

        redeemed = self.redeem(guessed, mailbox.token(RESET))
        after = sign_in(guessed, name, NEW_PASSWORD, address)

        assert statuses(before, redeemed, after) == [429, 204, 200]

    def test_resets_the_wrong_passwords_of_the_account(self, guessed: Flask, mailbox: Mailbox) -> None:
        self.redeem(guessed, mailbox.token(RESET))
        pair = sign_in(guessed, "ann", NEW_PASSWORD)

        headers = {"Authorization": f"Bearer {pair.json['access_token']}"}
        response = ContractClient(guessed).delete("/me", json={"password": NEW_PASSWORD}, headers=headers)

        assert response.status_code == 204

    @pytest.mark.parametrize("name", ["ann", "ann@example.com"])
    def test_makes_the_address_known(self, guessed: Flask, mailbox: Mailbox, name: str) -> None:
        self.redeem(guessed, mailbox.token(RESET))

        guesses = [sign_in(guessed, name, "a guess", f"198.51.100.{number}") for number in (2, 3, 4)]
        here, elsewhere = (sign_in(guessed, name, NEW_PASSWORD, f"192.0.2.{number}") for number in (1, 2))

        assert statuses(*guesses, here, elsewhere) == [401, 401, 429, 200, 429]

    def test_does_not_reset_the_failures_of_other_addresses(self, guessed: Flask, mailbox: Mailbox) -> None:
        redeemed = self.redeem(guessed, mailbox.token(RESET))

        guesser, other = (sign_in(guessed, "ann", "a guess", f"198.51.100.{number}") for number in (1, 2))

        assert statuses(redeemed, guesser, other) == [204, 429, 401]

    def test_resets_nothing_if_it_is_refused(self, guessed: Flask) -> None:
        refused = self.redeem(guessed, "nonsense")

        assert statuses(refused, sign_in(guessed, "ann")) == [403, 429]


@on_sqlite
def test_registrations_are_limited_by_address(limited: Limited) -> None:
    client = ContractClient(limited(RATE_LIMIT_REGISTRATION="1/year", RATE_LIMIT_WRITES="1/year"))

    responses = [
        client.post("/users", json={}, **at(address)) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2")
    ]

    assert statuses(*responses) == [422, 429, 422]


@on_sqlite
def test_without_redis_each_process_counts_by_itself_and_logs_once(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://:a-secret@127.0.0.1:{free_port()}"
    client = ContractClient(limited(RATE_LIMIT_READS="3/year", RATELIMIT_STORAGE_URL=url))

    responses = [client.get("/posts") for _ in range(4)]

    assert statuses(*responses) == [200, 200, 200, 429]
    assert caplog.text.count("Redis is unreachable") == 1
    assert "a-secret" not in caplog.text


@on_sqlite
def test_redis_is_not_retried_after_a_timeout(limited: Limited, caplog: pytest.LogCaptureFixture) -> None:
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
    assert caplog.text.count("Redis is unreachable") == 1


@pytest.mark.slow
@needs_redis
class TestRedis:  # pragma: no cover -- needs redis-server
    def test_counts_exactly_for_several_processes(self, tmp_path: Path) -> None:
        redis = RedisServer(tmp_path)
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        settings = {"RATE_LIMIT_READS": "20/year", "RATELIMIT_STORAGE_URL": redis.url}
        settings["DATABASE_URL"] = f"sqlite:///{tmp_path}/microblog.db"
        with (
            redis.running(),
            running_server(tmp_path / "one", **settings) as one,
            running_server(tmp_path / "two", **settings) as two,
        ):
            calls = [lambda server=server: server.get(f"{PREFIX}/posts")[0] for server in (one, two) * 30]
            answers = concurrently(*calls)

        assert sorted(answers) == [200] * 20 + [429] * 40

    @on_sqlite
    @pytest.mark.parametrize(
        ("others", "status"),
        [
            pytest.param({}, 429, id="the same deployment"),
            pytest.param({"SECRET_KEY": "of another deployment, whose URL is the same"}, 200, id="secret"),
            pytest.param({"RATELIMIT_STORAGE_PREFIX": "another"}, 200, id="prefix"),
        ],
    )
    def test_counts_separately_for_each_deployment(
        self, limited: Limited, tmp_path: Path, others: dict[str, str], status: int
    ) -> None:
        redis = RedisServer(tmp_path)
        settings = {"RATE_LIMIT_READS": "1/year", "RATELIMIT_STORAGE_URL": redis.url}
        one, other = ContractClient(limited(**settings)), ContractClient(limited(**settings, **others))

        with redis.running():
            responses = [client.get("/posts") for client in (one, one, other)]

        assert statuses(*responses) == [200, 429, status]

    def test_counts_separately_for_each_database(
        self, new_migrated_app: Callable[..., Flask], tmp_path: Path
    ) -> None:
        redis = RedisServer(tmp_path)
        settings = {"RATE_LIMIT_READS": "1/year", "RATELIMIT_STORAGE_URL": redis.url}
        clients = [ContractClient(new_migrated_app("sqlite", **settings)) for _ in range(2)]

        with redis.running():
            responses = [client.get("/posts") for client in clients * 2]

        assert statuses(*responses) == [200, 200, 429, 429]

    @on_sqlite
    def test_may_stop_and_start_again(
        self,
        limited: Limited,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(limiter_module, "REDIS_RETRY_SECONDS", 0)
        redis = RedisServer(tmp_path)
        client = ContractClient(limited(RATE_LIMIT_READS="2/year", RATELIMIT_STORAGE_URL=redis.url))

        with redis.running():
            before = [client.get("/posts") for _ in range(3)]
        away = [client.get("/posts") for _ in range(3)]
        with redis.running():
            back = [client.get("/posts") for _ in range(3)]
        away_again = client.get("/posts")

        assert statuses(*before, *away, *back) == [200, 200, 429] * 3
        assert away_again.status_code == 429
        assert caplog.text.count("Redis is unreachable") == 2

    @on_sqlite
    def test_stores_no_names(self, limited: Limited, make: Factory, tmp_path: Path) -> None:
        make.user("ann")
        redis = RedisServer(tmp_path)
        app = limited(RATELIMIT_STORAGE_URL=redis.url)

        with redis.running():
            sign_in(app, "ann")
            sign_in(app, "ann", "not hers")
            keys = app.extensions["rate_limits"].limiter._redis.storage.storage.keys()

        assert len(keys) >= 3
        assert not any(b"ann" in key for key in keys)
