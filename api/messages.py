"""The messages of HTTP: requests and answers."""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from random import getrandbits
from time import perf_counter
from typing import Any

from flask import Request, Response, request
from werkzeug.datastructures import Authorization, Headers

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
DEFAULT_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
WITH_BODY = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})


class ApiRequest(Request):
    """A request, and what becomes known of it while it is answered."""

    # The `Authorization` header; None if it cannot be read (Werkzeug raises if it is not ASCII).
    authorization: Authorization | None = None

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.began = perf_counter()
        # The name that the caller, or a proxy, gave it, or else one of its own.
        name = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = name if REQUEST_ID.fullmatch(name) else f"{getrandbits(128):032x}"
        self.authorization = _authorization(environ.get("HTTP_AUTHORIZATION"))
        # What was taken for it of quotas (`api.rate_limits`), and whose failures to sign in are forgotten.
        self.quotas: list[Any] = []
        self.recovered: Any = None
        # What it sent with a method that may have a body (`api.body`).
        self.body = b""
        # What its access token says, once that was looked at (nothing, if it was not signed here); and who
        # calls, once that is sure (`api.auth`).
        self.claims: list[int] | None = None
        self.user_id: int | None = None
        self.session_id: int | None = None
        # The parts of representations that it asks for (`api.endpoint`).
        self.expand: frozenset[str] = frozenset()


def _authorization(field: str | None) -> Authorization | None:
    try:
        return Authorization.from_header(field)
    except ValueError:
        return None


class ApiResponse(Response):
    """An answer: it has a content type only if it is said which, and headers that all have."""

    default_mimetype = None

    def get_wsgi_response(
        self, environ: dict[str, Any]
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Return the body, the status, and the headers with those that all answers have."""
        body, status, headers = super().get_wsgi_response(environ)
        given = dict(headers)
        headers += [(name, value) for name, value in DEFAULT_HEADERS if name not in given]
        headers.append(("X-Request-Id", current_request().id))
        return body, status, headers

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers: as they are, where Werkzeug would return a copy and find nothing to mend.

        Of what has a body, or none, as it should be, nothing is missing or to be left out.
        """
        is_complete = self.status_code in (WITH_BODY if self.response else BODILESS)
        return self.headers if is_complete else super().get_wsgi_headers(environ)

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        """Return the body: in a list, which granian sends in one go, if nothing is left to do after it."""
        if self._on_close or not isinstance(self.response, list):
            return super().get_app_iter(environ)
        is_bodiless = environ["REQUEST_METHOD"] == "HEAD" or self.status_code in BODILESS
        return [] if is_bodiless else list(self.iter_encoded())


# Returns what Flask's `request` stands for: all that is asked of the proxy goes through three functions of
# Python, which counts where it is done at each request.
current_request: Callable[[], ApiRequest] = request._get_current_object  # type: ignore[attr-defined]
