"""Traces for OpenTelemetry: a span for each request, and one for each statement that it executes.

The packages are the extra `tracing`. `create_app` imports this module if `OTEL_EXPORTER_OTLP_ENDPOINT` is
set. The SDK reads all other variables that begin with `OTEL_` itself.
"""

import os

# With `none`, the API has no context and fails. `baggage` does not follow `traceparent` either.
if os.environ.get("OTEL_PROPAGATORS") == "none":
    os.environ["OTEL_PROPAGATORS"] = "baggage"
# The names in `ATTRIBUTES`.
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock, Thread, main_thread
from typing import TYPE_CHECKING, Any

from flask import Flask
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.dbapi import CursorTracer, DatabaseApiIntegration
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.semconv.attributes.db_attributes import DB_QUERY_TEXT, DB_SYSTEM_NAME
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import EXCEPTION_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.trace import Span, SpanKind, Status, format_span_id, format_trace_id, get_current_span

from api.db import db
from api.web.access_log import service_log

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# A span has no other attributes. Paths, queries, addresses, headers, and the messages of errors may contain
# data of users.
ATTRIBUTES = frozenset(
    {
        HTTP_REQUEST_METHOD,
        HTTP_ROUTE,
        HTTP_RESPONSE_STATUS_CODE,
        DB_SYSTEM_NAME,
        DB_QUERY_TEXT,
        ERROR_TYPE,
        EXCEPTION_TYPE,
    }
)

# How long a process that ends waits for the collector.
EXIT_SECONDS = 2


def init_app(app: Flask) -> None:
    """Trace the requests and their statements, and export them."""
    for handler in service_log.handlers:
        logging.getLogger("opentelemetry").addHandler(handler)
    # Otherwise it logs what it cannot parse of a client's header.
    logging.getLogger("opentelemetry.baggage").setLevel(logging.ERROR)
    resource = Resource.create({SERVICE_NAME: app.config["OTEL_SERVICE_NAME"]})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    app.extensions["tracing"] = provider
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app, request_hook=_log_trace, tracer_provider=provider, enable_commenter=False
    )
    _trace_statements(app, provider)
    exporter = Exporter(f"{app.config['OTEL_EXPORTER_OTLP_ENDPOINT'].rstrip('/')}/v1/traces")
    starting = Lock()

    @app.before_request
    def start_exporting() -> None:
        """Start the thread that exports, in a process that responds: the server forks it from another one."""
        if starting.acquire(blocking=False):  # Once: it is never released.
            provider.add_span_processor(BatchSpanProcessor(exporter))
            Thread(target=_export_the_rest_at_exit, args=(provider,), name="traces", daemon=False).start()


def _export_the_rest_at_exit(provider: TracerProvider) -> None:
    """Export what the process has recorded when it ends. A worker process runs no functions of `atexit`."""
    main_thread().join()
    exporting = Thread(target=provider.shutdown, daemon=True)
    exporting.start()
    exporting.join(EXIT_SECONDS)


def _log_trace(span: Span, environ: "WSGIEnvironment") -> None:
    """Let the access log have the id of a trace that begins here."""
    if isinstance(span, ReadableSpan) and span.parent is None:
        trace_id, span_id = format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)
        environ["HTTP_TRACEPARENT"] = f"00-{trace_id}-{span_id}-01"


def _trace_statements(app: Flask, provider: TracerProvider) -> None:
    """Trace what the dialect executes, whether for SQLAlchemy's Connection or for `api.db.driver`."""
    with app.app_context():
        dialect: Any = db.engine.dialect
    tracer = CursorTracer[Any](DatabaseApiIntegration(__name__, dialect.name, tracer_provider=provider))

    def traced(execute: Callable[..., None]) -> Callable[..., None]:
        def wrapper(cursor: Any, *arguments: Any, **named: Any) -> None:
            if get_current_span().is_recording():  # Within a request.
                tracer.traced_execution(cursor, partial(execute, cursor), *arguments, **named)
            else:
                execute(cursor, *arguments, **named)

        return wrapper

    dialect.do_execute = traced(dialect.do_execute)
    dialect.do_executemany = traced(dialect.do_executemany)


class Exporter(OTLPSpanExporter):
    """Exports spans without data of users."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the collector."""
        return super().export([_without_user_data(span) for span in spans])


def _without_user_data(span: ReadableSpan) -> ReadableSpan:
    name, attributes = span.name, _allowed(span.attributes)
    if span.kind is SpanKind.SERVER and HTTP_ROUTE not in attributes:
        name = name.partition(" ")[0]  # The path follows the method.
    return ReadableSpan(
        name,
        span.context,
        span.parent,
        span.resource,
        attributes,
        [Event(event.name, _allowed(event.attributes), event.timestamp) for event in span.events],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _allowed(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if name in ATTRIBUTES}
