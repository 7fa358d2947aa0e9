"""Replicas: which requests read from one, and when a replica is left out.

Most tests have the primary itself as the replica: it shows everything at once, but the service knows only
what the last poll found.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.config import RENDERERS
from api.db import db, postgresql, replicas
from api.db.replicas import TIMELINE, Replica, Replicas
from api.models import Heartbeat, Session
from tests.cli.test_checks import check
from tests.conftest import SECRET_KEY, clear_tables
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_postgresql
from tests.support.factories import PASSWORD, Account, Factory
from tests.support.problems import assert_problem
from tests.support.server import Server, free_port, migrate, running_server
from tests.support.standby import Cluster, running_cluster
from tests.support.statements import Statement, recorded_statements, without_begin
from tests.support.wait import wait_until

NewApp = Callable[..., Flask]
HELLO = {"body": "Hello."}
WRITE_POSITION = text(f"SELECT {TIMELINE} | txid_current()")


# For tests of classes below that use another part of the service with each renderer.
with_both_renderers = pytest.mark.parametrize("app", RENDERERS, indirect=True)


@pytest.fixture
def url(migrated_app: Flask) -> Iterator[str]:
    """The URL of a database with empty tables."""
    yield migrated_app.config["DATABASE_URL"]
    clear_tables(migrated_app)


@pytest.fixture
def new_replicated_app(url: str, new_app: NewApp, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flask]:
    """A function that creates an application with replicas, which are polled by `poll` alone."""
    monkeypatch.setattr(Replicas, "start", lambda _: None)
    monkeypatch.setattr(replicas, "LAG_SECONDS_MAXIMUM", 60.0)

    def make(number: int = 1, **settings: Any) -> Flask:
        return new_app(url, DATABASE_REPLICA_URLS=" ".join([url] * number), **settings)

    return make


@pytest.fixture
def app(new_replicated_app: Callable[..., Flask], request: pytest.FixtureRequest) -> Flask:
    """The application with one replica, and the renderer that is the parameter, if there is one."""
    settings = {"RENDERER": request.param} if hasattr(request, "param") else {}
    app = new_replicated_app(**settings)
    poll(app)
    return app


def replicas_of(app: Flask) -> Replicas:
    """Return the replicas of an application."""
    found: Replicas = app.extensions["replicas"]
    return found


def poll(app: Flask) -> None:
    """Poll the replicas until each shows all that was written to the primary.

    A heartbeat's position is that of the oldest transaction that has not ended, in all databases of the
    server: a transaction of another test, which runs meanwhile, delays it.
    """
    with app.app_context(), db.engine.connect() as connection:
        written = connection.execute(WRITE_POSITION).scalar_one()

    def poll_all() -> None:
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(text("DELETE FROM heartbeats"))
        clock = replicas_of(app).beat()
        for replica in replicas_of(app):
            replica.poll(clock)
            assert replica.serves(written)

    wait_until(poll_all)


@pytest.fixture
def replica(app: Flask) -> Replica:
    """The replica of the application."""
    [found] = replicas_of(app)
    return found


@pytest.fixture
def client(app: Flask) -> ContractClient:
    """A client."""
    return ContractClient(app)


def sign_in(client: ContractClient, account: Account) -> dict[str, str]:
    """Sign in; return the headers of authenticated requests."""
    pair = client.post("/tokens", auth=(account.username, PASSWORD)).json
    return {"Authorization": f"Bearer {pair['access_token']}"}


@pytest.fixture
def ann(app: Flask, client: ContractClient) -> dict[str, str]:
    """The headers of a user who has signed in, before the replica was polled."""
    headers = sign_in(client, Factory(app).user("ann"))
    poll(app)
    return headers


@contextmanager
def both_recorded(app: Flask) -> Iterator[tuple[list[Statement], list[Statement]]]:
    """Record the statements that the primary and the replica receive."""
    with recorded_statements(app) as primary, recorded_statements(app, "replica-1") as replica:
        yield primary, replica


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of the replica during the test."""
    messages = [record.getMessage() for record in caplog.get_records("call")]
    return [message for message in messages if message.startswith("replica-1")]


@on_postgresql
class TestReads:
    @with_both_renderers
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_of_anonymous_callers_are_sent_to_the_replica(
        self, app: Flask, client: ContractClient, method: str
    ) -> None:
        with both_recorded(app) as (primary, replica):
            response = client.open("/posts", method=method)

        assert response.status_code == 200
        assert not primary
        assert without_begin(replica)

    @with_both_renderers
    @pytest.mark.parametrize("path", ["/feed", "/me", "/users/ann/posts"])
    def test_with_a_token_are_sent_there_except_for_its_check(
        self, app: Flask, client: ContractClient, ann: dict[str, str], path: str
    ) -> None:
        with both_recorded(app) as (primary, replica):
            response = client.get(path, headers=ann)

        assert response.status_code == 200
        [check] = primary
        assert "FROM sessions" in check.text
        assert without_begin(replica)

    def test_of_a_caller_who_wrote_are_sent_to_the_primary_until_the_replica_has_the_write(
        self, app: Flask, client: ContractClient, ann: dict[str, str]
    ) -> None:
        client.post("/posts", json=HELLO, headers=ann)
        with both_recorded(app) as (_, before):
            client.get("/feed", headers=ann)
        with both_recorded(app) as (_, anonymous):
            client.get("/posts")
        poll(app)
        with both_recorded(app) as (_, after):
            client.get("/feed", headers=ann)

        assert not before
        assert anonymous
        assert after

    def test_of_a_session_that_signed_in_before_there_were_replicas_are_sent_to_the_primary(
        self, app: Flask, client: ContractClient
    ) -> None:
        bob = Factory(app).user("bob")
        poll(app)

        with both_recorded(app) as (_, before):
            client.get("/feed", headers=bob.signed_in)
        token = Factory(app).refresh_token(bob)
        pair = client.post("/tokens/refresh", json={"refresh_token": token}).json
        poll(app)
        with both_recorded(app) as (_, after):
            client.get("/feed", headers={"Authorization": f"Bearer {pair['access_token']}"})

        assert not before
        assert after

    def test_of_all_other_requests_are_sent_to_the_primary(
        self, app: Flask, client: ContractClient, ann: dict[str, str]
    ) -> None:
        with both_recorded(app) as (_, replica):
            assert client.post("/posts", json=HELLO, headers=ann).status_code == 201
            assert client.patch("/me", json={"about": "Botanist."}, headers=ann).status_code == 200
            assert app.test_client().get("/readyz").status_code == 200
            assert app.test_cli_runner().invoke(args=["users", "list"]).exit_code == 0

        assert not replica

    def test_of_a_session_that_was_ended_are_refused_at_once(
        self, client: ContractClient, ann: dict[str, str]
    ) -> None:
        client.delete("/tokens/current", headers=ann)

        assert_problem(client.get("/feed", headers=ann), 401, "invalid_token")

    def test_of_one_caller_are_sent_to_one_replica_while_that_is_used(
        self, new_replicated_app: Callable[..., Flask]
    ) -> None:
        app = new_replicated_app(2)
        client = app.test_client()
        poll(app)

        def servers() -> dict[str, int]:
            """Return how many of 40 callers, each of whom reads twice, use each replica."""
            with recorded_statements(app, "replica-1") as one, recorded_statements(app, "replica-2") as two:
                used = []
                for number in range(40):
                    for _ in range(2):
                        client.get("/api/v1/posts", environ_base={"REMOTE_ADDR": f"203.0.113.{number}"})
                    used.append((len(one), len(two)))
                    one.clear()
                    two.clear()
            assert set(used) <= {(2, 0), (0, 2)}
            return {"replica-1": used.count((2, 0)), "replica-2": used.count((0, 2))}

        both = servers()
        first, _ = replicas_of(app)
        first.leave_out("for the test")
        one = servers()

        assert min(both.values()) > 5
        assert one == {"replica-1": 0, "replica-2": 40}


@on_postgresql
class TestPositions:
    def test_of_transactions_that_change_nothing_are_not_stored(
        self, app: Flask, client: ContractClient, ann: dict[str, str]
    ) -> None:
        wrong = client.delete("/me", json={"password": "wrong"}, headers=ann)
        with both_recorded(app) as (_, replica):
            client.get("/feed", headers=ann)

        assert wrong.status_code == 403
        assert replica

    def test_are_beyond_all_of_an_earlier_timeline(self, replica: Replica) -> None:
        with replica.engine.connect() as connection:
            written: int = connection.execute(text(f"SELECT {TIMELINE}")).scalar_one()

        assert replica.serves(written)
        assert not replica.serves(written + (1 << 48))

    def test_in_a_transaction_that_is_open_are_not_shown(self, app: Flask, replica: Replica) -> None:
        with app.app_context(), db.engine.connect() as connection, connection.begin():
            position = connection.execute(WRITE_POSITION).scalar_one()
            clock = replicas_of(app).beat()
            replica.poll(clock)
            during = replica.serves(position)
        poll(app)

        assert (during, replica.serves(position)) == (False, True)

    def test_are_not_stored_without_replicas(self, url: str, new_app: NewApp) -> None:
        app = new_app(url)
        sign_in(ContractClient(app), Factory(app).user("ann"))

        with app.app_context():
            assert db.session.query(Session).filter(Session.last_write.is_not(None)).count() == 0

    def test_are_stored_once_in_half_a_second(self, app: Flask) -> None:
        with app.app_context():
            [first] = db.session.query(Heartbeat)
            replicas_of(app).beat()
            db.session.rollback()
            [second] = db.session.query(Heartbeat)
            same = first.written_at == second.written_at
            db.session.execute(text("UPDATE heartbeats SET written_at = now() + INTERVAL '1 minute'"))
            db.session.commit()
            replicas_of(app).beat()
            corrected = db.session.scalar(text("SELECT written_at < now() FROM heartbeats"))

        assert same
        assert corrected


@on_postgresql
class TestFailures:
    def test_of_a_connection_are_not_seen_by_the_caller(
        self, app: Flask, client: ContractClient, replica: Replica, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.get("/posts")
        with replica.engine.connect() as connection:
            pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({pid}, 60000)"))

        first, second = client.get("/posts"), client.get("/posts")
        poll(app)
        with both_recorded(app) as (_, after):
            third = client.get("/posts")

        assert [response.status_code for response in (first, second, third)] == [200] * 3
        lost, used = reported(caplog)
        assert lost.startswith("replica-1 is left out: ")
        assert used == "replica-1 is used."
        assert after

    @with_both_renderers
    @pytest.mark.parametrize(
        ("error", "status", "is_used"),
        [
            (psycopg.errors.SerializationFailure, 200, True),
            (psycopg.errors.InsufficientPrivilege, 200, False),
            (psycopg.errors.QueryCanceled, 503, True),
        ],
    )
    def test_of_a_statement_are_repeated_on_the_primary_unless_it_took_too_long(
        self,
        client: ContractClient,
        replica: Replica,
        monkeypatch: pytest.MonkeyPatch,
        error: type[Exception],
        status: int,
        is_used: bool,
    ) -> None:
        def fail(*_arguments: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(replica.engine.dialect, "do_execute", fail)
            response = client.get("/posts")

        assert response.status_code == status
        assert replica.serves(0) is is_used

    @pytest.mark.parametrize(("number", "is_on_primary"), [(2, False), (3, True)])
    def test_of_one_replica_lead_to_another_one_once(
        self,
        new_replicated_app: Callable[..., Flask],
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        is_on_primary: bool,
    ) -> None:
        app = new_replicated_app(3)
        client = app.test_client()
        poll(app)
        executed: list[str] = []
        for replica in replicas_of(app):

            def execute(*arguments: Any, name: str = replica.name) -> None:
                executed.append(name)
                if len(executed) < number:
                    raise psycopg.errors.SerializationFailure
                psycopg.Cursor.execute(*arguments)

            monkeypatch.setattr(replica.engine.dialect, "do_execute", execute)

        with recorded_statements(app) as primary:
            response = client.get("/api/v1/posts")

        assert response.status_code == 200
        assert len(set(executed)) == 2
        assert bool(primary) is is_on_primary

    def test_to_connect_are_not_seen_by_the_caller(
        self, client: ContractClient, replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_arguments: object, **_options: object) -> None:
            raise psycopg.OperationalError("connection refused")

        replica.engine.dispose()
        with monkeypatch.context() as patch:
            patch.setattr(replica.engine.dialect, "connect", refuse)
            response = client.get("/posts")

        assert response.status_code == 200
        assert not replica.serves(0)

    @with_both_renderers
    def test_are_possible_on_connections_that_are_newer_than_the_last_poll(
        self, app: Flask, client: ContractClient, replica: Replica
    ) -> None:
        replica.engine.dispose()

        with both_recorded(app) as (primary, before):
            assert client.get("/posts").status_code == 200
        poll(app)
        with both_recorded(app) as (_, after):
            assert client.get("/posts").status_code == 200

        assert not before
        assert primary
        assert after


@on_postgresql
class TestPolls:
    def test_leave_out_a_replica_that_lags(
        self, app: Flask, client: ContractClient, replica: Replica, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = replicas_of(app).beat()

        replica.poll(clock + 61)
        with both_recorded(app) as (primary, read):
            assert client.get("/posts").status_code == 200
        replica.poll(clock + 61)
        replica.poll(clock + 1)

        assert primary
        assert not read
        assert reported(caplog) == [
            "replica-1 is left out: it lags by more than 60 s.",
            "replica-1 is used.",
        ]
        assert replica.serves(0)

    def test_leave_out_a_replica_without_a_heartbeat(self, app: Flask, replica: Replica) -> None:
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(text("DELETE FROM heartbeats"))

        replica.poll(0)

        assert not replica.serves(0)

    def test_leave_out_a_replica_behind_a_pooler(
        self,
        app: Flask,
        replica: Replica,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        replica.engine.dispose()
        inspection = postgresql.INSPECTION.replace("pg_backend_pid()", "-1")
        monkeypatch.setattr(postgresql, "INSPECTION", inspection)

        replica.poll(0)

        assert "replica-1 is left out: A replica must be connected without a pooler." in caplog.text


@on_postgresql
def test_connections_to_a_replica_are_read_only_whatever_the_server_is(replica: Replica) -> None:
    with replica.engine.connect() as connection, pytest.raises(DBAPIError) as refused:
        connection.execute(text("DELETE FROM heartbeats"))

    assert getattr(refused.value.orig, "sqlstate", None) == "25006"


@on_postgresql
class TestCheck:
    def test_names_each_replica(self, app: Flask) -> None:
        exit_code, lines = check(app)

        state, detail = lines["replica-1"]
        assert (exit_code, state) == (0, "ok")
        assert re.fullmatch(r"postgresql\+psycopg://.* lags by \d\.\d s at most", detail)

    def test_fails_if_a_replica_lags_or_cannot_be_reached(
        self, url: str, new_app: NewApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.cli.checks.LAG_SECONDS_MAXIMUM", -1.0)
        unreachable = f"postgresql://127.0.0.1:{free_port()}/a"

        exit_code, lines = check(new_app(url, DATABASE_REPLICA_URLS=f"{url},{unreachable}"))

        assert exit_code == 1
        assert lines["replica-1"] == ("failed", "It lags by 0 s.")
        assert lines["replica-2"][0] == "failed"

    def test_waits_until_a_replica_shows_a_new_heartbeat(
        self, app: Flask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lags = iter([61.0, 0.2])
        monkeypatch.setattr(Replica, "read", lambda _replica, _clock: next(lags))

        _, lines = check(app)

        assert lines["replica-1"][1].endswith(" lags by 0.2 s at most")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A primary and its replica."""
    with running_cluster(fsync="off") as running:
        yield running


def is_last(server: Server, text: str) -> bool:
    """Whether the last message of a service on its replica contains a text."""
    *_, last = ["", *(line for line in server.process.lines() if "replica-1" in line)]
    return text in last


@pytest.fixture(scope="module")
def servers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two services with a worker each, on the same primary and replica."""
    settings = {
        "DATABASE_URL": cluster.url(cluster.primary_socket),
        "DATABASE_REPLICA_URLS": cluster.url(cluster.standby_socket),
        "SECRET_KEY": SECRET_KEY,
    }
    migrate(settings["DATABASE_URL"])
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_server(tmp_path_factory.mktemp("server"), **settings))
            for _ in range(2)
        ]


@pytest.mark.slow
class TestProcesses:
    def test_let_a_caller_read_their_writes_while_the_replica_lags(
        self, cluster: Cluster, servers: list[Server]
    ) -> None:
        one, two = servers
        account = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
        one.send("POST", f"{PREFIX}/users", json=account)
        basic = {"Authorization": f"Basic {b64encode(f'ann:{PASSWORD}'.encode()).decode()}"}
        _, _, pair = one.send("POST", f"{PREFIX}/tokens", basic)
        ann = {"Authorization": f"Bearer {pair['access_token']}"}

        def read(server: Server, headers: Mapping[str, str]) -> list[int]:
            """Return the ids of the newest posts."""
            status, _, page = server.send("GET", f"{PREFIX}/posts", headers)
            assert status == 200
            return [post["id"] for post in page["items"]]

        def replica_is_used() -> None:
            for server in servers:
                server.get(f"{PREFIX}/posts")  # Begins the polls.
                assert is_last(server, "replica-1 is used.")

        def publish_while_the_replica_lags() -> int:
            """Publish, and read from both; again if the replica was left out before everything was read."""
            cluster.execute(cluster.standby_socket, "SELECT pg_wal_replay_resume()")
            wait_until(replica_is_used)
            cluster.execute(cluster.standby_socket, "SELECT pg_wal_replay_pause()")
            _, _, post = one.send("POST", f"{PREFIX}/posts", ann, HELLO)
            own = [read(server, ann) for server in servers]
            others = [read(server, {}) for server in servers]
            assert all(post["id"] in ids for ids in own)
            if any(post["id"] in ids for ids in others):  # pragma: no cover -- on a busy machine
                raise LookupError
            return int(post["id"])

        post_id = wait_until(publish_while_the_replica_lags, LookupError)
        [worker] = one.workers()
        worker.kill()
        after = wait_until(lambda: read(one, ann), (OSError, HTTPException))
        one.send("DELETE", f"{PREFIX}/tokens/current", ann)
        ended, _, _ = two.send("GET", f"{PREFIX}/feed", ann)

        assert post_id in after
        assert ended == 401

    def test_leave_out_a_replica_that_dies_and_use_it_again(
        self, cluster: Cluster, servers: list[Server]
    ) -> None:
        _, server = servers
        statuses: set[int] = set()

        def last_line_is(text: str) -> None:
            status, _ = server.get(f"{PREFIX}/posts")
            statuses.add(status)
            assert is_last(server, text)

        cluster.execute(cluster.standby_socket, "SELECT pg_wal_replay_resume()")
        wait_until(lambda: last_line_is("replica-1 is used."))
        cluster.control(cluster.standby_socket, "stop", "-m", "immediate")
        wait_until(lambda: last_line_is("replica-1 is left out: "))
        cluster.start(cluster.standby_socket)
        wait_until(lambda: last_line_is("replica-1 is used."))

        assert statuses == {200}
