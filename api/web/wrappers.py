"""The application, request and response classes: everything that overrides Flask and Werkzeug is here.

`python -m benchmarks.overrides` measures what each override saves; tests/web/test_wrappers.py tests that
the responses are the same without them.
"""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from random import getrandbits
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Request, Response, request
from flask.sessions import SessionInterface
from werkzeug.datastructures import Authorization, Headers
from werkzeug.routing import MapAdapter

from api.db.replicas import NOTHING
from api.db.transactions import SAFE_METHODS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.local import LocalProxy

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
DEFAULT_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
STATUSES_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
STATUSES_WITH_BODY = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})


class ApiRequest(Request):
    """A request, with values that hooks and decorators set while they process it."""

    # The `Authorization` header; None if it cannot be parsed (Werkzeug raises if it is not ASCII).
    authorization: Authorization | None = None

    def __init__(self, environ: "WSGIEnvironment") -> None:
        super().__init__(environ)
        self.began = perf_counter()
        # The id from the caller or a proxy, or else a new one.
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = request_id if REQUEST_ID.fullmatch(request_id) else f"{getrandbits(128):032x}"
        self.authorization = _authorization(environ.get("HTTP_AUTHORIZATION"))
        # Units charged to the request (`api.rate_limiting.hooks`).
        self.rate_limit_charges: list[Any] = []
        # The body, if the method may have one (`api.web.json_body`).
        self.body = b""
        # The claims of the access token, once its signature was checked (empty if it is invalid).
        self.claims: list[int] | None = None
        # The caller and their session, once they are authenticated (`api.auth`); None if anonymous.
        self.user_id: int | None = None
        self.session_id: int | None = None
        # The position of the session's last write, of which replicas show it (`api.db.replicas`).
        self.last_write: float = NOTHING
        # The parts of representations that the parameter `expand` names (`api.contract.endpoint`).
        self.expand: frozenset[str] = frozenset()

    @property
    def is_safe(self) -> bool:
        """Whether the method is safe: it changes nothing (RFC 9110, section 9.2.1)."""
        return self.method in SAFE_METHODS


def _authorization(field: str | None) -> Authorization | None:
    try:
        return Authorization.from_header(field)
    except ValueError:
        return None


class ApiResponse(Response):
    """A response without a default content type, and with the headers that all responses have."""

    default_mimetype = None

    def get_wsgi_response(
        self, environ: "WSGIEnvironment"
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Return the body, the status, and the headers with the default ones."""
        body, status, headers = super().get_wsgi_response(environ)
        given = dict(headers)
        headers += [(name, value) for name, value in DEFAULT_HEADERS if name not in given]
        headers.append(("X-Request-Id", current_request().id))
        return body, status, headers

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the headers. Werkzeug copies them, to correct `Location` and those of a 204.

        A complete body, or none, needs no correction, and `Location` stays relative.
        """
        is_complete = self.status_code in (STATUSES_WITH_BODY if self.response else STATUSES_WITHOUT_BODY)
        return self.headers if is_complete else super().get_wsgi_headers(environ)


class NoCookieSession(SessionInterface):
    """Disables Flask's cookie session; the API uses tokens."""

    def open_session(self, _app: Flask, _request: Request) -> None:
        """Return no session."""


class Microblog(Flask):
    """The Flask application, with the request and response classes of the API."""

    request_class = ApiRequest
    response_class = ApiResponse
    session_interface = NoCookieSession()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return the adapter that matches the request's path. Routes do not depend on the host.

        Flask's method parses and validates `Host`; it runs if the setting TRUSTED_HOSTS asks for that.
        """
        if request is None or self.config["TRUSTED_HOSTS"]:
            return super().create_url_adapter(request)
        return MapAdapter(self.url_map, "", request.root_path, "", "http", request.path, request.method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: none is asynchronous. Flask inspects each view and hook in each request."""
        return func


# Returns the object behind Flask's proxy `request`. Attribute access through the proxy took 20 % of the time
# of a request for one post.
current_request: Callable[[], ApiRequest] = cast("LocalProxy[ApiRequest]", request)._get_current_object
