"""Users: register, read profiles, and manage your own account."""

import re
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.db import db
from api.models import User
from api.users.schemas import RESERVED_USERNAMES
from tests.support.concurrency import (
    CONNECTION_RETURNED,
    TRANSACTION_BEGUN,
    TRANSACTION_ENDED,
    concurrently,
    during_request,
    leaving,
)
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import no_sql, on_sqlite
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.problems import assert_problem

MERGE_PATCH = "application/merge-patch+json"
NEW_PASSWORD = "7 blue bicycles"
# The statuses of a request that a concurrent one precedes; any that the contract has is valid.
REFUSALS = {401, 403, 409}
E_ACUTE = "e\N{COMBINING ACUTE ACCENT}"  # Two code points, one after NFC.
LONGEST_EMAIL = f"{'a' * 64}@{'.'.join(['d' * 61] * 3)}.com"

ACCEPTED_USERNAMES = [
    pytest.param("bob", id="3"),
    pytest.param("b" * 64, id="64"),
    pytest.param("B.o-b_7", id="every kind of punctuation"),
    pytest.param("Administer", id="begins like a reserved one"),
    pytest.param("call", id="ends like a reserved one"),
]
REFUSED_USERNAMES = [
    pytest.param("", "blank", id="empty"),
    pytest.param("   ", "blank", id="blank"),
    pytest.param("bo", "too_short", id="2"),
    pytest.param("b" * 65, "too_long", id="65"),
    pytest.param("7bob", "wrong_format", id="digit first"),
    pytest.param("_bob", "wrong_format", id="underscore first"),
    pytest.param("bob.", "wrong_format", id="dot last"),
    pytest.param("bob-", "wrong_format", id="hyphen last"),
    pytest.param("bob_", "wrong_format", id="underscore last"),
    pytest.param("bob. ", "wrong_format", id="dot before a space"),
    pytest.param("bob..dylan", "wrong_format", id="two dots"),
    pytest.param("bob._dylan", "wrong_format", id="dot and underscore"),
    pytest.param("bob--dylan", "wrong_format", id="two hyphens"),
    pytest.param("b__", "wrong_format", id="two underscores last"),
    pytest.param("bob dylan", "wrong_format", id="space"),
    pytest.param("bob/posts", "wrong_format", id="slash"),
    pytest.param("bob@example.com", "wrong_format", id="email address"),
    pytest.param("böb", "wrong_format", id="letter outside ASCII"),
    pytest.param("bob\N{LATIN SMALL LETTER LONG S}", "wrong_format", id="letter that folds to ASCII"),
    pytest.param("\N{FULLWIDTH LATIN SMALL LETTER B}ob", "wrong_format", id="fullwidth letter"),
    pytest.param("bob\N{RIGHT-TO-LEFT OVERRIDE}dylan", "wrong_format", id="bidirectional control"),
    pytest.param("bob\0", "control_character", id="NUL"),
    pytest.param("api", "reserved", id="reserved"),
    pytest.param("ADMIN", "reserved", id="reserved in upper case"),
    pytest.param("OpenAPI.json", "reserved", id="reserved with a dot"),
    pytest.param("Mods", "reserved", id="plural of a role"),
    pytest.param("no-reply", "reserved", id="reserved with a hyphen"),
    pytest.param("a.d.m.i.n", "reserved", id="reserved with dots"),
    pytest.param(" all ", "reserved", id="reserved with spaces"),
    pytest.param(None, "null_not_allowed", id="null"),
    pytest.param(7777, "wrong_type", id="number"),
    pytest.param(True, "wrong_type", id="boolean"),
    pytest.param(["bob"], "wrong_type", id="list"),
    pytest.param({"name": "bob"}, "wrong_type", id="object"),
]
ACCEPTED_EMAILS = [
    pytest.param("bob@example.com", "bob@example.com", id="plain"),
    pytest.param("Bob@Example.COM", "Bob@example.com", id="domain in upper case"),
    pytest.param("bob+blog@mail.example.com", "bob+blog@mail.example.com", id="with a tag"),
    pytest.param("bob@bücher.example", "bob@xn--bcher-kva.example", id="domain outside ASCII"),
    pytest.param("bob@bu\u0308cher.example", "bob@xn--bcher-kva.example", id="domain not composed"),
    pytest.param("bob@Example.TEST", "bob@example.test", id="reserved for tests"),
    pytest.param("bob@mail.invalid", "bob@mail.invalid", id="reserved as invalid"),
    pytest.param("bob@localhost", "bob@localhost", id="localhost"),
    pytest.param("bob@BÜCHER.test", "bob@xn--bcher-kva.test", id="for tests, outside ASCII"),
    pytest.param(LONGEST_EMAIL, LONGEST_EMAIL, id="254"),
]
REFUSED_EMAILS = [
    pytest.param("", "blank", id="empty"),
    pytest.param("bob", "wrong_format", id="name"),
    pytest.param("bob@", "wrong_format", id="no domain"),
    pytest.param("@example.com", "wrong_format", id="no local part"),
    pytest.param("bob@intranet", "wrong_format", id="domain without a dot"),
    pytest.param("bob@corp.local", "wrong_format", id="domain of a private network"),
    pytest.param("bob@mylocalhost", "wrong_format", id="domain that ends like localhost"),
    pytest.param("bob@localhost.", "wrong_format", id="domain with a dot last"),
    pytest.param("bob@.localhost", "wrong_format", id="domain with a dot first"),
    pytest.param("bob@local_host.test", "wrong_format", id="domain with an underscore"),
    pytest.param("bob@[127.0.0.1]", "wrong_format", id="IP address"),
    pytest.param("bob@bob@example.com", "wrong_format", id="two at signs"),
    pytest.param("bob @example.com", "wrong_format", id="space"),
    pytest.param("bob@ example.com", "wrong_format", id="space after the at sign"),
    pytest.param("bob@example.com\nBcc: eve@example.com", "wrong_format", id="newline"),
    pytest.param('"bob b"@example.com', "wrong_format", id="quoted"),
    pytest.param("=?utf-8?q?eve=40example.org=3E?=@example.com", "wrong_format", id="encoded word"),
    pytest.param("Bob <bob@example.com>", "wrong_format", id="with a name"),
    pytest.param("böb@example.com", "wrong_format", id="local part outside ASCII"),
    pytest.param("bob@example.com\0", "control_character", id="NUL"),
    pytest.param(LONGEST_EMAIL.replace("@d", "@dd"), "too_long", id="255"),
    pytest.param(None, "null_not_allowed", id="null"),
    pytest.param(7, "wrong_type", id="number"),
    pytest.param(["bob@example.com"], "wrong_type", id="list"),
]
ACCEPTED_ABOUTS = [
    pytest.param("", "", id="empty"),
    pytest.param(" ", " ", id="blank"),
    pytest.param("a" * 280, "a" * 280, id="280"),
    pytest.param(E_ACUTE * 280, "é" * 280, id="280 composed"),
    pytest.param("🦉" * 280, "🦉" * 280, id="280 beyond 16 bits"),
    pytest.param("one\n\ttwo", "one\n\ttwo", id="newline and tab"),
    pytest.param("a\r\nb\rc\u2028d\u2029e\r\r\n", "a\nb\nc\nd\ne\n\n", id="line ends"),
    pytest.param("\r\n" * 280, "\n" * 280, id="280 with CRLF"),
]
REFUSED_ABOUTS = [
    pytest.param("a" * 281, "too_long", id="281"),
    pytest.param(E_ACUTE * 281, "too_long", id="281 composed"),
    pytest.param("\r\n" * 281, "too_long", id="281 with CRLF"),
    pytest.param("a\0", "control_character", id="NUL"),
    pytest.param(None, "null_not_allowed", id="null"),
    pytest.param(7, "wrong_type", id="number"),
    pytest.param(["a"], "wrong_type", id="list"),
]
ACCEPTED_PASSWORDS = [
    pytest.param("q7!xZ v2", id="8"),
    pytest.param(E_ACUTE * 8, id="8 composed"),
    pytest.param("v2 q7!xZ" * 16, id="128"),
    pytest.param(E_ACUTE * 128, id="128 composed"),
    pytest.param("🦉" * 128, id="128 beyond 16 bits"),
    pytest.param("v2 q7!xZ\u2028", id="line separator, which is no line end here"),
    pytest.param("  owls : and spaces  ", id="spaces and a colon"),
]
REFUSED_PASSWORDS = [
    pytest.param("", "blank", id="empty"),
    pytest.param(" " * 8, "blank", id="blank"),
    pytest.param("q7!xZ v", "too_short", id="7"),
    pytest.param(E_ACUTE * 7, "too_short", id="7 composed"),
    pytest.param("v2 q7!xZ" * 16 + "a", "too_long", id="129"),
    pytest.param(E_ACUTE * 129, "too_long", id="129 composed"),
    pytest.param("a" * 60_000, "too_long", id="60,000"),
    pytest.param("password1", "too_common", id="common"),
    pytest.param("PassWord1", "too_common", id="common in another case"),
    pytest.param("q7!xZ v2\0", "control_character", id="NUL"),
    pytest.param(None, "null_not_allowed", id="null"),
    pytest.param(12345678, "wrong_type", id="number"),
    pytest.param(["q7!xZ v2"], "wrong_type", id="list"),
]
# Text around a name or an address that keyboards add, or that is copied from a page.
SURROUNDINGS = [
    pytest.param("{} ", id="space after"),
    pytest.param(" {}", id="space before"),
    pytest.param("\t{}\r\n", id="tab and line end"),
    pytest.param("\N{NO-BREAK SPACE}{}\N{NARROW NO-BREAK SPACE}", id="no-break spaces"),
    pytest.param("\N{IDEOGRAPHIC SPACE}{}\N{EM SPACE}", id="wide spaces"),
    pytest.param("\N{ZERO WIDTH NO-BREAK SPACE}{}\N{ZERO WIDTH SPACE}", id="no width"),
    pytest.param("\N{LEFT-TO-RIGHT EMBEDDING}{}\N{POP DIRECTIONAL FORMATTING} ", id="direction marks"),
    pytest.param(f"{' ' * 300}{{}}{' ' * 300}", id="many spaces"),
]
# The username and email address of the account bob.dylan.
NAMES_FOR_PASSWORDS = [
    pytest.param("bob.dylan", id="name"),
    pytest.param("Bob.DYLAN", id="name in another case"),
    pytest.param("bob.dylan@example.com", id="address"),
    pytest.param("BOB.dylan@Example.com", id="address in another case"),
]
UNKNOWN_MEMBERS = ["id", "password_hash", "created_at", "version", "is_admin", "folded_username", "posts"]


def registration(**changes: Any) -> dict[str, Any]:
    """Return the body of a registration of bob, with changes."""
    return {"username": "bob", "email": "bob@example.com", "password": PASSWORD, **changes}


def errors_of(response: TestResponse) -> list[tuple[str, str]]:
    """Return the pointer and the code of each error."""
    return [(error["pointer"], error["code"]) for error in response.json["errors"]]


def usernames(client: ContractClient, **query: str) -> list[str]:
    """Return the usernames on the first page of the list of users."""
    return [user["username"] for user in client.get("/users", query_string=query).json["items"]]


def sign_in(client: ContractClient, name: str, password: str = PASSWORD) -> TestResponse:
    """Request tokens."""
    return client.post("/tokens", auth=(name, password))


def bearer(pair: TestResponse) -> dict[str, str]:
    """Return the headers of a request with the access token of a pair."""
    return {"Authorization": f"Bearer {pair.json['access_token']}"}


def account_of(client: ContractClient, member: Account) -> Any:
    """Return the representation of a user's own account."""
    return client.get("/me", headers=member.signed_in).json


def change_password(
    client: ContractClient,
    headers: dict[str, str],
    current_password: str = PASSWORD,
    new_password: str = NEW_PASSWORD,
) -> TestResponse:
    """Change the password."""
    sent = {"current_password": current_password, "new_password": new_password}
    return client.put("/me/password", json=sent, headers=headers)


def delete_account(client: ContractClient, member: Account) -> TestResponse:
    """Delete an account."""
    return client.delete("/me", json={"password": member.password}, headers=member.signed_in)


class TestCreateUser:
    def test_registers(self, client: ContractClient) -> None:
        response = client.post("/users", json=registration())

        assert response.status_code == 201
        assert response.json == {
            "id": response.json["id"],
            "username": "bob",
            "email": "bob@example.com",
            "about": "",
            "created_at": response.json["created_at"],
            "etag": response.json["etag"],
            "counts": None,
            "viewer": None,
            "email_verified_at": None,
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", response.json["created_at"])

    def test_has_the_location_of_the_public_profile(self, client: ContractClient) -> None:
        response = client.post("/users", json=registration())

        account: Any = response.json
        assert response.headers["Location"] == f"{PREFIX}/users/bob"
        profile: Any = client.get("/users/bob").json
        own = {name: account[name] for name in ("email", "email_verified_at", "etag")}
        assert {**profile, **own} == account

    def test_allows_the_user_to_sign_in(self, client: ContractClient) -> None:
        account = client.post("/users", json=registration()).json

        pair = sign_in(client, "bob")

        assert client.get("/me", headers=bearer(pair)).json == account

    @pytest.mark.parametrize("username", ACCEPTED_USERNAMES)
    def test_stores_the_username_in_its_case(self, client: ContractClient, username: str) -> None:
        response = client.post("/users", json=registration(username=username))

        assert response.status_code == 201
        assert response.json["username"] == username
        assert response.headers["Location"] == f"{PREFIX}/users/{username}"
        assert client.get(f"/users/{username}").json["username"] == username

    @pytest.mark.parametrize(("email", "stored"), ACCEPTED_EMAILS)
    def test_stores_the_normalized_email_address(
        self, client: ContractClient, email: str, stored: str
    ) -> None:
        response = client.post("/users", json=registration(email=email))

        assert response.status_code == 201
        assert response.json["email"] == stored

    @pytest.mark.parametrize(("about", "stored"), ACCEPTED_ABOUTS)
    def test_stores_the_self_description(self, client: ContractClient, about: str, stored: str) -> None:
        response = client.post("/users", json=registration(about=about))

        assert response.status_code == 201
        assert response.json["about"] == stored
        assert client.get("/users/bob").json["about"] == stored

    @on_sqlite
    @pytest.mark.parametrize("password", ACCEPTED_PASSWORDS)
    def test_accepts_a_strong_password(self, client: ContractClient, password: str) -> None:
        response = client.post("/users", json=registration(password=password))

        assert response.status_code == 201
        assert sign_in(client, "bob", password).status_code == 200

    def test_accepts_a_password_in_any_normalization_form(self, client: ContractClient) -> None:
        client.post("/users", json=registration(password=E_ACUTE * 8))

        assert sign_in(client, "bob", "é" * 8).status_code == 200

    @on_sqlite
    @pytest.mark.parametrize("surrounded", SURROUNDINGS)
    def test_ignores_white_space_around_username_and_address(
        self, client: ContractClient, surrounded: str
    ) -> None:
        names = {"username": surrounded.format("bob"), "email": surrounded.format("bob@example.com")}

        response = client.post("/users", json=registration(**names))

        assert response.status_code == 201
        assert (response.json["username"], response.json["email"]) == ("bob", "bob@example.com")
        again = client.post("/users", json=registration(email="b@example.com", username=names["username"]))
        assert (again.status_code, errors_of(again)) == (409, [("/username", "already_taken")])

    def test_keeps_white_space_around_the_password(self, client: ContractClient) -> None:
        client.post("/users", json=registration(password=f" {PASSWORD} "))

        assert sign_in(client, "bob", PASSWORD).status_code == 401
        assert sign_in(client, "bob", f" {PASSWORD} ").status_code == 200

    @no_sql
    def test_refuses_white_space_within_a_long_username_quickly(self, client: ContractClient) -> None:
        began = perf_counter()

        response = client.post("/users", json=registration(username=f"bob{' ' * 60_000}dylan"))

        assert errors_of(response) == [("/username", "too_long")]
        assert perf_counter() - began < 5

    @on_sqlite
    @pytest.mark.parametrize(("username", "code"), REFUSED_USERNAMES)
    def test_refuses_an_invalid_username(self, client: ContractClient, username: Any, code: str) -> None:
        response = client.post("/users", json=registration(username=username))

        assert response.status_code == 422
        assert errors_of(response) == [("/username", code)]
        assert usernames(client) == []

    @on_sqlite
    @pytest.mark.parametrize(
        ("environment", "domains", "statuses"),
        [
            pytest.param("development", "", [201, 201, 422, 422], id="in development"),
            pytest.param("development", "corp.local", [201, 422, 201, 422], id="of one private network"),
            pytest.param("production", "", [201, 422, 422, 422], id="in production"),
            pytest.param("production", "Local, intranet", [201, 422, 201, 201], id="of private networks"),
        ],
    )
    def test_accepts_the_addresses_that_the_setting_allows(
        self,
        app: Flask,
        new_app: Callable[..., Flask],
        environment: str,
        domains: str,
        statuses: list[int],
    ) -> None:
        settings = {"ENVIRONMENT": environment, "PRIVATE_EMAIL_DOMAINS": domains}
        limited = ContractClient(new_app(app.config["DATABASE_URL"], **settings))

        responses = [
            limited.post("/users", json=registration(username=f"bob{number}", email=f"bob@{domain}"))
            for number, domain in enumerate(["example.com", "a.test", "mail.corp.local", "intranet"])
        ]

        assert [response.status_code for response in responses] == statuses
        # Another application of the same process is not affected.
        response = ContractClient(app).post("/users", json=registration(email="rob@a.test"))
        assert response.status_code == 201

    @on_sqlite
    def test_refuses_every_reserved_username(self, client: ContractClient) -> None:
        codes = {
            name: client.post("/users", json=registration(username=name.capitalize())).status_code
            for name in RESERVED_USERNAMES
        }

        assert codes == dict.fromkeys(RESERVED_USERNAMES, 422)
        assert usernames(client) == []

    @on_sqlite
    @pytest.mark.parametrize(("email", "code"), REFUSED_EMAILS)
    def test_refuses_an_invalid_email_address(self, client: ContractClient, email: Any, code: str) -> None:
        response = client.post("/users", json=registration(email=email))

        assert response.status_code == 422
        assert errors_of(response) == [("/email", code)]
        assert usernames(client) == []

    @no_sql
    @pytest.mark.parametrize(("about", "code"), REFUSED_ABOUTS)
    def test_refuses_an_invalid_self_description(self, client: ContractClient, about: Any, code: str) -> None:
        response = client.post("/users", json=registration(about=about))

        assert response.status_code == 422
        assert errors_of(response) == [("/about", code)]

    @on_sqlite
    @pytest.mark.parametrize(("password", "code"), REFUSED_PASSWORDS)
    def test_refuses_a_weak_or_invalid_password(
        self, client: ContractClient, password: Any, code: str
    ) -> None:
        response = client.post("/users", json=registration(password=password))

        assert response.status_code == 422
        assert errors_of(response) == [("/password", code)]
        assert usernames(client) == []

    @no_sql
    @pytest.mark.parametrize("password", NAMES_FOR_PASSWORDS)
    def test_refuses_a_name_as_the_password(self, client: ContractClient, password: str) -> None:
        sent = registration(username="bob.dylan", email="bob.dylan@example.com", password=password)

        response = client.post("/users", json=sent)

        assert response.status_code == 422
        assert errors_of(response) == [("/password", "same_as_name")]

    @no_sql
    @pytest.mark.parametrize("member", ["username", "email", "password"])
    def test_requires_all_members(self, client: ContractClient, member: str) -> None:
        sent = registration()
        del sent[member]

        response = client.post("/users", json=sent)

        assert response.status_code == 422
        assert errors_of(response) == [(f"/{member}", "required")]

    @on_sqlite
    @pytest.mark.parametrize("member", UNKNOWN_MEMBERS)
    def test_refuses_unknown_members(self, client: ContractClient, member: str) -> None:
        response = client.post("/users", json=registration(**{member: 1}))

        assert response.status_code == 422
        assert errors_of(response) == [(f"/{member}", "unknown_member")]

    @no_sql
    def test_reports_all_errors(self, client: ContractClient) -> None:
        response = client.post("/users", json={"username": "b", "password": "b", "admin": True})

        assert sorted(errors_of(response)) == [
            ("/admin", "unknown_member"),
            ("/email", "required"),
            ("/password", "too_short"),
            ("/username", "too_short"),
        ]

    @pytest.mark.parametrize(
        ("taken", "pointer"),
        [
            pytest.param({"username": "ann"}, "/username", id="name"),
            pytest.param({"username": "ANN"}, "/username", id="name in another case"),
            pytest.param({"email": "ann@example.com"}, "/email", id="address"),
            pytest.param({"email": "Ann@EXAMPLE.com"}, "/email", id="address in another case"),
        ],
    )
    def test_refuses_a_username_or_address_in_use(
        self, client: ContractClient, make: Factory, taken: dict[str, str], pointer: str
    ) -> None:
        make.user("ann")

        response = client.post("/users", json=registration(**taken))

        assert response.status_code == 409
        assert response.json["code"] == "already_taken"
        assert errors_of(response) == [(pointer, "already_taken")]
        assert usernames(client) == ["ann"]

    @pytest.mark.parametrize(
        ("member", "shared"), [("username", "bob"), ("email", "bob@example.com")], ids=["name", "address"]
    )
    def test_succeeds_once_for_concurrent_requests(
        self, app: Flask, client: ContractClient, member: str, shared: str
    ) -> None:
        def register(number: int) -> Callable[[], TestResponse]:
            own = {"username": f"bob{number}", "email": f"bob{number}@example.com"}
            own[member] = shared
            return lambda: ContractClient(app).post("/users", json=registration(**own))

        responses = concurrently(*map(register, range(6)))

        assert sorted(response.status_code for response in responses) == [201] + [409] * 5
        assert [
            response.json["errors"][0]["pointer"] for response in responses if response.status_code == 409
        ] == [f"/{member}"] * 5
        assert len(usernames(client)) == 1


class TestListUsers:
    def test_returns_the_newest_first(self, client: ContractClient, make: Factory) -> None:
        for username in ("bob", "ann", "Cleo"):
            make.user(username)

        assert usernames(client) == ["Cleo", "ann", "bob"]

    def test_returns_public_profiles(self, client: ContractClient, make: Factory) -> None:
        make.user("ann", about="Botanist.")

        response = client.get("/users")

        assert response.json["items"] == [client.get("/users/ann").json]
        assert "example.com" not in response.text
        assert "argon2" not in response.text

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            pytest.param("ann", ["ann", "Ann-1", "ann.1", "ann1", "ann_1", "ANNA"], id="sorted by name"),
            pytest.param("ANN", ["ann", "Ann-1", "ann.1", "ann1", "ann_1", "ANNA"], id="in another case"),
            pytest.param("ann_", ["ann_1"], id="no underscore wildcard"),
            pytest.param("%", [], id="no percent wildcard"),
            pytest.param("anna", ["ANNA"], id="whole name"),
            pytest.param("nna", [], id="in the middle of a name"),
            pytest.param("zzz", ["zzz" + "z" * 61], id="longest name"),
            pytest.param("z" * 64, ["z" * 64], id="64"),
            pytest.param("é", [], id="character outside ASCII"),
            pytest.param("bob@example.com", [], id="email address"),
            pytest.param("\N{NO-BREAK SPACE}anna ", ["ANNA"], id="white space around"),
        ],
    )
    def test_finds_usernames_by_prefix(
        self, client: ContractClient, make: Factory, prefix: str, expected: list[str]
    ) -> None:
        for username in ("ann_1", "bob", "ANNA", "ann", "ann1", "z" * 64, "Ann-1", "an-n", "ann.1"):
            make.user(username)

        assert usernames(client, q=prefix) == expected

    def test_has_pages_of_the_users_found(self, client: ContractClient, make: Factory) -> None:
        for username in ("ann5", "Ann2", "bob", "ann1", "ann4", "ANN3"):
            make.user(username)

        first = client.get("/users?q=ann&limit=2").json
        second = client.get(f"/users?q=ann&limit=2&cursor={first['next_cursor']}").json
        third = client.get(f"/users?q=ann&limit=2&cursor={second['next_cursor']}").json
        back = client.get(f"/users?q=ann&limit=2&cursor={third['prev_cursor']}").json

        assert [[user["username"] for user in page["items"]] for page in (first, second, third)] == [
            ["ann1", "Ann2"],
            ["ANN3", "ann4"],
            ["ann5"],
        ]
        assert third["next_cursor"] is None
        assert back["items"] == second["items"]

    def test_refuses_a_cursor_in_another_order(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        cursor = client.get("/users?q=ann").json["prev_cursor"]

        response = client.get(f"/users?cursor={cursor}")

        assert response.status_code == 400
        assert response.json["code"] == "invalid_cursor"

    @no_sql
    @pytest.mark.parametrize(
        ("query", "parameter", "code"),
        [
            pytest.param("q=", "q", "blank", id="empty"),
            pytest.param(f"q={'a' * 65}", "q", "too_long", id="65"),
            pytest.param("q=a%00", "q", "control_character", id="NUL"),
            pytest.param("q=a&q=b", "q", "repeated", id="twice"),
            pytest.param("email=ann@example.com", "email", "unknown_parameter", id="by address"),
        ],
    )
    def test_refuses_invalid_parameters(
        self, client: ContractClient, query: str, parameter: str, code: str
    ) -> None:
        response = client.get(f"/users?{query}")

        assert_problem(response, 422, "invalid_input", {"parameter": parameter, "code": code})


class TestGetUser:
    @pytest.mark.parametrize("written", ["ann", "ANN", "Ann"])
    def test_returns_the_public_profile(self, client: ContractClient, make: Factory, written: str) -> None:
        ann = make.user("ann", about="Botanist.")

        response = client.get(f"/users/{written}")

        assert response.status_code == 200
        assert response.json == {
            "id": ann.id,
            "username": "ann",
            "about": "Botanist.",
            "created_at": account_of(client, ann)["created_at"],
            "etag": response.json["etag"],
            "counts": None,
            "viewer": None,
        }

    def test_returns_the_same_to_the_owner(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = client.get("/users/ann", headers=ann.signed_in)

        assert response.json == client.get("/users/ann").json
        assert "example.com" not in response.text
        assert "argon2" not in response.text

    @pytest.mark.parametrize(
        "written", ["unknown", "an", "a" * 65, "1", "7up", "ann@example.com", "ann%00", "%C3%A4nn", "ann/"]
    )
    def test_returns_404_for_an_unknown_username(
        self, client: ContractClient, make: Factory, written: str
    ) -> None:
        make.user("ann")

        response = client.get(f"/users/{written}")

        assert response.status_code == 404


class TestGetAccount:
    def test_returns_the_callers_account(self, client: ContractClient, make: Factory) -> None:
        make.user("bob")
        ann = make.user("ann", email="Ann@example.com", about="Botanist.")

        response = client.get("/me", headers=ann.signed_in)

        profile: Any = client.get("/users/ann").json
        assert response.status_code == 200
        own = {"email": "Ann@example.com", "email_verified_at": None, "etag": response.json["etag"]}
        assert response.json == {**profile, **own}

    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(delete_account, ContractClient(app), ann)

        with during_request(app, elsewhere, CONNECTION_RETURNED):
            response = client.get("/me", headers=ann.signed_in)

        assert response.status_code == 401


class TestUpdateAccount:
    def test_returns_the_changes_if_the_account_is_deleted_after_the_commit(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(delete_account, ContractClient(app), ann)

        with during_request(app, elsewhere, TRANSACTION_ENDED):
            response = client.patch("/me", json={"about": "Gardener."}, headers=ann.signed_in)

        assert response.status_code == 200
        assert response.json["about"] == "Gardener."

    @pytest.mark.parametrize("media_type", ["application/json", MERGE_PATCH])
    def test_changes_the_members_that_are_sent(
        self, client: ContractClient, make: Factory, media_type: str
    ) -> None:
        ann = make.user("ann", about="Botanist.")
        before = account_of(client, ann)

        response = client.patch(
            "/me", json={"about": "Gardener."}, headers=ann.signed_in, content_type=media_type
        )

        assert response.status_code == 200
        assert response.json == {**before, "about": "Gardener.", "etag": response.json["etag"]}
        assert account_of(client, ann) == response.json
        assert client.get("/users/ann").json["about"] == "Gardener."

    @pytest.mark.parametrize("media_type", ["application/json", MERGE_PATCH])
    def test_changes_nothing_without_members(
        self, client: ContractClient, make: Factory, media_type: str
    ) -> None:
        ann = make.user("ann", about="Botanist.")
        before = account_of(client, ann)

        response = client.patch("/me", json={}, headers=ann.signed_in, content_type=media_type)

        assert response.status_code == 200
        assert response.json == before
        assert account_of(client, ann) == before

    def test_changes_all_members_together(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann", about="Botanist.")
        sent = {"username": "cleo", "email": "cleo@example.com", "about": ""}

        response = client.patch("/me", json={**sent, "current_password": PASSWORD}, headers=ann.signed_in)

        assert response.status_code == 200
        assert sent.items() <= account_of(client, ann).items()

    def test_does_not_change_other_users(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        before = account_of(client, bob)

        client.patch("/me", json={"username": "cleo", "about": "Botanist."}, headers=ann.signed_in)

        assert account_of(client, bob) == before

    def test_renames_the_user_in_all_representations(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        post_id = make.post(ann)

        response = client.patch("/me", json={"username": "cleo"}, headers=ann.signed_in)

        assert response.json["username"] == "cleo"
        assert client.get("/users/ann").status_code == 404
        assert client.get("/users/cleo").json["id"] == ann.id
        assert client.get(f"/posts/{post_id}").json["author"]["username"] == "cleo"
        assert client.get("/posts").json["items"][0]["author"]["username"] == "cleo"
        assert sign_in(client, "ann").status_code == 401
        assert sign_in(client, "cleo").status_code == 200

    def test_allows_others_to_use_the_previous_username_and_address(
        self, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        sent = {"username": "cleo", "email": "cleo@example.com", "current_password": PASSWORD}
        client.patch("/me", json=sent, headers=ann.signed_in)

        response = client.post("/users", json=registration(username="ann", email="ann@example.com"))

        assert response.status_code == 201

    @pytest.mark.parametrize("username", [pytest.param("ANN", id="in another case"), *ACCEPTED_USERNAMES])
    def test_stores_the_username_in_its_case(
        self, client: ContractClient, make: Factory, username: str
    ) -> None:
        ann = make.user("ann")

        response = client.patch("/me", json={"username": username}, headers=ann.signed_in)

        assert response.status_code == 200
        assert client.get(f"/users/{username}").json["username"] == username

    @on_sqlite
    @pytest.mark.parametrize("surrounded", SURROUNDINGS)
    def test_ignores_white_space_around_username_and_address(
        self, client: ContractClient, make: Factory, surrounded: str
    ) -> None:
        ann = make.user("ann")
        sent = {"username": surrounded.format("cleo"), "email": surrounded.format("cleo@example.com")}

        response = client.patch("/me", json={**sent, "current_password": PASSWORD}, headers=ann.signed_in)

        assert response.status_code == 200
        assert (response.json["username"], response.json["email"]) == ("cleo", "cleo@example.com")

    @pytest.mark.parametrize("username", ["ann.", "ann--b", "Mods", "no_reply"])
    @pytest.mark.parametrize("in_case", [str, str.upper])
    def test_accepts_the_present_username_and_address_that_a_new_user_could_not_have(
        self, client: ContractClient, make: Factory, username: str, in_case: Callable[[str], str]
    ) -> None:
        ann = make.user(username, email="ann@corp.local")
        sent = {"username": in_case(username), "email": "Ann@corp.local", "about": "Hello."}

        response = client.patch("/me", json={**sent, "current_password": PASSWORD}, headers=ann.signed_in)

        assert response.status_code == 200
        assert sent.items() <= account_of(client, ann).items()
        assert client.get(f"/users/{username}").json["id"] == ann.id
        assert sign_in(client, username).status_code == 200
        assert sign_in(client, "ann@corp.local").status_code == 200

    def test_applies_the_rules_to_a_different_username_and_address(
        self, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann.", email="ann@corp.local")
        make.user("bob.")

        sent = {"username": "ann_", "email": "bob@corp.local", "current_password": PASSWORD}
        refused = client.patch("/me", json=sent, headers=ann.signed_in)
        away = client.patch("/me", json={"username": "ann"}, headers=ann.signed_in)
        back = client.patch("/me", json={"username": "ann."}, headers=ann.signed_in)

        assert sorted(errors_of(refused)) == [("/email", "wrong_format"), ("/username", "wrong_format")]
        assert away.status_code == 200
        assert errors_of(back) == [("/username", "wrong_format")]

    @pytest.mark.parametrize(("about", "stored"), ACCEPTED_ABOUTS)
    def test_stores_the_self_description(
        self, client: ContractClient, make: Factory, about: str, stored: str
    ) -> None:
        ann = make.user("ann", about="Botanist.")

        response = client.patch("/me", json={"about": about}, headers=ann.signed_in)

        assert response.status_code == 200
        assert account_of(client, ann)["about"] == stored

    @pytest.mark.parametrize(("email", "stored"), ACCEPTED_EMAILS)
    def test_changes_the_address_with_the_password(
        self, client: ContractClient, make: Factory, email: str, stored: str
    ) -> None:
        ann = make.user("ann")

        response = client.patch(
            "/me", json={"email": email, "current_password": PASSWORD}, headers=ann.signed_in
        )

        assert response.status_code == 200
        assert response.json["email"] == stored
        assert account_of(client, ann)["email"] == stored
        assert sign_in(client, stored).status_code == 200
        assert sign_in(client, "ann@example.com").status_code == 401

    def test_requires_the_password_to_change_the_address(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        before = account_of(client, ann)

        response = client.patch(
            "/me", json={"email": "eve@example.com", "about": "Eve."}, headers=ann.signed_in
        )

        assert response.status_code == 422
        assert errors_of(response) == [("/current_password", "required")]
        assert account_of(client, ann) == before

    @pytest.mark.parametrize("password", [PASSWORD.upper(), "a" * 128, "a", f"{PASSWORD} "])
    def test_refuses_a_wrong_password_to_change_the_address(
        self, client: ContractClient, make: Factory, password: str
    ) -> None:
        ann = make.user("ann")
        before = account_of(client, ann)
        sent = {"email": "eve@example.com", "about": "Eve.", "current_password": password}

        response = client.patch("/me", json=sent, headers=ann.signed_in)

        assert response.status_code == 403
        assert response.json["code"] == "wrong_password"
        assert errors_of(response) == [("/current_password", "wrong_password")]
        assert account_of(client, ann) == before

    @pytest.mark.parametrize(
        ("taken", "pointer"),
        [
            pytest.param({"username": "bob"}, "/username", id="name"),
            pytest.param({"username": "BOB"}, "/username", id="name in another case"),
            pytest.param({"email": "bob@example.com"}, "/email", id="address"),
            pytest.param({"email": "Bob@EXAMPLE.com"}, "/email", id="address in another case"),
        ],
    )
    def test_refuses_a_username_or_address_of_another_user(
        self, client: ContractClient, make: Factory, taken: dict[str, str], pointer: str
    ) -> None:
        make.user("bob")
        ann = make.user("ann")
        before = account_of(client, ann)

        response = client.patch(
            "/me",
            json={"about": "Bob.", "current_password": PASSWORD, **taken},
            headers=ann.signed_in,
        )

        assert response.status_code == 409
        assert response.json["code"] == "already_taken"
        assert errors_of(response) == [(pointer, "already_taken")]
        assert account_of(client, ann) == before

    @on_sqlite
    @pytest.mark.parametrize(("username", "code"), REFUSED_USERNAMES)
    def test_refuses_an_invalid_username(
        self, client: ContractClient, make: Factory, username: Any, code: str
    ) -> None:
        ann = make.user("ann")

        response = client.patch("/me", json={"username": username}, headers=ann.signed_in)

        assert response.status_code == 422
        assert errors_of(response) == [("/username", code)]
        assert account_of(client, ann)["username"] == "ann"

    @on_sqlite
    @pytest.mark.parametrize(("email", "code"), REFUSED_EMAILS)
    def test_refuses_an_invalid_email_address(
        self, client: ContractClient, make: Factory, email: Any, code: str
    ) -> None:
        ann = make.user("ann")

        response = client.patch(
            "/me", json={"email": email, "current_password": PASSWORD}, headers=ann.signed_in
        )

        assert response.status_code == 422
        assert errors_of(response) == [("/email", code)]
        assert account_of(client, ann)["email"] == "ann@example.com"

    @on_sqlite
    @pytest.mark.parametrize(("about", "code"), REFUSED_ABOUTS)
    def test_refuses_an_invalid_self_description(
        self, client: ContractClient, make: Factory, about: Any, code: str
    ) -> None:
        ann = make.user("ann")

        response = client.patch("/me", json={"about": about}, headers=ann.signed_in)

        assert response.status_code == 422
        assert errors_of(response) == [("/about", code)]

    @on_sqlite
    @pytest.mark.parametrize("member", ["password", *UNKNOWN_MEMBERS])
    def test_refuses_unknown_members(self, client: ContractClient, make: Factory, member: str) -> None:
        ann = make.user("ann")

        response = client.patch("/me", json={member: 1}, headers=ann.signed_in)

        assert response.status_code == 422
        assert errors_of(response) == [(f"/{member}", "unknown_member")]

    def test_assigns_a_username_once_for_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        members = [make.user() for _ in range(6)]

        def rename(member: Account) -> Callable[[], int]:
            return lambda: (
                ContractClient(app)
                .patch("/me", json={"username": "cleo"}, headers=member.signed_in)
                .status_code
            )

        statuses = concurrently(*map(rename, members))

        assert sorted(statuses) == [200] + [409] * 5
        assert client.get("/users/cleo").status_code == 200

    def test_accepts_all_concurrent_edits(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        abouts = [f"edit {number}" for number in range(6)]

        def edit(about: str) -> Callable[[], int]:
            return lambda: (
                ContractClient(app).patch("/me", json={"about": about}, headers=ann.signed_in).status_code
            )

        statuses = concurrently(*map(edit, abouts))

        assert statuses == [200] * 6
        assert account_of(client, ann)["about"] in abouts

    def test_refuses_a_password_that_is_changed_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        owner = bearer(sign_in(client, "ann"))
        elsewhere = partial(change_password, ContractClient(app), owner)

        with during_request(app, elsewhere):
            response = client.patch(
                "/me",
                json={"email": "eve@example.com", "current_password": PASSWORD},
                headers=ann.signed_in,
            )

        assert response.status_code in REFUSALS
        assert client.get("/me", headers=owner).json["email"] == "ann@example.com"

    def test_refuses_a_user_whose_account_is_deleted_while_the_password_is_checked(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(delete_account, ContractClient(app), ann)

        with during_request(app, elsewhere):
            response = client.patch(
                "/me",
                json={"email": "eve@example.com", "current_password": PASSWORD},
                headers=ann.signed_in,
            )

        assert response.status_code in REFUSALS

    # On SQLite a transaction that writes blocks all other writers.
    @pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(delete_account, ContractClient(app), ann)

        with during_request(app, elsewhere, TRANSACTION_BEGUN):
            response = client.patch("/me", json={"about": "Botanist."}, headers=ann.signed_in)

        assert response.status_code in REFUSALS


class TestDeleteAccount:
    def test_deletes_all_rows_of_the_user(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        posts = [make.post(ann), make.post(ann)]
        stored = make.post(bob)
        pair = sign_in(client, "ann")

        response = delete_account(client, ann)

        assert response.status_code == 204
        assert client.get("/users/ann").status_code == 404
        assert client.get("/users/ann/posts").status_code == 404
        assert usernames(client) == ["bob"]
        assert [client.get(f"/posts/{post_id}").status_code for post_id in posts] == [404, 404]
        assert [post["id"] for post in client.get("/posts").json["items"]] == [stored]
        assert client.get("/me", headers=ann.signed_in).status_code == 401
        assert client.get("/me", headers=bearer(pair)).status_code == 401
        refresh = {"refresh_token": pair.json["refresh_token"]}
        assert client.post("/tokens/refresh", json=refresh).status_code == 401
        assert sign_in(client, "ann").status_code == 401
        assert client.get("/me", headers=bob.signed_in).status_code == 200

    def test_allows_others_to_use_the_username_and_address(
        self, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        delete_account(client, ann)

        response = client.post("/users", json=registration(username="ann", email="ann@example.com"))

        assert response.status_code == 201
        assert response.json["id"] > ann.id
        assert client.get("/me", headers=ann.signed_in).status_code == 401

    @pytest.mark.parametrize(
        ("sent", "status", "code"),
        [
            pytest.param({"password": "not 9 green horses"}, 403, "wrong_password", id="wrong"),
            pytest.param({"password": PASSWORD.upper()}, 403, "wrong_password", id="in upper case"),
            pytest.param({}, 422, "required", id="missing"),
            pytest.param({"password": ""}, 422, "blank", id="empty"),
            pytest.param({"password": None}, 422, "null_not_allowed", id="null"),
            pytest.param({"password": 9}, 422, "wrong_type", id="number"),
            pytest.param({"password": "a" * 129}, 422, "too_long", id="129"),
        ],
    )
    def test_requires_the_password(
        self, client: ContractClient, make: Factory, sent: dict[str, Any], status: int, code: str
    ) -> None:
        ann = make.user("ann")
        post_id = make.post(ann)

        response = client.delete("/me", json=sent, headers=ann.signed_in)

        assert response.status_code == status
        assert errors_of(response) == [("/password", code)]
        assert client.get("/me", headers=ann.signed_in).status_code == 200
        assert client.get(f"/posts/{post_id}").status_code == 200

    def test_requires_a_body(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = client.delete("/me", headers=ann.signed_in)

        assert response.status_code == 415
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    def test_refuses_a_password_that_is_changed_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        owner = bearer(sign_in(client, "ann"))
        elsewhere = partial(change_password, ContractClient(app), owner)

        with during_request(app, elsewhere):
            response = delete_account(client, ann)

        assert response.status_code in REFUSALS
        assert client.get("/me", headers=owner).status_code == 200

    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(delete_account, ContractClient(app), ann)

        with during_request(app, elsewhere):
            response = delete_account(client, ann)

        assert response.status_code in REFUSALS

    def test_leaves_no_post_of_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")

        def post_often() -> set[int]:
            own_client, sent = ContractClient(app), {"body": "Hello."}
            return {
                own_client.post("/posts", json=sent, headers=ann.signed_in).status_code for _ in range(10)
            }

        *posted, deleted = concurrently(*[post_often] * 4, leaving(app, ann))

        assert set().union(*posted) <= {201, *REFUSALS}
        assert deleted == {204}
        assert client.get("/posts").json["items"] == []


class TestChangePassword:
    def test_replaces_the_password(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = change_password(client, ann.signed_in)

        assert response.status_code == 204
        assert sign_in(client, "ann", PASSWORD).status_code == 401
        assert sign_in(client, "ann", NEW_PASSWORD).status_code == 200

    def test_ends_all_other_sessions_of_the_user(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        elsewhere = [sign_in(client, "ann"), sign_in(client, "ann@example.com")]
        here = sign_in(client, "ann")

        change_password(client, bearer(here))

        assert client.get("/me", headers=bearer(here)).status_code == 200
        refresh = {"refresh_token": here.json["refresh_token"]}
        assert client.post("/tokens/refresh", json=refresh).status_code == 200
        assert client.get("/me", headers=bob.signed_in).status_code == 200
        assert client.get("/me", headers=ann.signed_in).status_code == 401
        for pair in elsewhere:
            refresh = {"refresh_token": pair.json["refresh_token"]}
            assert client.get("/me", headers=bearer(pair)).status_code == 401
            assert client.post("/tokens/refresh", json=refresh).status_code == 401

    @on_sqlite
    @pytest.mark.parametrize("password", ACCEPTED_PASSWORDS)
    def test_accepts_a_strong_password(self, client: ContractClient, make: Factory, password: str) -> None:
        ann = make.user("ann")

        response = change_password(client, ann.signed_in, new_password=password)

        assert response.status_code == 204
        assert sign_in(client, "ann", password).status_code == 200
        assert change_password(client, ann.signed_in, current_password=password).status_code == 204

    @on_sqlite
    @pytest.mark.parametrize(("password", "code"), REFUSED_PASSWORDS)
    def test_refuses_a_weak_or_invalid_password(
        self, client: ContractClient, make: Factory, password: Any, code: str
    ) -> None:
        ann = make.user("ann")

        response = change_password(client, ann.signed_in, new_password=password)

        assert response.status_code == 422
        assert errors_of(response) == [("/new_password", code)]
        assert sign_in(client, "ann").status_code == 200

    @on_sqlite
    @pytest.mark.parametrize("password", NAMES_FOR_PASSWORDS)
    def test_refuses_a_name_as_the_password(
        self, client: ContractClient, make: Factory, password: str
    ) -> None:
        bob = make.user("bob.dylan")

        response = change_password(client, bob.signed_in, new_password=password)

        assert response.status_code == 422
        assert errors_of(response) == [("/new_password", "same_as_name")]
        assert sign_in(client, "bob.dylan").status_code == 200

    @pytest.mark.parametrize("password", [PASSWORD.upper(), NEW_PASSWORD, "a", "a" * 128])
    def test_requires_the_current_password(
        self, client: ContractClient, make: Factory, password: str
    ) -> None:
        ann = make.user("ann")
        elsewhere = sign_in(client, "ann")

        response = change_password(client, ann.signed_in, current_password=password)

        assert response.status_code == 403
        assert response.json["code"] == "wrong_password"
        assert errors_of(response) == [("/current_password", "wrong_password")]
        assert client.get("/me", headers=bearer(elsewhere)).status_code == 200
        assert sign_in(client, "ann").status_code == 200

    @on_sqlite
    @pytest.mark.parametrize("member", ["current_password", "new_password"])
    def test_requires_all_members(self, client: ContractClient, make: Factory, member: str) -> None:
        ann = make.user("ann")
        sent = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        del sent[member]

        response = client.put("/me/password", json=sent, headers=ann.signed_in)

        assert response.status_code == 422
        assert errors_of(response) == [(f"/{member}", "required")]
        assert sign_in(client, "ann").status_code == 200

    def test_refuses_the_second_of_two_overlapping_changes(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        owner = bearer(sign_in(client, "ann"))
        elsewhere = partial(change_password, ContractClient(app), owner)

        with during_request(app, elsewhere):
            response = change_password(client, ann.signed_in, new_password="5 red balloons")

        assert response.status_code in REFUSALS
        assert sign_in(client, "ann", "5 red balloons").status_code == 401
        assert sign_in(client, "ann", NEW_PASSWORD).status_code == 200
        assert client.get("/me", headers=owner).status_code == 200

    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(delete_account, ContractClient(app), ann)

        with during_request(app, elsewhere):
            response = change_password(client, ann.signed_in)

        assert response.status_code in REFUSALS
        assert usernames(client) == []

    def test_is_refused_if_the_account_changes_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        rename = {"username": "blue.bicycles"}
        elsewhere = partial(ContractClient(app).patch, "/me", json=rename, headers=ann.signed_in)

        with during_request(app, elsewhere):
            response = change_password(client, ann.signed_in, new_password="Blue.Bicycles")

        assert response.status_code == 409
        assert response.json["code"] == "conflict"
        assert sign_in(client, "blue.bicycles").status_code == 200

    def test_leaves_no_session_started_with_the_old_password(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")

        def sign_in_elsewhere() -> list[TestResponse]:
            return [sign_in(ContractClient(app), "ann") for _ in range(3)]

        def change() -> list[TestResponse]:
            return [change_password(ContractClient(app), ann.signed_in)]

        *signed_in, [changed] = concurrently(*[sign_in_elsewhere] * 4, change)

        pairs = [pair for pairs in signed_in for pair in pairs]
        assert changed.status_code == 204
        assert {pair.status_code for pair in pairs} <= {200, 401}
        sessions = client.get("/tokens", headers=ann.signed_in).json["items"]
        assert [session["id"] for session in sessions] == [ann.session_id]

    def test_stores_the_password_as_a_hash(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        change_password(client, ann.signed_in)

        with app.app_context():
            assert db.session.get_one(User, ann.id).password_hash.startswith("$argon2id$")
