"""Traces, as a collector receives them: the spans of requests and statements, and what they leave out."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from flask import Flask
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from sqlalchemy import make_url

from api.config import RENDERERS, ROOT
from tests.conftest import clear_tables
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import Factory
from tests.support.server import running_server
from tests.support.statements import recorded_statements, without_begin
from tests.support.wait import wait_until

NewApp = Callable[..., Flask]
Spans = Callable[[], list[Span]]
POST_ROUTE = f"{PREFIX}/posts/<id:post_id>"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """An OpenTelemetry collector that stores what it receives."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        # Unset, it does not respond.
        self.responds = Event()
        self.responds.set()
        self.status = 200
        self.url = ""

    def add(self, body: bytes) -> None:
        """Store the body of a request."""
        self.bodies.append(body)
        self.responds.wait()

    def spans(self) -> list[Span]:
        """Return the spans, in the order in which they began."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        resources = [resource for request in requests for resource in request.resource_spans]
        found = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield collector
        collector.responds.set()
        server.shutdown()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector."""
    with running_collector() as running:
        yield running


@pytest.fixture
def tracing(new_app: NewApp, collector: Collector) -> Iterator[NewApp]:
    """A function that creates an application which exports to the collector."""
    apps: list[Flask] = []

    def make(database_url: str, **settings: Any) -> Flask:
        apps.append(new_app(database_url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **settings))
        return apps[-1]

    yield make
    for app in apps:
        app.extensions["tracing"].shutdown()


@pytest.fixture
def app(request: pytest.FixtureRequest, migrated_app: Flask, tracing: NewApp) -> Iterator[Flask]:
    """An application that exports traces, on empty tables; the parameter is its renderer."""
    settings = {"RENDERER": request.param} if hasattr(request, "param") else {}
    yield tracing(migrated_app.config["DATABASE_URL"], **settings)
    clear_tables(migrated_app)


@pytest.fixture
def spans(app: Flask, collector: Collector) -> Spans:
    """A function that returns the spans that were recorded since the last call."""

    def read() -> list[Span]:
        app.extensions["tracing"].force_flush()
        found = collector.spans()
        collector.bodies.clear()
        return found

    return read


def attributes_of(entry: Any) -> dict[str, Any]:
    """Return the attributes of a span or an event."""
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value"))
        for attribute in entry.attributes
    }


@pytest.mark.parametrize("app", RENDERERS, indirect=True)
def test_a_request_has_a_span_and_so_has_each_of_its_statements(
    app: Flask, client: ContractClient, make: Factory, spans: Spans
) -> None:
    post_id = make.post(make.user("ann"))

    with recorded_statements(app) as sent:
        response = client.get(f"/posts/{post_id}")

    assert response.status_code == 200
    request, *statements = spans()
    assert request.name == f"GET {POST_ROUTE}"
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes_of(request) == {
        "http.request.method": "GET",
        "http.route": POST_ROUTE,
        "http.response.status_code": 200,
    }
    texts = without_begin(sent)
    assert len(texts) == 1 if app.config["RENDERER"] == "sql_json" else texts
    system = make_url(app.config["DATABASE_URL"]).get_backend_name()
    for span, text in zip(statements, texts, strict=True):
        assert span.name == "SELECT"
        assert attributes_of(span) == {"db.system.name": system, "db.query.text": text}
        assert (span.trace_id, span.parent_span_id) == (request.trace_id, request.span_id)
        assert span.end_time_unix_nano <= request.end_time_unix_nano


def test_spans_have_no_data_of_users(
    client: ContractClient, make: Factory, collector: Collector, spans: Spans
) -> None:
    ann = make.user("secret-name")
    bob = {"username": "bob", "email": "secret@example.com", "password": "secret words"}
    headers = {**ann.signed_in, "User-Agent": "secret agent"}
    requests: list[tuple[str, str, dict[str, Any], int]] = [
        ("POST", "/users", {"json": bob}, 201),
        # PostgreSQL's message has the address.
        ("POST", "/users", {"json": {**bob, "username": "carl"}}, 409),
        ("POST", "/posts", {"json": {"body": "secret words #secret"}, "headers": headers}, 201),
        ("GET", "/posts?q=secret", {"headers": headers}, 200),
        ("GET", "/users/secret-name", {"headers": headers}, 200),
        ("POST", "/tokens", {"auth": ("secret-name", "secret words")}, 401),
    ]

    for method, path, arguments, status in requests:
        assert client.open(path, method=method, **arguments).status_code == status
    found = spans()

    assert [span.kind for span in found].count(Span.SPAN_KIND_SERVER) == len(requests)
    for secret in ("secret", "example.com", ann.access_token):
        assert secret not in str(found)
    [failed] = [span for span in found if span.status.code == Status.STATUS_CODE_ERROR]
    assert failed.status.message == ""
    [event] = failed.events
    assert attributes_of(event).keys() == {"exception.type"}


@on_sqlite
def test_a_path_that_does_not_exist_is_not_in_the_span(app: Flask, spans: Spans) -> None:
    app.test_client().get("/secret-path")

    [span] = spans()
    assert span.name == "GET"
    assert attributes_of(span) == {"http.request.method": "GET", "http.response.status_code": 404}


@pytest.mark.parametrize("url", ["sqlite:///{}/none.db", "postgresql://ann@127.0.0.1:1/name"])
def test_a_503_is_an_error(tracing: NewApp, collector: Collector, tmp_path: Path, url: str) -> None:
    app = tracing(url.format(tmp_path))

    ContractClient(app).get("/posts/1")
    app.extensions["tracing"].force_flush()

    [span] = collector.spans()
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(span) == {
        "http.request.method": "GET",
        "http.route": POST_ROUTE,
        "http.response.status_code": 503,
        "error.type": "503",
    }


@on_sqlite
class TestContext:
    def test_of_the_caller_is_continued(self, client: ContractClient, spans: Spans) -> None:
        client.get("/posts", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

        request, statement = spans()
        assert request.trace_id.hex() == statement.trace_id.hex() == TRACE
        assert request.parent_span_id.hex() == PARENT

    def test_decides_whether_the_request_is_recorded(self, client: ContractClient, spans: Spans) -> None:
        response = client.get("/posts", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})

        assert response.status_code == 200
        assert spans() == []

    def test_that_is_not_valid_begins_a_trace_which_the_log_names(
        self, client: ContractClient, spans: Spans, capsys: pytest.CaptureFixture[str]
    ) -> None:
        client.get("/posts", headers={"traceparent": "secret", "baggage": "s\xe9cret"})

        request, _ = spans()
        [line] = capsys.readouterr().out.splitlines()
        assert json.loads(line)["trace_id"] == request.trace_id.hex()
        assert json.loads(line)["parent_id"] == request.span_id.hex()


@on_sqlite
def test_a_collector_that_cannot_be_reached_is_logged(
    tracing: NewApp, collector: Collector, migrated_app: Flask, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.status = 400
    app = tracing(migrated_app.config["DATABASE_URL"])

    app.test_client().get("/livez")
    app.extensions["tracing"].force_flush()

    _, line = capsys.readouterr().out.splitlines()
    assert json.loads(line)["level"] == "ERROR"


class TestProcesses:
    """Traces of the service as a server runs it."""

    pytestmark = pytest.mark.slow

    def test_each_worker_exports_the_spans_of_its_requests_and_may_ignore_their_context(
        self, collector: Collector, tmp_path: Path
    ) -> None:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_PROPAGATORS": "none",
            "WORKERS": "2",
        }
        context = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        with running_server(tmp_path, **settings) as server:
            for number in range(1, 21):  # Each worker accepts some of the connections.
                server.get(f"{PREFIX}/posts/{number}")
                server.send("POST", f"{PREFIX}/posts", context, json={})

        found = collector.spans()
        names = Counter(span.name for span in found)
        assert names[f"GET {POST_ROUTE}"] == names[f"POST {PREFIX}/posts"] == names["SELECT"] == 20
        traces = Counter(span.trace_id for span in found if not span.parent_span_id)
        assert set(traces.values()) == {1}

    def test_a_collector_that_does_not_respond_delays_no_request_and_no_exit(
        self, collector: Collector, tmp_path: Path
    ) -> None:
        collector.responds.clear()
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "1",
            "OTEL_BSP_MAX_QUEUE_SIZE": "4",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1",
            "STOP_SECONDS": "30",
        }
        with running_server(tmp_path, **settings) as server:
            wait_until(lambda: collector.bodies[0], IndexError)
            began = time.monotonic()
            for _ in range(100):
                assert server.get(f"{PREFIX}/posts")[0] == 200
            stopping = time.monotonic()
            server.process.terminate()
            assert server.process.end() == 0
            ended = time.monotonic()

        assert len(collector.bodies) < 5
        assert stopping - began < 10
        assert ended - stopping < 15

    def test_the_packages_are_not_needed_unless_it_is_configured(self, tmp_path: Path) -> None:
        code = "import sys; sys.modules['opentelemetry'] = None; import wsgi"
        environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/x.db"}

        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
