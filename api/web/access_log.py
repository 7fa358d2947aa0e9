"""Logging: one line of JSON on standard output for each response and each other log record.

The only client-supplied values in the access log are request and trace ids, which are validated.
"""

import json
import logging
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPMethod
from time import perf_counter

import orjson
from flask import Flask, Response, has_request_context

from api.web.wrappers import current_request

# W3C Trace Context, section 3.2: version, trace-id, parent-id, flags. Later versions may append fields.
TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})(?P<parent_id>[0-9a-f]{16})"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)

# Other methods are not logged: clients may send any word, of any length.
METHODS = frozenset(HTTPMethod.__members__)

# The parent of "api.access" and of Flask's `app.logger`, "api.app".
service_log = logging.getLogger("api")
access_log = logging.getLogger("api.access")


class JSONFormatter(logging.Formatter):
    """Formats a record as JSON: the members of an access record; otherwise level, message and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        time = datetime.fromtimestamp(record.created, UTC)
        members: dict[str, object] | None = getattr(record, "members", None)
        if members:
            return orjson.dumps({"time": time, **members}, option=orjson.OPT_UTC_Z).decode()
        line = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname,
            "message": record.getMessage(),
            "request_id": current_request().id if has_request_context() else None,
            "traceback": self.formatException(record.exc_info) if record.exc_info else None,
        }
        # Unlike orjson, `json` escapes all characters outside ASCII, such as the line separator U+2028.
        return json.dumps(line)


class StandardOutputHandler(logging.Handler):
    """Writes records to the current `sys.stdout`. Records are lost if it is closed or full."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. Never raises: a fault in the log must not fail the request."""
        if sys.stdout is None:
            return  # It was closed before Python started.
        try:
            line = self.format(record) + "\n"
            with suppress(OSError):
                sys.stdout.write(line)
                sys.stdout.flush()
        except Exception:  # noqa: BLE001 -- reported on standard error, as all handlers do.
            self.handleError(record)


def init_app(app: Flask) -> None:
    """Log each response and all other records of the service."""
    if not service_log.handlers:
        handler = StandardOutputHandler()
        handler.setFormatter(JSONFormatter())
        service_log.addHandler(handler)
        service_log.setLevel(logging.INFO)
        # No line says where it was logged. The search for that takes a third of the time of an access record.
        logging._srcfile = None  # As the "Logging HOWTO" of Python describes.
    app.after_request(_log_response)


def _log_response(response: Response) -> Response:
    if not access_log.isEnabledFor(logging.INFO):
        return response
    request = current_request()
    trace = _trace_of(request.environ.get("HTTP_TRACEPARENT"))
    members = {
        "request_id": request.id,
        "method": request.method if request.method in METHODS else None,
        "route": request.url_rule and request.url_rule.rule,
        "status": response.status_code,
        "milliseconds": round(1000 * (perf_counter() - request.began), 2),
        "user_id": request.user_id,
        "trace_id": trace and trace["trace_id"],
        "parent_id": trace and trace["parent_id"],
    }
    access_log.info("response", extra={"members": members})
    return response


def _trace_of(traceparent: str | None) -> re.Match[str] | None:
    trace = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return None if trace and trace["version"] == "00" and trace["more"] else trace
