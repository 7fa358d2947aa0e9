"""Tokens: sign in, refresh tokens, list sessions, sign out."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from api.auth.authentication import ACCESS_TOKEN
from api.auth.signing import signed
from api.db import db, utc_now
from api.models import Session, User
from api.models.session import USES_MAXIMUM
from api.tokens.routes import REFRESH_TOKEN
from tests.support.concurrency import EXECUTING, concurrently, during_request
from tests.support.contract import ContractClient
from tests.support.databases import no_sql, on_sqlite
from tests.support.factories import PASSWORD, Account, Factory
from tests.users.test_users import SURROUNDINGS, change_password

LONG_AGO = datetime(2020, 2, 29, 12, 0, 0, 0, UTC)
# The operations that need no token, for the user ann and post 42.
PUBLIC = [
    "/posts",
    "/posts/42",
    "/posts/42/likes",
    "/posts/42/replies",
    "/posts/42/thread",
    "/users",
    "/users/ann",
    "/users/ann/followers",
    "/users/ann/following",
    "/users/ann/posts",
]
INVALID_TOKEN = 'Bearer realm="microblog", error="invalid_token"'
BASIC_CHALLENGE = 'Basic realm="microblog", charset="UTF-8"'


def credentials(decoded: str | bytes, scheme: str = "Basic") -> str:
    """Return an Authorization header for a name and a password, joined by a colon."""
    octets = decoded if isinstance(decoded, bytes) else decoded.encode()
    return f"{scheme} {b64encode(octets).decode()}"


def sign_in(client: ContractClient, name: str, password: str = PASSWORD, **kwargs: Any) -> TestResponse:
    """Request tokens."""
    return client.post("/tokens", auth=(name, password), **kwargs)


def refresh(client: ContractClient, pair: TestResponse) -> TestResponse:
    """Exchange the refresh token of a pair."""
    return client.post("/tokens/refresh", json={"refresh_token": pair.json["refresh_token"]})


def bearer(pair: TestResponse) -> dict[str, str]:
    """Return the headers of a request with the access token of a pair."""
    return {"Authorization": f"Bearer {pair.json['access_token']}"}


def status_with(client: ContractClient, pair: TestResponse) -> int:
    """Return the status of a request with the access token of a pair."""
    return client.get("/me", headers=bearer(pair)).status_code


def tokens_in(pair: TestResponse) -> tuple[str, str]:
    """Return the tokens of a pair, without `expires_in`, which depends on the clock."""
    return pair.json["access_token"], pair.json["refresh_token"]


def signed_token(app: Flask, purpose: str, *value: int) -> str:
    """Return a token with some claims, signed with an application's secret."""
    with app.app_context():
        return signed(purpose, list(value))


def foreign_app(app: Flask) -> Flask:
    """Return an application with another secret."""
    foreign = Flask("foreign")
    foreign.config["SECRET_KEY"] = app.config["SECRET_KEY"].swapcase()
    return foreign


def tampered(token: str, index: int) -> str:
    """Return a token with one character changed."""
    index %= len(token)
    return token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]


def in_an_hour() -> int:
    """Return the time in an hour, in the format of access tokens."""
    return int((utc_now() + timedelta(hours=1)).timestamp())


def set_times(app: Flask, session_id: int, **columns: datetime) -> None:
    """Set datetimes of a session."""
    with app.app_context():
        db.session.execute(update(Session).where(Session.id == session_id).values(**columns))
        db.session.commit()


def sessions_of(app: Flask, member: Account) -> list[int]:
    """Return the ids of a user's sessions, including expired ones."""
    with app.app_context():
        return list(
            db.session.scalars(select(Session.id).where(Session.user_id == member.id).order_by(Session.id))
        )


def current_id(client: ContractClient, headers: dict[str, str]) -> int:
    """Return the id of a caller's session."""
    [current] = [
        session["id"]
        for session in client.get("/tokens", headers=headers).json["items"]
        if session["is_current"]
    ]
    assert isinstance(current, int)
    return current


def password_hash_of(app: Flask, member: Account) -> str:
    """Return a user's password hash."""
    with app.app_context():
        return db.session.get_one(User, member.id).password_hash


def outdate_password(app: Flask, member: Account) -> None:
    """Hash a user's password with other parameters than those in the settings."""
    old_hash = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(member.password)
    with app.app_context():
        db.session.execute(update(User).where(User.id == member.id).values(password_hash=old_hash))
        db.session.commit()


class Clock:
    """The time of requests that sign in or refresh tokens."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = utc_now()

    def now(self) -> datetime:
        """Return the time."""
        return self._start + timedelta(seconds=self.seconds)

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test sets."""
    clock = Clock()
    monkeypatch.setattr("api.tokens.routes.utc_now", clock.now)
    return clock


class TestCreateToken:
    def test_returns_a_pair_of_tokens(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = sign_in(client, "ann")

        assert response.status_code == 200
        assert response.json["token_type"] == "Bearer"
        assert 890 <= response.json["expires_in"] <= 900
        assert response.headers["Cache-Control"] == "no-store"
        assert client.get("/me", headers=bearer(response)).json["id"] == ann.id
        assert refresh(client, response).status_code == 200

    @pytest.mark.parametrize("name", ["Ann", "ann", "ANN", "Ann.B@example.com", "aNN.b@Example.COM"])
    def test_accepts_username_and_email_address(
        self, client: ContractClient, make: Factory, name: str
    ) -> None:
        ann = make.user("Ann", email="Ann.B@example.com")
        make.user("bob")

        response = sign_in(client, name)

        assert response.status_code == 200
        assert client.get("/me", headers=bearer(response)).json["id"] == ann.id

    @pytest.mark.parametrize("name", ["ann", "ann@example.com"])
    @pytest.mark.parametrize("surrounded", SURROUNDINGS)
    def test_ignores_white_space_around_the_name(
        self, client: ContractClient, make: Factory, surrounded: str, name: str
    ) -> None:
        make.user("ann")

        response = sign_in(client, surrounded.format(name))

        assert response.status_code == 200

    @pytest.mark.parametrize("email", ["ann@bücher.example", "ann@xn--bcher-kva.example"])
    def test_accepts_equivalent_forms_of_the_email_address(self, client: ContractClient, email: str) -> None:
        sent = {"username": "ann", "email": "ann@bücher.example", "password": PASSWORD}
        client.post("/users", json=sent)

        response = sign_in(client, email)

        assert response.status_code == 200

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param(credentials(f"ann:{PASSWORD}", scheme="basic"), id="scheme in lower case"),
            pytest.param(credentials(f"ann:{PASSWORD}", scheme="BASIC"), id="scheme in upper case"),
        ],
    )
    def test_accepts_the_scheme_in_any_case(self, client: ContractClient, make: Factory, header: str) -> None:
        make.user("ann")

        response = client.post("/tokens", headers={"Authorization": header})

        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("password", "encoding"),
        [
            pytest.param("owls: crème brûlée", "utf-8", id="UTF-8"),
            pytest.param("owls: crème brûlée", "latin-1", id="Latin-1"),
            pytest.param("\N{OWL}" * 128, "utf-8", id="128 beyond 16 bits"),
            pytest.param(":::::::: ", "ascii", id="colons"),
        ],
    )
    def test_accepts_passwords_in_utf_8_and_latin_1(
        self, client: ContractClient, password: str, encoding: str
    ) -> None:
        sent = {"username": "ann", "email": "ann@example.com", "password": password}
        client.post("/users", json=sent)
        header = credentials(f"ann:{password}".encode(encoding))

        response = client.post("/tokens", headers={"Authorization": header})

        assert response.status_code == 200

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param("Basic", id="nothing after the scheme"),
            pytest.param("Basic ", id="a space after the scheme"),
            pytest.param("Basic !!!!", id="not base64"),
            pytest.param("Basic YW5u\xe9", id="not ASCII"),
            pytest.param("Basic YW5uO", id="truncated base64"),
            pytest.param(credentials("ann"), id="no colon"),
            pytest.param(credentials(":"), id="neither name nor password"),
            pytest.param(credentials("ann:"), id="no password"),
            pytest.param(credentials(f":{PASSWORD}"), id="no name"),
            pytest.param(credentials(f"ann:{PASSWORD} "), id="space after the password"),
            pytest.param(credentials(f"ann:{PASSWORD.upper()}"), id="password in upper case"),
            pytest.param(credentials(f"ann:{PASSWORD}\0"), id="NUL after the password"),
            pytest.param(credentials(f"ann:{'a' * 60_000}"), id="password of 60,000"),
            pytest.param(credentials(f"bob:{PASSWORD}"), id="unknown username"),
            pytest.param(credentials(f"bob@example.com:{PASSWORD}"), id="unknown email address"),
            pytest.param(credentials(f"@:{PASSWORD}"), id="only the at sign"),
            pytest.param(credentials(f"%:{PASSWORD}"), id="wildcard"),
            pytest.param(credentials(f"ann: {PASSWORD}"), id="space before the password"),
            pytest.param(credentials(f"a nn:{PASSWORD}"), id="space within the name"),
            pytest.param(credentials(f" :{PASSWORD}"), id="only a space"),
            pytest.param(credentials(f"ann\0:{PASSWORD}"), id="NUL after the name"),
            pytest.param(credentials(f"ann\0@example.com:{PASSWORD}"), id="NUL in an address"),
            pytest.param(credentials(f"{'a' * 60_000}:{PASSWORD}"), id="name of 60,000"),
            pytest.param(credentials(b"\xe4nn:" + PASSWORD.encode()), id="name in Latin-1"),
            pytest.param(credentials(b"\x80\xff\x9f:\x80"), id="control characters in Latin-1"),
            pytest.param(credentials(f"änn:{PASSWORD}"), id="name beyond ASCII"),
            pytest.param(credentials(b"\xed\xa0\x80:\xed\xa0\x80"), id="surrogates"),
            pytest.param(credentials(f"ann:{PASSWORD}", scheme="Bearer"), id="bearer"),
            pytest.param(credentials(f"ann:{PASSWORD}", scheme="Digest"), id="digest"),
            pytest.param(credentials(f"ann:{PASSWORD}").removeprefix("Basic "), id="no scheme"),
            pytest.param("Bearer nonsense", id="access token"),
        ],
    )
    def test_refuses_wrong_credentials(
        self, app: Flask, client: ContractClient, make: Factory, header: str
    ) -> None:
        ann = make.user("ann")

        response = client.post("/tokens", headers={"Authorization": header})

        assert response.status_code == 401
        assert response.json["code"] == "invalid_credentials"
        assert response.headers["WWW-Authenticate"] == BASIC_CHALLENGE
        assert sessions_of(app, ann) == [ann.session_id]

    @no_sql
    def test_requires_credentials(self, client: ContractClient) -> None:
        response = client.post("/tokens")

        assert response.status_code == 401
        assert response.json["code"] == "authentication_required"
        assert response.headers["WWW-Authenticate"] == BASIC_CHALLENGE

    def test_does_not_open_the_login_box_of_a_browser(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")

        response = sign_in(client, "ann", "wrong", headers={"Origin": "http://localhost"})

        assert (response.status_code, response.json["code"]) == (401, "invalid_credentials")
        assert response.headers["WWW-Authenticate"] == f"x{BASIC_CHALLENGE}"

    def test_does_not_reveal_whether_an_account_exists(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")

        known, unknown = sign_in(client, "ann", "not hers"), sign_in(client, "bob", "not hers")

        problems: list[Any] = [known.json, unknown.json]
        assert known.status_code == unknown.status_code == 401
        assert {**problems[0], "request_id": ""} == {**problems[1], "request_id": ""}
        assert set(known.headers.keys()) == set(unknown.headers.keys())

    def test_refuses_a_token_in_place_of_a_password(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = client.post("/tokens", headers=ann.signed_in)

        assert response.status_code == 401

    def test_starts_a_session_each_time(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        first, second = sign_in(client, "ann"), sign_in(client, "ann")

        assert set(tokens_in(first)).isdisjoint(tokens_in(second))
        assert status_with(client, first) == status_with(client, second) == 200
        assert len(sessions_of(app, ann)) == 3

    def test_accepts_concurrent_requests(self, app: Flask, make: Factory) -> None:
        ann = make.user("ann")

        pairs = concurrently(*[lambda: sign_in(ContractClient(app), "ann")] * 6)

        assert [pair.status_code for pair in pairs] == [200] * 6
        assert len({pair.json["refresh_token"] for pair in pairs}) == 6
        assert len(sessions_of(app, ann)) == 7

    def test_deletes_expired_sessions_of_the_caller(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        going_on = current_id(client, bearer(sign_in(client, "ann")))
        set_times(app, ann.session_id, expires_at=utc_now())
        set_times(app, bob.session_id, expires_at=LONG_AGO)

        pair = sign_in(client, "ann")

        assert sessions_of(app, ann) == [going_on, current_id(client, bearer(pair))]
        assert sessions_of(app, bob) == [bob.session_id]

    def test_rehashes_the_password_after_a_change_of_settings(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        outdate_password(app, ann)
        outdated = password_hash_of(app, ann)

        responses = [sign_in(client, "ann"), sign_in(client, "ann")]

        assert [response.status_code for response in responses] == [200, 200]
        assert "m=16,t=2" in outdated
        assert "m=8,t=1" in password_hash_of(app, ann)
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    def test_does_not_rehash_a_wrong_password(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        outdate_password(app, ann)
        outdated = password_hash_of(app, ann)

        response = sign_in(client, "ann", "not hers")

        assert response.status_code == 401
        assert password_hash_of(app, ann) == outdated

    def test_does_not_rehash_with_unchanged_settings(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        before = password_hash_of(app, ann)

        sign_in(client, "ann")

        assert password_hash_of(app, ann) == before

    def test_accepts_concurrent_requests_that_rehash_the_password(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        outdate_password(app, ann)

        with during_request(app, partial(sign_in, ContractClient(app), "ann"), EXECUTING):
            response = sign_in(client, "ann")

        assert response.status_code == 200
        assert len(sessions_of(app, ann)) == 3

    def test_refuses_a_password_that_is_changed_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(change_password, ContractClient(app), ann.signed_in)

        with during_request(app, elsewhere, EXECUTING):
            response = sign_in(client, "ann")

        assert response.status_code == 401
        assert sessions_of(app, ann) == [ann.session_id]

    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        elsewhere = partial(
            ContractClient(app).delete, "/me", json={"password": PASSWORD}, headers=ann.signed_in
        )

        with during_request(app, elsewhere, EXECUTING):
            response = sign_in(client, "ann")

        assert response.status_code == 401
        assert sessions_of(app, ann) == []

    def test_stores_no_password_or_token(self, app: Flask, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")

        with app.app_context():
            rows = [
                str(row) for table in db.metadata.sorted_tables for row in db.session.execute(select(table))
            ]
            count = db.session.scalar(select(func.count()).select_from(Session))

        assert count == 2
        assert not [row for row in rows for token in tokens_in(pair) if token in row]
        assert not [row for row in rows if PASSWORD in row]


class TestAccessToken:
    """Access tokens, with `GET /me` as an example of the operations that require one."""

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_authenticates_its_owner(self, client: ContractClient, make: Factory, scheme: str) -> None:
        ann = make.user("ann")

        response = client.get("/me", headers={"Authorization": f"{scheme} {ann.access_token}"})

        assert response.status_code == 200

    @pytest.mark.parametrize(
        "forge",
        [
            pytest.param(
                lambda app, ann: signed_token(app, ACCESS_TOKEN, ann.session_id, ann.origin, 0, ann.id),
                id="expired long ago",
            ),
            pytest.param(
                lambda app, ann: signed_token(
                    app, ACCESS_TOKEN, ann.session_id, ann.origin, in_an_hour() - 3600, ann.id
                ),
                id="expired now",
            ),
            pytest.param(
                lambda app, ann: signed_token(
                    app, ACCESS_TOKEN, ann.session_id + 1, ann.origin, in_an_hour(), ann.id
                ),
                id="unknown session",
            ),
            pytest.param(
                lambda app, ann: signed_token(
                    foreign_app(app), ACCESS_TOKEN, ann.session_id, ann.origin, in_an_hour(), ann.id
                ),
                id="another secret",
            ),
            pytest.param(
                lambda app, ann: signed_token(
                    app, REFRESH_TOKEN, ann.session_id, ann.origin, in_an_hour(), ann.id
                ),
                id="another purpose",
            ),
            pytest.param(
                lambda app, ann: signed_token(
                    app, ACCESS_TOKEN, ann.session_id, ann.origin - 1, in_an_hour(), ann.id
                ),
                id="session of an earlier database",
            ),
            pytest.param(
                lambda app, ann: signed_token(app, ACCESS_TOKEN, ann.session_id, ann.origin, in_an_hour()),
                id="another number of claims",
            ),
            pytest.param(lambda _, ann: tampered(ann.access_token, 0), id="tampered at the beginning"),
            pytest.param(lambda _, ann: tampered(ann.access_token, -20), id="tampered at the end"),
            pytest.param(lambda _, ann: ann.access_token[:-1], id="truncated"),
            pytest.param(lambda _, ann: ann.access_token.partition(".")[0], id="without its signature"),
            pytest.param(lambda _, ann: f"{ann.access_token}.", id="additional signature"),
            pytest.param(lambda *_: "", id="empty"),
            pytest.param(lambda *_: ".", id="dot"),
            pytest.param(lambda *_: "a=b", id="parameter"),
            pytest.param(lambda *_: 'token="a", b=c', id="parameters"),
            pytest.param(lambda *_: "\xe9\xff", id="not ASCII"),
            pytest.param(lambda *_: "a" * 60_000, id="60,000"),
        ],
    )
    def test_is_refused_if_it_is_invalid(
        self, app: Flask, client: ContractClient, make: Factory, forge: Callable[[Flask, Account], str]
    ) -> None:
        ann = make.user("ann")
        token = forge(app, ann)

        response = client.get("/me", headers={"Authorization": f"Bearer {token}"})

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN

    def test_is_refused_if_it_is_a_refresh_token(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")

        response = client.get("/me", headers={"Authorization": f"Bearer {pair.json['refresh_token']}"})

        assert response.status_code == 401

    def test_is_refused_after_its_session_expired(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        set_times(app, ann.session_id, expires_at=utc_now())

        response = client.get("/me", headers=ann.signed_in)

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN

    @no_sql
    def test_is_required(self, client: ContractClient) -> None:
        response = client.get("/me")

        assert response.status_code == 401
        assert response.json["code"] == "authentication_required"
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="microblog"'

    def test_is_required_if_a_password_is_sent(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")

        response = client.get("/me", auth=("ann", PASSWORD))

        # RFC 6750, section 3.1: no error for a scheme that is not supported.
        assert response.status_code == 401
        assert response.json["code"] == "authentication_required"
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="microblog"'

    @pytest.mark.parametrize("path", PUBLIC)
    def test_must_be_valid_where_it_is_optional(
        self, client: ContractClient, make: Factory, path: str
    ) -> None:
        make.post(make.user("ann"), id=42)

        response = client.get(path, headers={"Authorization": "Bearer nonsense"})
        without = client.get(path)

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN
        assert without.status_code == 200

    @pytest.mark.parametrize("path", PUBLIC)
    def test_must_have_a_session_where_it_is_optional(
        self, client: ContractClient, make: Factory, path: str
    ) -> None:
        ann = make.user("ann")
        make.post(ann, id=42)
        client.delete("/tokens/current", headers=ann.signed_in)

        response = client.get(path, headers=ann.signed_in)

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"

    def test_cannot_be_replaced_by_a_password_where_it_is_optional(
        self, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")

        response = client.get("/users/ann", auth=("ann", PASSWORD))

        assert response.status_code == 401
        assert response.json["code"] == "authentication_required"
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="microblog"'


class TestRefreshToken:
    def test_returns_the_next_pair(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        pair = sign_in(client, "ann")

        response = refresh(client, pair)

        assert response.status_code == 200
        assert response.json["refresh_token"] != pair.json["refresh_token"]
        assert response.json["token_type"] == "Bearer"
        assert 890 <= response.json["expires_in"] <= 900
        assert response.headers["Cache-Control"] == "no-store"
        assert client.get("/me", headers=bearer(response)).json["id"] == ann.id
        assert refresh(client, response).status_code == 200

    def test_extends_the_session(self, app: Flask, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")
        session_id = current_id(client, bearer(pair))
        a_while_ago = utc_now() - timedelta(days=20)
        set_times(app, session_id, refreshed_at=a_while_ago, expires_at=a_while_ago + timedelta(days=30))

        response = refresh(client, pair)

        with app.app_context():
            session = db.session.get_one(Session, session_id)
        assert session.refreshed_at > a_while_ago + timedelta(days=19)
        assert session.expires_at == session.refreshed_at + timedelta(days=30)
        assert current_id(client, bearer(response)) == session_id

    def test_does_not_revoke_the_previous_access_token(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")

        refresh(client, pair)

        assert status_with(client, pair) == 200

    def test_needs_no_access_token(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        sent = {"refresh_token": sign_in(client, "ann").json["refresh_token"]}

        response = client.post("/tokens/refresh", json=sent, headers={"Authorization": "Bearer that expired"})

        assert response.status_code == 200

    def test_returns_the_same_pair_to_a_retry(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")

        first, second, third = (refresh(client, pair) for _ in range(3))

        assert first.status_code == second.status_code == third.status_code == 200
        assert tokens_in(first) == tokens_in(second) == tokens_in(third)
        assert status_with(client, second) == 200

    def test_returns_the_same_tokens_until_the_end_of_the_grace_period(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")
        successor = refresh(client, pair)
        set_times(app, current_id(client, bearer(pair)), refreshed_at=utc_now() - timedelta(seconds=5))

        response = refresh(client, pair)

        assert response.json["refresh_token"] == successor.json["refresh_token"]

    def test_returns_the_same_tokens_to_concurrent_requests(self, app: Flask, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(ContractClient(app), "ann")

        pairs = concurrently(*[lambda: refresh(ContractClient(app), pair)] * 6)

        assert [successor.status_code for successor in pairs] == [200] * 6
        assert len({tokens_in(successor) for successor in pairs}) == 1

    def test_ends_the_session_if_it_is_used_after_the_grace_period(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        other = sign_in(client, "ann")
        stolen = sign_in(client, "ann")
        successor = refresh(client, stolen)
        set_times(app, current_id(client, bearer(stolen)), refreshed_at=utc_now() - timedelta(seconds=11))

        response = refresh(client, stolen)

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN
        assert status_with(client, stolen) == status_with(client, successor) == 401
        assert refresh(client, successor).status_code == 401
        assert status_with(client, other) == refresh(client, other).status_code == 200
        assert client.get("/me", headers=ann.signed_in).status_code == 200
        assert client.get("/me", headers=bob.signed_in).status_code == 200

    def test_returns_the_current_pair_if_later_tokens_were_used_too(
        self, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")
        pairs = [sign_in(client, "ann")]
        for _ in range(4):
            pairs.append(refresh(client, pairs[-1]))

        responses = [refresh(client, pair) for pair in pairs[2:-1] + pairs[:2]]

        assert [response.status_code for response in responses] == [200] * 4
        assert {tokens_in(response) for response in responses} == {tokens_in(pairs[-1])}
        assert refresh(client, pairs[-1]).json["refresh_token"] != pairs[-1].json["refresh_token"]

    @pytest.mark.parametrize(
        ("used_first", "seconds", "expected"),
        [
            pytest.param(1, 10, 200, id="first token, at the end of its grace period"),
            pytest.param(1, 10.01, 401, id="first token, later"),
            pytest.param(2, 16, 200, id="second token, at the end of its grace period"),
            pytest.param(2, 16.01, 401, id="second token, later"),
            pytest.param(3, 10_000, 200, id="current token"),
        ],
    )
    def test_has_a_grace_period_from_its_own_use(
        self,
        client: ContractClient,
        make: Factory,
        clock: Clock,
        used_first: int,
        seconds: float,
        expected: int,
    ) -> None:
        make.user("ann")
        first = sign_in(client, "ann")
        second = refresh(client, first)
        clock.pass_seconds(6)
        third = refresh(client, second)

        clock.pass_seconds(seconds - 6)
        response = refresh(client, {1: first, 2: second, 3: third}[used_first])

        assert response.status_code == expected
        assert refresh(client, third).status_code == expected

    @given(
        steps=st.lists(
            st.tuples(st.sampled_from([0, 0.25, 0.5, 4, 9.5, 10, 10.25, 30]), st.integers(0, 9)), max_size=25
        )
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
    def test_is_accepted_exactly_if_it_is_current_or_was_used_within_the_grace_period(
        self, client: ContractClient, make: Factory, clock: Clock, steps: list[tuple[float, int]]
    ) -> None:
        name = make.user().username
        tokens = [sign_in(client, name).json["refresh_token"]]
        used_at: dict[str, float] = {}

        for seconds, age in steps:
            clock.pass_seconds(seconds)
            token = tokens[max(0, len(tokens) - 1 - age)]
            is_valid = clock.seconds <= used_at.setdefault(token, clock.seconds) + 10
            response = client.post("/tokens/refresh", json={"refresh_token": token})
            assert response.status_code == (200 if is_valid else 401)
            if not is_valid:
                assert client.post("/tokens/refresh", json={"refresh_token": tokens[-1]}).status_code == 401
                break
            if token == tokens[-1]:
                tokens.append(response.json["refresh_token"])
            assert response.json["refresh_token"] == tokens[-1]

    def test_keeps_eight_tabs_signed_in_that_refresh_in_any_order(self, app: Flask, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(ContractClient(app), "ann")

        def refresh_repeatedly() -> list[int]:
            client, latest, statuses = ContractClient(app), pair, []
            for _ in range(10):
                latest = refresh(client, latest)
                statuses.append(latest.status_code)
            return [*statuses, refresh(client, pair).status_code]

        tabs = concurrently(*[refresh_repeatedly] * 8)

        assert tabs == [[200] * 11] * 8

    @pytest.mark.slow
    @on_sqlite
    def test_takes_bounded_storage_however_often_the_session_is_refreshed(
        self, app: Flask, client: ContractClient, make: Factory, clock: Clock
    ) -> None:
        make.user("ann")
        pairs = [sign_in(client, "ann")]
        session_id = current_id(client, bearer(pairs[0]))
        for _ in range(300):
            clock.pass_seconds(0.05)
            pairs.append(refresh(client, pairs[-1]))

        with app.app_context():
            stored = db.session.get_one(Session, session_id).earlier_uses
        within = [refresh(client, pair).status_code for pair in pairs[-201:]]
        latest = refresh(client, pairs[-1])
        before = refresh(client, pairs[-207])

        assert 50 <= len(stored) <= USES_MAXIMUM + 1
        assert within == [200] * 201
        assert before.status_code == 401
        assert refresh(client, latest).status_code == 401

    @pytest.mark.parametrize("times", [1, 2])
    def test_has_no_grace_period_if_the_setting_is_0(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        times: int,
    ) -> None:
        monkeypatch.setitem(app.config, "REFRESH_GRACE_SECONDS", 0)
        make.user("ann")
        first = latest = sign_in(client, "ann")
        for _ in range(times):
            clock.pass_seconds(0.01)
            latest = refresh(client, latest)
        clock.pass_seconds(0.01)

        assert [refresh(client, first).status_code, refresh(client, latest).status_code] == [401, 401]

    def test_has_no_grace_period_before_the_first_generation(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        sent = {"refresh_token": signed_token(app, REFRESH_TOKEN, ann.session_id, ann.origin, 2)}

        response = client.post("/tokens/refresh", json=sent)

        assert response.status_code == 401

    def test_does_not_extend_an_expired_session(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")
        set_times(app, current_id(client, bearer(pair)), expires_at=utc_now())

        responses = [refresh(client, pair), refresh(client, pair)]

        assert [response.status_code for response in responses] == [401, 401]
        assert status_with(client, pair) == 401

    def test_has_no_grace_period_in_an_expired_session(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")
        refresh(client, pair)
        set_times(app, current_id(client, bearer(pair)), expires_at=utc_now())

        response = refresh(client, pair)

        assert response.status_code == 401

    def test_does_not_restore_an_ended_session(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")
        pair = sign_in(client, "ann")
        client.delete("/tokens/current", headers=bearer(pair))

        response = refresh(client, pair)

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN

    @pytest.mark.parametrize(
        "forge",
        [
            pytest.param(
                lambda app, ann: signed_token(app, ACCESS_TOKEN, ann.session_id, ann.origin, 1),
                id="another purpose",
            ),
            pytest.param(
                lambda app, ann: signed_token(foreign_app(app), REFRESH_TOKEN, ann.session_id, ann.origin, 1),
                id="another secret",
            ),
            pytest.param(
                lambda app, ann: signed_token(app, REFRESH_TOKEN, ann.session_id + 1, ann.origin, 1),
                id="unknown session",
            ),
            pytest.param(
                lambda app, ann: tampered(signed_token(app, REFRESH_TOKEN, ann.session_id, ann.origin, 1), 0),
                id="tampered at the beginning",
            ),
            pytest.param(
                lambda app, ann: tampered(
                    signed_token(app, REFRESH_TOKEN, ann.session_id, ann.origin, 1), -20
                ),
                id="tampered at the end",
            ),
            pytest.param(
                lambda app, ann: signed_token(app, REFRESH_TOKEN, ann.session_id, ann.origin, 1).partition(
                    "."
                )[0],
                id="without its signature",
            ),
            pytest.param(
                lambda app, ann: signed_token(app, REFRESH_TOKEN, ann.session_id, ann.origin - 1, 1),
                id="session of an earlier database",
            ),
            pytest.param(
                lambda app, ann: signed_token(app, REFRESH_TOKEN, ann.session_id),
                id="another number of claims",
            ),
            pytest.param(lambda _, ann: ann.access_token, id="access token"),
            pytest.param(lambda *_: "nonsense", id="nonsense"),
            pytest.param(lambda *_: "é.ÿ", id="not ASCII"),
            pytest.param(lambda *_: "." * 500, id="500"),
        ],
    )
    def test_refuses_an_invalid_token(
        self, app: Flask, client: ContractClient, make: Factory, forge: Callable[[Flask, Account], str]
    ) -> None:
        ann = make.user("ann")

        response = client.post("/tokens/refresh", json={"refresh_token": forge(app, ann)})

        assert response.status_code == 401
        assert response.json["code"] == "invalid_token"
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    @no_sql
    @pytest.mark.parametrize(
        ("sent", "pointer", "code"),
        [
            pytest.param({"refresh_token": 1}, "/refresh_token", "wrong_type", id="number"),
            pytest.param({"refresh_token": ["a"]}, "/refresh_token", "wrong_type", id="list"),
            pytest.param({"refresh_token": ""}, "/refresh_token", "blank", id="empty"),
            pytest.param({"refresh_token": "a" * 501}, "/refresh_token", "too_long", id="501"),
            pytest.param({"refresh_token": "a\0"}, "/refresh_token", "control_character", id="NUL"),
            pytest.param({"refresh_token": "a", "scope": ""}, "/scope", "unknown_member", id="unknown"),
        ],
    )
    def test_refuses_invalid_input(
        self, client: ContractClient, sent: dict[str, Any], pointer: str, code: str
    ) -> None:
        response = client.post("/tokens/refresh", json=sent)

        assert response.status_code == 422
        assert [(error["pointer"], error["code"]) for error in response.json["errors"]] == [(pointer, code)]


class TestListTokens:
    def test_returns_the_sessions_of_the_caller(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        make.user("bob")
        moments = {"created_at": LONG_AGO, "refreshed_at": LONG_AGO + timedelta(hours=1)}
        set_times(app, ann.session_id, **moments, expires_at=datetime(2999, 12, 31, tzinfo=UTC))
        here = bearer(sign_in(client, "ann", headers={"User-Agent": "curl/8.5.0"}))

        response = client.get("/tokens", headers=here)

        assert response.status_code == 200
        newest, oldest = response.json["items"]
        assert (newest["is_current"], newest["user_agent"]) == (True, "curl/8.5.0")
        assert newest["created_at"] == newest["refreshed_at"] < newest["expires_at"]
        assert oldest == {
            "id": ann.session_id,
            "is_current": False,
            "user_agent": "",
            "created_at": "2020-02-29T12:00:00.000Z",
            "refreshed_at": "2020-02-29T13:00:00.000Z",
            "expires_at": "2999-12-31T00:00:00.000Z",
        }

    def test_omits_expired_sessions(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        here = bearer(sign_in(client, "ann"))
        set_times(app, ann.session_id, expires_at=utc_now())

        response = client.get("/tokens", headers=here)

        assert [session["is_current"] for session in response.json["items"]] == [True]

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            pytest.param("Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)", id="browser"),
            pytest.param("", "", id="empty"),
            pytest.param("a" * 200, "a" * 200, id="200"),
            pytest.param("a" * 201, "a" * 200, id="201"),
            pytest.param("\xe9" * 100 + "a" * 201, "a" * 200, id="truncated after removal"),
            pytest.param("a\x00b\x1b[2Jc\td\x7fe", "ab[2Jcde", id="control characters"),
            pytest.param("curl \xe9\xff\x85\xa0/8", "curl /8", id="not ASCII"),
            pytest.param("<script>", "<script>", id="markup"),
        ],
    )
    def test_returns_the_printable_part_of_the_user_agent(
        self, client: ContractClient, make: Factory, sent: str, shown: str
    ) -> None:
        make.user("ann")
        pair = sign_in(client, "ann", environ_base={"HTTP_USER_AGENT": sent})

        response = client.get("/tokens", headers=bearer(pair))

        assert response.json["items"][0]["user_agent"] == shown

    def test_has_pages(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        ids = [current_id(client, bearer(sign_in(client, "ann"))) for _ in range(4)]

        first = client.get("/tokens?limit=3", headers=ann.signed_in).json
        second = client.get(f"/tokens?limit=3&cursor={first['next_cursor']}", headers=ann.signed_in).json

        pages = [[session["id"] for session in page["items"]] for page in (first, second)]
        assert pages == [ids[:0:-1], [ids[0], ann.session_id]]
        assert second["next_cursor"] is None

    def test_refuses_unknown_parameters(self, client: ContractClient, make: Factory) -> None:
        response = client.get("/tokens?username=bob", headers=make.user("ann").signed_in)

        assert response.status_code == 422
        assert response.json["errors"][0]["parameter"] == "username"


class TestDeleteCurrentToken:
    def test_ends_only_the_current_session(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        here, there = sign_in(client, "ann"), sign_in(client, "ann")
        newer = refresh(client, here)

        response = client.delete("/tokens/current", headers=bearer(here))

        assert response.status_code == 204
        assert status_with(client, here) == status_with(client, newer) == 401
        assert refresh(client, newer).status_code == 401
        assert status_with(client, there) == refresh(client, there).status_code == 200
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    def test_returns_401_the_second_time(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        client.delete("/tokens/current", headers=ann.signed_in)

        response = client.delete("/tokens/current", headers=ann.signed_in)

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == INVALID_TOKEN

    def test_succeeds_or_returns_401_for_concurrent_requests(self, app: Flask, make: Factory) -> None:
        ann = make.user("ann")

        def sign_out() -> int:
            return ContractClient(app).delete("/tokens/current", headers=ann.signed_in).status_code

        statuses = concurrently(*[sign_out] * 6)

        assert 204 in statuses
        assert set(statuses) <= {204, 401}
        assert sessions_of(app, ann) == []


class TestDeleteToken:
    def test_ends_another_session_of_the_caller(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        there = sign_in(client, "ann")
        there_id = current_id(client, bearer(there))

        response = client.delete(f"/tokens/{there_id}", headers=ann.signed_in)

        assert response.status_code == 204
        assert status_with(client, there) == refresh(client, there).status_code == 401
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    def test_ends_the_current_session(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = client.delete(f"/tokens/{ann.session_id}", headers=ann.signed_in)

        assert response.status_code == 204
        assert client.get("/me", headers=ann.signed_in).status_code == 401

    def test_returns_404_for_a_session_of_another_user(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")

        response = client.delete(f"/tokens/{ann.session_id}", headers=bob.signed_in)

        assert response.status_code == 404
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    @pytest.mark.parametrize("written", ["0", "-1", "01", "abc", "current/", str(2**63), str(2**70)])
    def test_returns_404_for_an_invalid_id(self, client: ContractClient, make: Factory, written: str) -> None:
        ann = make.user("ann")

        response = client.delete(f"/tokens/{written}", headers=ann.signed_in)

        assert response.status_code == 404
        assert client.get("/me", headers=ann.signed_in).status_code == 200

    def test_returns_404_the_second_time(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        there_id = current_id(client, bearer(sign_in(client, "ann")))
        client.delete(f"/tokens/{there_id}", headers=ann.signed_in)

        response = client.delete(f"/tokens/{there_id}", headers=ann.signed_in)

        assert response.status_code == 404

    def test_succeeds_once_for_concurrent_requests(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user("ann")
        there_id = current_id(client, bearer(sign_in(client, "ann")))

        def end_session() -> int:
            return ContractClient(app).delete(f"/tokens/{there_id}", headers=ann.signed_in).status_code

        statuses = concurrently(*[end_session] * 6)

        assert sorted(statuses) == [204] + [404] * 5
