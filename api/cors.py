"""Pages of other origins: which may call, and what they may see of the answers (the Fetch standard, CORS)."""

from http import HTTPStatus

from flask import Flask, Response, current_app, make_response

from api.errors import Problem
from api.messages import current_request

ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
ALLOWED_HEADERS = (
    "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, X-Request-Id, traceparent"
)
EXPOSED_HEADERS = (
    "ETag, Link, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, Idempotency-Replayed"
)
DAY_SECONDS = 86_400


def init_app(app: Flask, cookie_path: str) -> None:
    """Let pages of the origins in `CORS_ORIGINS` call; with the token cookie only below its path."""
    if not app.config["CORS_ORIGINS"]:
        return

    @app.before_request
    def answer_preflight() -> Response | None:
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
            if f"{request.path}/".startswith(f"{cookie_path}/"):
                response.headers["Access-Control-Allow-Credentials"] = "true"
        return response


def ensure_own_origin() -> None:
    """Refuse pages whose origin is neither ours nor allowed.

    For requests that a cookie vouches for, or that set it: pages on another port of this host are of the same
    site, so that `SameSite=Strict` does not keep them from sending it, and no page may give its visitors a
    session of its own choice. Programs that are no browsers send no `Origin`.
    """
    request = current_request()
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}" and not _is_allowed(origin):
        raise Problem("origin_not_allowed")


def _is_allowed(origin: str) -> bool:
    return bool(origin) and origin in current_app.config["CORS_ORIGINS"].split(",")
