"""A line of JSON for each answer: what was asked for and how it went, nothing that people sent."""

import re
from contextlib import suppress
from http import HTTPMethod
from time import perf_counter

import orjson
from flask import Flask, Response

from api.database import utc_now
from api.messages import current_request

# W3C Trace Context, section 3.2: version, trace-id, parent-id, flags; later versions may go on.
TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})(?P<parent_id>[0-9a-f]{16})"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)

# Any other word can be sent for a method, of any length.
METHODS = frozenset(HTTPMethod.__members__)


def init_app(app: Flask) -> None:
    """Log each answer on the standard output."""
    app.after_request(_write)


def _write(response: Response) -> Response:
    request = current_request()
    trace = _trace_of(request.environ.get("HTTP_TRACEPARENT"))
    line = {
        "time": utc_now(),
        "request_id": request.id,
        "method": request.method if request.method in METHODS else None,
        "route": request.url_rule and request.url_rule.rule,
        "status": response.status_code,
        "milliseconds": round(1000 * (perf_counter() - request.began), 2),
        "user_id": request.user_id,
        "trace_id": trace and trace["trace_id"],
        "parent_id": trace and trace["parent_id"],
    }
    text = orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE).decode()
    with suppress(OSError):  # Where nobody reads on, or a disk is full, answers go out all the same.
        print(text, end="", flush=True)  # noqa: T201 -- at once, lest threads tear lines apart.
    return response


def _trace_of(traceparent: str | None) -> re.Match[str] | None:
    trace = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return None if trace and trace["version"] == "00" and trace["more"] else trace
