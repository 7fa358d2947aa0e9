"""Metrics: what is recorded, who may read it, and how the values of several processes are added up."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
import yaml
from flask import Flask
from prometheus_client.values import close_all_multiprocess_files
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from api.config import ROOT
from api.db import db
from api.db.replicas import Replicas
from api.metrics import Metrics
from api.server import Front, Lane
from tests.conftest import clear_tables
from tests.email_verifications.test_email_verifications import request_verification
from tests.password_resets.test_password_resets import request_reset
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import no_sql, on_postgresql, on_sqlite
from tests.support.factories import Account, Factory
from tests.support.mailbox import Mailbox, let_pass, send_due
from tests.support.metrics import BEARER, TOKEN, Samples, scrape
from tests.support.problems import assert_problem
from tests.support.server import Server, free_port, running_server
from tests.support.wait import wait_until
from tests.users.test_users import registration

NewApp = Callable[..., Flask]

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed.")


@pytest.fixture
def _closed_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores what applications change in the process, after they have ended."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    yield
    close_all_multiprocess_files()  # type: ignore[no-untyped-call]


@pytest.fixture
def recording(_closed_files: None, new_app: NewApp, tmp_path: Path) -> NewApp:
    """A function that creates an application that records metrics, in a folder of its own."""
    numbers = count()

    def make(database_url: str, **settings: Any) -> Flask:
        folder = str(tmp_path / f"metrics-{next(numbers)}")
        return new_app(database_url, METRICS_TOKEN=TOKEN, METRICS_FOLDER=folder, **settings)

    return make


@pytest.fixture
def app(migrated_app: Flask, recording: NewApp) -> Iterator[Flask]:
    """An application that records metrics, on empty tables."""
    yield recording(migrated_app.config["DATABASE_URL"])
    clear_tables(migrated_app)


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


class TestAccess:
    @no_sql
    @pytest.mark.parametrize(
        "authorization", [None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}\xe9"]
    )
    def test_requires_the_token(self, app: Flask, authorization: str | None) -> None:
        headers = {"Authorization": authorization} if authorization else {}

        response = app.test_client().get("/metrics", headers=headers)

        assert_problem(response, 401, "invalid_token")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="metrics"'

    @on_sqlite
    def test_is_not_found_unless_it_is_configured(self, migrated_app: Flask) -> None:
        assert_problem(migrated_app.test_client().get("/metrics", headers=BEARER), 404, "not_found")

    @on_sqlite
    def test_has_the_format_that_the_caller_accepts(self, app: Flask) -> None:
        headers = {**BEARER, "Accept": "application/openmetrics-text;version=1.0.0"}

        response = app.test_client().get("/metrics", headers=headers)

        assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert response.text.endswith("# EOF\n")


class TestRequests:
    @on_sqlite
    def test_are_counted_by_method_route_and_status(self, app: Flask, client: ContractClient) -> None:
        for post_id in (1, 2, 3):
            client.get(f"/posts/{post_id}")

        samples = scrape(app)

        labels = {"method": "GET", "route": f"{PREFIX}/posts/<id:post_id>"}
        assert samples.value("http_requests_total", **labels, status="404") == 3
        assert samples.value("http_request_duration_seconds_count", **labels) == 3
        assert 0 < samples.value("http_request_duration_seconds_sum", **labels) < 60

    @on_sqlite
    def test_have_no_label_of_the_callers_choice(self, app: Flask) -> None:
        app.test_client().open("/secret-path", method="SECRET")

        samples = scrape(app)

        assert samples.value("http_requests_total", method="other", route="unknown", status="404") == 1
        assert "secret" not in samples.text.lower()


class TestProblems:
    def test_are_counted_by_code(self, app: Flask, client: ContractClient, ann: Account) -> None:
        before = scrape(app)
        for _ in range(2):
            client.post("/tokens", auth=("ann", "wrong"))

        after = scrape(app)

        failures = [
            samples.value("problems_total", code="invalid_credentials") for samples in (before, after)
        ]
        assert failures == [0, 2]

    @on_sqlite
    def test_of_rate_limits_are_counted_by_policy(self, app: Flask, recording: NewApp) -> None:
        limited = recording(app.config["DATABASE_URL"], RATE_LIMIT_READS="1/hour")
        for _ in range(3):
            limited.test_client().get(f"{PREFIX}/posts")

        samples = scrape(limited)

        assert samples.value("rate_limit_refusals_total", policy="reads") == 2
        assert samples.value("rate_limit_refusals_total") == 2


class TestDatabase:
    def test_errors_are_counted_by_class(self, app: Flask, client: ContractClient, ann: Account) -> None:
        client.post("/users", json=registration(username=ann.username))

        samples = scrape(app)

        violated = {"sqlite": "SQLITE_CONSTRAINT", "postgresql": "23"}
        with app.app_context():
            name = db.engine.dialect.name
        assert samples.value("database_errors_total", **{"class": violated[name]}) == 1
        assert samples.value("database_errors_total") == 1

    def test_that_cannot_be_reached_is_an_error_of_the_connection(
        self, recording: NewApp, tmp_path: Path
    ) -> None:
        app = recording(f"sqlite:///{tmp_path}/none.db")
        assert app.test_client().get(f"{PREFIX}/posts").status_code == 503

        samples = scrape(app)

        assert samples.value("database_errors_total", **{"class": "08"}) == 1
        assert samples.value("database_connections_in_use") == 0
        assert not samples.value("emails_waiting")

    @on_postgresql
    def test_that_is_a_replica_has_a_pool_of_its_own_and_may_be_left_out(
        self, recording: NewApp, migrated_app: Flask
    ) -> None:
        url = migrated_app.config["DATABASE_URL"]
        unreachable = f"postgresql://127.0.0.1:{free_port()}/a"
        app = recording(url, DATABASE_REPLICA_URLS=f"{url} {unreachable}")
        replicas: Replicas = app.extensions["replicas"]
        clock = replicas.beat()
        for replica in replicas:
            replica.poll(clock)

        samples = scrape(app)

        left_out = [samples.value("database_replicas_left_out", server=replica.name) for replica in replicas]
        maxima = [
            samples.value("database_connections_maximum", server=server)
            for server in ("primary", "replica-1")
        ]
        assert left_out == [0, 1]
        # Of 32 threads: those that write, the passwords, the event loop, emails and heartbeats; and the poll.
        assert maxima == [32 + 16 + 5, 32 + 1]

    def test_errors_in_python_are_not_counted(self, app: Flask) -> None:
        with app.app_context(), pytest.raises(StatementError, match="A value is required"):
            db.session.execute(text("SELECT :missing"))

        assert scrape(app).value("database_errors_total") == 0

    def test_connections_are_in_use_while_they_are_checked_out(self, app: Flask) -> None:
        with app.app_context(), db.engine.connect() as first, db.engine.connect():
            during = scrape(app)
            first.invalidate()
        after = scrape(app)

        assert during.value("database_connections_in_use") == 2
        assert after.value("database_connections_in_use") == 0
        with app.app_context():
            pool: Any = db.engine.pool
            assert after.value("database_connections_maximum") == pool.size()
            db.engine.dispose()

    def test_connections_are_not_counted_once_they_are_disposed_of(self, app: Flask) -> None:
        metrics: Metrics = app.extensions["metrics"]
        with app.app_context():
            db.session.execute(text("SELECT 1"))
            db.session.rollback()
            db.engine.dispose()

        (family,) = (
            family
            for family in metrics.registry().collect()
            if family.name == "microblog_database_connections_maximum"
        )
        assert [sample.value for sample in family.samples] == [0]


class TestEmails:
    def test_that_wait_are_counted_in_the_database(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        request_reset(client)
        with app.app_context():
            db.session.execute(text("UPDATE waiting_emails SET created_at = '2020-01-01 00:00:00'"))
            db.session.commit()

        samples = scrape(app)

        assert samples.value("emails_waiting", kind="password_reset") == 1
        assert samples.value("emails_oldest_waiting_seconds", kind="password_reset") > 5 * 365 * 86400

    def test_are_counted_by_outcome(
        self, app: Flask, client: ContractClient, mailbox: Mailbox, ann: Account
    ) -> None:
        request_reset(client)
        mailbox.replies = ["450 Later"]
        send_due(app)
        request_verification(client, ann)
        mailbox.replies = ["550 Never"]
        let_pass(app, timedelta(hours=1))  # Too late for a password reset.
        send_due(app)
        client.post("/users", json=registration())
        send_due(app)

        samples = scrape(app)

        outcomes = {
            (sample.labels["kind"], sample.labels["outcome"]): sample.value
            for sample in samples.all
            if sample.name == "microblog_emails_total" and sample.value
        }
        assert outcomes == {
            ("password_reset", "refused"): 1,
            ("password_reset", "given_up"): 1,
            ("email_verification", "given_up"): 1,
            ("email_verification", "sent"): 1,
        }


def test_requests_that_wait_for_their_lane_are_counted(app: Flask) -> None:
    async def wait(lane: Lane, blocked: Event) -> Samples:
        running = [asyncio.create_task(lane.run(blocked.wait)) for _ in range(5)]
        await asyncio.sleep(0)
        during = scrape(app)
        blocked.set()
        await asyncio.gather(*running)
        return during

    with ThreadPoolExecutor(2) as threads:
        during = asyncio.run(wait(Lane(threads, 2, 3, 60, "writes", app.extensions["metrics"]), Event()))

    assert during.value("queue_waiting_requests", lane="writes") == 3
    assert scrape(app).value("queue_waiting_requests", lane="writes") == 0


@on_sqlite
@pytest.mark.parametrize(("method", "lane"), [("GET", "reads"), ("POST", "writes")])
def test_requests_that_their_lane_refuses_are_counted(app: Flask, method: str, lane: str) -> None:
    front = Front(app)
    front._in_loop._round_ends = 0
    front._writing._free = asyncio.Semaphore(0)
    front._writing._places = 0
    scope: Any = SimpleNamespace(
        method=method,
        path="/livez",
        query_string="",
        headers={"host": "localhost"},
        scheme="http",
        http_version="1.1",
        server="127.0.0.1:80",
        client="127.0.0.1:50000",
    )
    protocol = Mock()

    asyncio.run(front.__rsgi__(scope, protocol))

    assert protocol.response_bytes.call_args.args[0] == 503
    assert scrape(app).value("queue_refusals_total", lane=lane) == 1


def scrape_server(server: Server) -> Samples:
    """Return what a server, in one of its workers, serves to Prometheus."""
    sent = f"GET /metrics HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    head, _, body = server.exchange(sent).partition(b"\r\n\r\n")
    assert b" 200 " in head
    return Samples(body.decode())


@pytest.mark.slow
def test_workers_are_added_up_and_one_that_died_has_counters_but_no_gauges(tmp_path: Path) -> None:
    maxima: list[float] = []

    def all_are_connected() -> Samples:
        samples = scrape_server(server)
        maxima.append(samples.value("database_connections_maximum"))
        assert maxima[-1] == 20  # The pool of a worker has 10.
        return samples

    def is_replaced() -> None:
        assert len({one.pid for one in server.workers()} - {first.pid}) == 2

    def numbers() -> set[str]:
        return {path.stem.rpartition("_")[2] for path in (tmp_path / "metrics").glob("*.db")}

    with running_server(tmp_path, WORKERS="2", METRICS_TOKEN=TOKEN) as server:
        for _ in range(30):
            server.get(f"{PREFIX}/posts")
        before = wait_until(all_are_connected)
        first, _second = server.workers()
        first.kill()
        wait_until(is_replaced)
        after = wait_until(all_are_connected, (AssertionError, OSError))

        assert numbers() == {"1", "2", "3"}  # The first process has one, too.
    for samples in (before, after):
        assert samples.value("http_requests_total", route=f"{PREFIX}/posts", status="200") == 30
    assert max(maxima) == 20


def test_files_of_a_former_run_are_removed(recording: NewApp, tmp_path: Path) -> None:
    folder = tmp_path / "metrics-0"
    folder.mkdir()
    for name in ("counter_1.db", "gauge_livesum_7.db"):
        (folder / name).write_bytes(b"The machine crashed while it wrote.")

    samples = scrape(recording(f"sqlite:///{tmp_path}/none.db"))

    assert samples.value("database_connections_in_use") == 0
    assert not (folder / "gauge_livesum_7.db").exists()


def queries() -> Iterator[str]:
    """Yield the queries of the alerts and of the dashboard."""
    alerts = yaml.safe_load((ROOT / "deploy/prometheus-alerts.yml").read_text("utf-8"))
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    dashboard = orjson.loads((ROOT / "deploy/grafana-dashboard.json").read_bytes())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


class TestDeployment:
    @pytest.fixture
    def samples(self, app: Flask, client: ContractClient, ann: Account) -> Samples:
        """The samples of a scrape: there were an error and a replica of the database, and an email waits."""
        app.extensions["metrics"].report_replica("replica-1", is_left_out=False)
        client.post("/users", json=registration(username=ann.username))
        request_reset(client)
        with ThreadPoolExecutor(1) as threads:
            lane = Lane(threads, 0, 1, 0, "reads", app.extensions["metrics"])
            assert not threads.submit(asyncio.run, lane.run(print)).result()
        app.extensions["metrics"].count("queue_refusals", "reads")
        return scrape(app)

    @on_sqlite
    def test_queries_name_metrics_and_labels_that_exist(self, samples: Samples) -> None:
        labels: dict[str, set[str]] = {"up": {"job", "instance"}}
        values = set()
        for sample in samples.all:
            labels.setdefault(sample.name, {"instance"}).update(sample.labels)
            values |= {(sample.name, *label) for label in sample.labels.items()}

        used = set()
        for query in queries():
            names = re.findall(r"\b(?:up|microblog_\w+)\b", query)
            assert names, query
            for name, matchers in re.findall(r"\b(up|microblog_\w+)\b(?:\{([^}]*)\})?", query):
                used.add(name)
                matched = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)
                assert {label for label, *_ in matched} <= labels[name], query
                equal = {(name, label, value) for label, sign, value in matched if sign == "="}
                assert name == "up" or equal <= values, query
            for listed in re.findall(r"\bby \(([^)]*)\)", query):
                assert set(listed.split(", ")) <= set.union(*(labels[name] for name in names)), query

        families = {name.removesuffix("_created") for name in labels}
        histogram = "microblog_http_request_duration_seconds"
        assert families - used == {f"{histogram}_count", f"{histogram}_sum"}

    @on_sqlite
    @needs_promtool
    def test_promtool_accepts_the_files_and_the_metrics(self, samples: Samples) -> None:  # pragma: no cover
        commands: list[tuple[list[str], str]] = [
            (["check", "rules", "deploy/prometheus-alerts.yml"], ""),
            (["check", "config", "--syntax-only", "deploy/prometheus.yml"], ""),
            (["check", "metrics"], samples.text),
        ]
        for arguments, given in commands:
            subprocess.run([str(PROMTOOL), *arguments], input=given, text=True, cwd=ROOT, check=True)
