"""Problem documents (RFC 9457). Every error response is created here."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from flask import Flask, Response, current_app
from marshmallow import ValidationError
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from api.db import db
from api.db.transactions import is_programming_error
from api.metrics import begin_at_zero, count
from api.web.problem_types import PROBLEM_TYPES, ProblemType
from api.web.wrappers import current_request

RETRY_AFTER_SECONDS = 2
# In the WSGI environ: an error that the server found in the request before it called the application.
SERVER_ERROR = "microblog.error"

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


def public_url() -> str:
    """Return the URL of the service as callers see it; without `PUBLIC_URL`, only the path of a proxy."""
    return current_app.config["PUBLIC_URL"] or current_request().root_path


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
    begin_at_zero(app, "problems", PROBLEM_TYPES)
    app.before_request(_raise_server_error)
    app.register_error_handler(Problem, Problem.response)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(IntegrityError, _integrity_error)
    app.register_error_handler(DataError, lambda _: Problem("invalid_input").response())
    app.register_error_handler(StaleDataError, lambda _: Problem("conflict").response())
    for exception in (DatabaseError, InterfaceError, PoolTimeoutError):
        app.register_error_handler(exception, _database_error)
    app.register_error_handler(Exception, _unexpected)


def _raise_server_error() -> None:
    if error := current_request().environ.get(SERVER_ERROR):
        raise error


def _validation_error(error: ValidationError) -> Response:
    return Problem("invalid_input", errors=input_errors(error.messages_dict, "pointer")).response()


def _http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    problem_type = BY_STATUS.get(status, ProblemType(f"http_{status}", status, "The request failed.", ""))
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return _response(problem_type, (), headers, {})


def _integrity_error(error: IntegrityError) -> Response:
    """Return 409; after a unique violation, with the member that violates the constraint."""
    member = taken_member(error)
    return (member_problem("already_taken", member) if member else Problem("conflict")).response()


def taken_member(error: IntegrityError) -> str | None:
    """Return the member that violates a unique constraint; None if another constraint is violated.

    PostgreSQL reports the constraint, uq_<table>_<column>; SQLite the column, <table>.<column>. For values
    that are unique regardless of case, it is the constraint of the folded column.
    """
    diagnosis = getattr(error.orig, "diag", None)
    violated = diagnosis.constraint_name if diagnosis else str(error.orig)
    taken = re.search(r"(?:\buq_[a-z]+_|UNIQUE.* [a-z]+\.)(?:folded_)?(\w+)$", violated or "")
    return taken[1] if taken else None


def _database_error(error: Exception) -> Response:
    """Return 503, or 500 if a retry would fail too."""
    if is_programming_error(error):
        return _unexpected(error)
    current_app.logger.warning("Database unavailable: %r", error)
    return unavailable().response()


def _unexpected(error: Exception) -> Response:
    current_app.logger.error("Unhandled exception", exc_info=error)
    return Problem("internal_error").response()


def _response(
    problem_type: ProblemType,
    errors: Iterable[InputError],
    headers: Mapping[str, str],
    members: Mapping[str, str],
) -> Response:
    db.session.rollback()
    count("problems", problem_type.code)
    request = current_request()
    document = {**problem_type.document(request.id, public_url()), **members}
    if errors:
        document["errors"] = [
            {error.place: error.name, "code": error.code, "detail": error.detail} for error in errors
        ]
    body = orjson.dumps(document)
    return Response(body, problem_type.status, headers, content_type="application/problem+json")
