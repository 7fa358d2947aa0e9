"""Problem documents (RFC 9457): the module creates every error response."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from flask import Flask, Response, current_app
from marshmallow import ValidationError
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from api.db import db
from api.web.wrappers import current_request

TYPE_BASE = "https://microblog.example/docs/problems#"
RETRY_AFTER_SECONDS = 2
# In the WSGI environ: an error that the server found in the request before it called the application.
SERVER_ERROR = "microblog.error"

# Phrases that RFC 9110 changed; Python has them since 3.13.
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}


def phrase(status: int) -> str:
    """Return the name of an HTTP status (RFC 9110, section 15)."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


class ProblemType(NamedTuple):
    """A kind of problem: its stable code, its HTTP status and its default detail."""

    code: str
    status: int
    detail: str

    @property
    def uri(self) -> str:
        """An anchor on the page `/docs/problems`; `about:blank` if there is only a status (section 4.2.1)."""
        return TYPE_BASE + self.code if self.code in PROBLEM_TYPES else "about:blank"

    @property
    def title(self) -> str:
        """The name of the status."""
        return phrase(self.status)

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the members that every problem document of this type has."""
        return {
            "type": self.uri,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }


PROBLEM_TYPES = {
    code: ProblemType(code, status, detail)
    for code, status, detail in (
        ("bad_request", 400, "The request is malformed."),
        ("malformed_json", 400, "The body is not JSON, has duplicate names, or has too many members."),
        ("incomplete_body", 400, "The body is shorter than its Content-Length, or its chunks are malformed."),
        ("invalid_cursor", 400, "The cursor does not belong to this list."),
        ("authentication_required", 401, "Authentication is required; see WWW-Authenticate."),
        ("invalid_credentials", 401, "There is no account with this username and password."),
        ("invalid_token", 401, "The token is invalid, expired or revoked."),
        ("forbidden", 403, "Only the author is allowed to do this."),
        ("wrong_password", 403, "This is not your current password."),
        ("wrong_token", 403, "The token was used, has expired, or a newer one was sent."),
        ("origin_not_allowed", 403, "Pages of this origin are not allowed to use the token cookie."),
        ("not_found", 404, "There is no such resource."),
        ("method_not_allowed", 405, "The resource does not support this method; see Allow."),
        ("request_timeout", 408, "The body took too long to arrive."),
        ("already_taken", 409, "Another user has this already."),
        (
            "conflict",
            409,
            "A concurrent change conflicts with this one. Read the resource again, then retry.",
        ),
        ("in_progress", 409, "A request with this Idempotency-Key is still running. Retry later."),
        ("precondition_failed", 412, "The resource does not match If-Match, or no longer."),
        ("body_too_large", 413, "The body is larger than 64 KiB."),
        ("unsupported_media_type", 415, "Send application/json, in UTF-8, uncompressed."),
        ("invalid_input", 422, "Some of the input is invalid; see errors."),
        ("idempotency_key_reused", 422, "This Idempotency-Key was used for another request."),
        ("too_many_requests", 429, "Too many requests. Retry after Retry-After seconds."),
        ("internal_error", 500, "An internal error occurred. It was logged."),
        ("unavailable", 503, "The service is temporarily unavailable. Retry later."),
    )
}
# Errors that Flask and Werkzeug raise get the first type with their status.
BY_STATUS = {problem_type.status: problem_type for problem_type in reversed(PROBLEM_TYPES.values())}


class InputError(NamedTuple):
    """One invalid value and its location: `place` is `pointer`, `parameter` or `header`."""

    place: str
    name: str
    code: str
    detail: str


class Problem(Exception):  # noqa: N818 -- RFC 9457's own word.
    """Ends a request with a problem document."""

    def __init__(
        self,
        code: str,
        *,
        errors: Iterable[InputError] = (),
        headers: Mapping[str, str] | None = None,
        **members: str,
    ) -> None:
        super().__init__(code)
        self.type = PROBLEM_TYPES[code]
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """Return the response."""
        return _response(self.type, self.errors, self.headers, self.members)


def member_problem(code: str, member: str) -> Problem:
    """Return a problem with one member of the body."""
    return Problem(code, errors=[InputError("pointer", f"/{member}", code, PROBLEM_TYPES[code].detail)])


def header_problem(name: str, code: str, detail: str) -> Problem:
    """Return a problem with one header of the request."""
    return Problem("invalid_input", errors=[InputError("header", name, code, detail)])


def unavailable(detail: str = PROBLEM_TYPES["unavailable"].detail) -> Problem:
    """Return the problem of a service that is temporarily unavailable."""
    return Problem("unavailable", headers={"Retry-After": str(RETRY_AFTER_SECONDS)}, detail=detail)


def input_errors(messages: Mapping[Any, Any], place: str) -> list[InputError]:
    """Return marshmallow's messages as errors; in a body, field names become JSON Pointers (RFC 6901)."""
    errors = []
    for field_name, field_messages in messages.items():
        name = str(field_name)
        if place == "pointer":
            name = "/" + name.replace("~", "~0").replace("/", "~1")
        for message in field_messages:
            # marshmallow reports errors of the whole body under "_schema", which may also be the name of a
            # member.
            where = "" if message.code == "not_an_object" else name
            errors.append(InputError(place, where, message.code, str(message)))
    return errors


def init_app(app: Flask) -> None:
    """Turn every exception into a problem document."""
    app.before_request(_raise_server_error)
    app.register_error_handler(Problem, Problem.response)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(IntegrityError, _integrity_error)
    app.register_error_handler(DataError, lambda _: Problem("invalid_input").response())
    app.register_error_handler(StaleDataError, lambda _: Problem("conflict").response())
    for exception in (OperationalError, InterfaceError, InternalError, PoolTimeoutError):
        app.register_error_handler(exception, _database_error)
    app.register_error_handler(Exception, _unexpected)


def _raise_server_error() -> None:
    if error := current_request().environ.get(SERVER_ERROR):
        raise error


def _validation_error(error: ValidationError) -> Response:
    return Problem("invalid_input", errors=input_errors(error.messages_dict, "pointer")).response()


def _http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    problem_type = BY_STATUS.get(status, ProblemType(f"http_{status}", status, "The request failed."))
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return _response(problem_type, (), headers, {})


def _integrity_error(error: IntegrityError) -> Response:
    """Return 409; after a unique violation, with the member that violates the constraint.

    PostgreSQL reports the constraint, uq_<table>_<column>; SQLite the column, <table>.<column>. For values
    that are unique regardless of case, it is the constraint of the folded column.
    """
    diagnosis = getattr(error.orig, "diag", None)
    violated = diagnosis.constraint_name if diagnosis else str(error.orig)
    taken = re.search(r"(?:\buq_[a-z]+_|UNIQUE.* [a-z]+\.)(?:folded_)?(\w+)$", violated or "")
    if taken is None:
        return Problem("conflict").response()
    return member_problem("already_taken", taken[1]).response()


def _database_error(error: Exception) -> Response:
    """Return 503, or 500 if retrying cannot help: SQLite reports a missing table as an OperationalError."""
    if re.match("no such (table|column)", str(getattr(error, "orig", ""))):
        return _unexpected(error)
    current_app.logger.warning("%s: database unavailable: %r", current_request().id, error)
    return unavailable().response()


def _unexpected(error: Exception) -> Response:
    current_app.logger.error("%s: unhandled exception", current_request().id, exc_info=error)
    return Problem("internal_error").response()


def _response(
    problem_type: ProblemType,
    errors: Iterable[InputError],
    headers: Mapping[str, str],
    members: Mapping[str, str],
) -> Response:
    db.session.rollback()
    document = {**problem_type.document(current_request().id), **members}
    if errors:
        document["errors"] = [
            {error.place: error.name, "code": error.code, "detail": error.detail} for error in errors
        ]
    body = orjson.dumps(document)
    return Response(body, problem_type.status, headers, content_type="application/problem+json")
