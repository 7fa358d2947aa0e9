"""A line of JSON for each answer: what was asked for and how it went, nothing that people sent."""

import logging
import re
import sys
from http import HTTPMethod
from time import perf_counter

import orjson
from flask import Flask, Response, g, request

from api.database import utc_now

# W3C Trace Context, section 3.2: version, trace-id, parent-id, flags; later versions may go on.
TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})(?P<parent_id>[0-9a-f]{16})"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)

log = logging.getLogger("microblog.access")


def init_app(app: Flask) -> None:
    """Log each answer on the standard output."""
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stdout))
        log.setLevel(logging.INFO)
    app.before_request(_begin)
    app.after_request(_write)


def _begin() -> None:
    g.began = perf_counter()


def _write(response: Response) -> Response:
    trace = TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if trace and trace["version"] == "00" and trace["more"]:
        trace = None
    line = {
        "time": utc_now(),
        "request_id": g.request_id,
        # Any word can be sent for a method, of any length.
        "method": request.method if request.method in HTTPMethod.__members__ else None,
        "route": request.url_rule and request.url_rule.rule,
        "status": response.status_code,
        "milliseconds": round(1000 * (perf_counter() - g.began), 2),
        "user_id": g.get("user_id"),
        "trace_id": trace and trace["trace_id"],
        "parent_id": trace and trace["parent_id"],
    }
    log.info(orjson.dumps(line, option=orjson.OPT_UTC_Z).decode())
    return response
