"""The messages of HTTP: requests and answers."""

import re
from functools import cached_property
from http import HTTPStatus
from random import getrandbits
from time import perf_counter
from typing import Any, cast

from flask import Request, Response, request
from werkzeug.datastructures import Authorization, Headers

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class ApiRequest(Request):
    """A request, and what becomes known of it while it is answered."""

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.began = perf_counter()
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

    @cached_property
    def id(self) -> str:
        """The name that the caller, or a proxy, gave it, or else one of its own."""
        theirs = self.headers.get("X-Request-Id", "")
        return theirs if REQUEST_ID.fullmatch(theirs) else f"{getrandbits(128):032x}"

    @cached_property
    def authorization(self) -> Authorization | None:
        """The `Authorization` header; None if it cannot be read (Werkzeug raises if it is not ASCII)."""
        try:
            return Authorization.from_header(self.headers.get("Authorization"))
        except ValueError:
            return None


class ApiResponse(Response):
    """An answer has a content type only if it is said which."""

    default_mimetype = None

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers: as they are, where Werkzeug would return a copy and find nothing to mend."""
        is_complete = self.response and self.status_code in {HTTPStatus.OK, HTTPStatus.CREATED}
        return self.headers if is_complete else super().get_wsgi_headers(environ)


def current_request() -> ApiRequest:
    """Return what Flask's `request` stands for.

    For what is done at each request: all that is asked of the proxy goes through three functions of Python.
    """
    return cast("ApiRequest", request._get_current_object())  # type: ignore[attr-defined]
