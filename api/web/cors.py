"""Cross-origin requests (CORS in the Fetch standard): the allowed origins, and the headers they may read."""

from http import HTTPStatus

from flask import Flask, Response, current_app, make_response

from api.config import API_PREFIX
from api.web.problems import Problem
from api.web.wrappers import current_request

ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
# Tracing libraries add headers to all requests of a page. `*` allows every header but `Authorization`, except
# in requests that may carry the cookie, where each header must be named.
ALLOWED_HEADERS = (
    "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, X-Request-Id, X-Requested-With, "
    "Cache-Control, Pragma, traceparent, tracestate, baggage, sentry-trace, b3, X-B3-TraceId, X-B3-SpanId, "
    "X-B3-ParentSpanId, X-B3-Sampled, X-B3-Flags, x-datadog-trace-id, x-datadog-parent-id, x-datadog-origin, "
    "x-datadog-sampling-priority, x-datadog-tags, newrelic, elastic-apm-traceparent, uber-trace-id, "
    "Request-Id, Request-Context, X-Amzn-Trace-Id, X-Cloud-Trace-Context, *"
)
EXPOSED_HEADERS = (
    "ETag, Link, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, Idempotency-Replayed"
)
DAY_SECONDS = 86_400
# Browsers send the cookie with the refresh token to these URLs.
COOKIE_PATH = f"{API_PREFIX}/tokens/"


def init_app(app: Flask) -> None:
    """Allow requests from the origins in `CORS_ORIGINS`, with the token cookie only where it is sent."""
    if not app.config["CORS_ORIGINS"]:
        return

    @app.before_request
    def respond_to_preflight() -> Response | None:
        request = current_request()
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        response = make_response(b"", HTTPStatus.NO_CONTENT)
        response.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(DAY_SECONDS)
        return response

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.vary.add("Origin")
        request = current_request()
        origin = request.headers.get("Origin", "")
        if _is_allowed(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
            if f"{request.path}/".startswith(COOKIE_PATH):
                response.headers["Access-Control-Allow-Credentials"] = "true"
        return response


def ensure_own_origin() -> None:
    """Refuse requests from pages of an origin that is neither the service's own nor a site in `CORS_ORIGINS`.

    For requests that the token cookie authenticates or that set it. Pages on another port of this host belong
    to the same site, so their requests carry the cookie in spite of `SameSite=Strict`. A page that could set
    the cookie could sign its visitors in to an account of its choice. Clients other than browsers send no
    `Origin`.

    To a browser, an app with a scheme of its own is another site than the service: it would drop the cookie.
    """
    request = current_request()
    origin = request.headers.get("Origin")
    # The browser compares with the URL that it requested. `Host` may be that of a proxy's upstream.
    is_own = request.headers.get("Sec-Fetch-Site") == "same-origin"
    if origin is None or is_own or origin == f"{request.scheme}://{request.host}":
        return
    if not (_is_allowed(origin) and origin.startswith(("http://", "https://"))):
        raise Problem("origin_not_allowed")


def _is_allowed(origin: str) -> bool:
    return bool(origin) and origin in current_app.config["CORS_ORIGINS"].split(",")
