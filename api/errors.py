"""Every error leaves here, as one problem document (RFC 9457)."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from flask import Flask, Response, current_app
from marshmallow import EXCLUDE, ValidationError, fields
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from api.database import db
from api.messages import current_request
from api.passwords import HashingBusyError
from api.schema import BaseSchema

TYPE_BASE = "https://microblog.example/docs/problems#"
RETRY_AFTER_SECONDS = 2

# Names that RFC 9110 changed; Python has them from 3.13 on.
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}


def phrase(status: int) -> str:
    """Return the name of an HTTP status (RFC 9110, section 15)."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


class Kind(NamedTuple):
    """What all problems with one code have in common."""

    code: str
    status: int
    detail: str

    @property
    def type(self) -> str:
        """The problem type's URI: an anchor on the page `/docs/problems`, if the problem has more to it than
        its status (RFC 9457, section 4.2.1).
        """
        return TYPE_BASE + self.code if self.code in KINDS else "about:blank"

    @property
    def title(self) -> str:
        """The status in words."""
        return phrase(self.status)

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the members that every problem document of this kind has."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }


KINDS = {
    kind.code: kind
    for kind in (
        Kind("bad_request", 400, "The request could not be understood."),
        Kind("malformed_json", 400, "The body is not JSON, repeats a name, or has too many members."),
        Kind("incomplete_body", 400, "The body is shorter than its Content-Length."),
        Kind("invalid_cursor", 400, "This cursor did not come from this list."),
        Kind("authentication_required", 401, "Say who you are; WWW-Authenticate tells how."),
        Kind("invalid_credentials", 401, "No account has this name and password."),
        Kind("invalid_token", 401, "The token is not valid, has expired or was revoked."),
        Kind("forbidden", 403, "Only the author may do this."),
        Kind("wrong_password", 403, "This is not your current password."),
        Kind("wrong_token", 403, "This token was used, has expired, or is not the last that was mailed."),
        Kind("origin_not_allowed", 403, "Pages of this origin may not use the token cookie."),
        Kind("not_found", 404, "There is nothing at this address."),
        Kind("method_not_allowed", 405, "This address does not support this method; see Allow."),
        Kind("already_taken", 409, "Somebody else has this already."),
        Kind("conflict", 409, "This changed at the same time. Read it again, then retry."),
        Kind("in_progress", 409, "A request with this Idempotency-Key is being answered. Retry later."),
        Kind("precondition_failed", 412, "This is not, or no longer, what If-Match asks for."),
        Kind("body_too_large", 413, "The body is larger than 64 KiB."),
        Kind("unsupported_media_type", 415, "Send application/json, in UTF-8, uncompressed."),
        Kind("invalid_input", 422, "Some of the input is not valid; see errors."),
        Kind("idempotency_key_reused", 422, "This Idempotency-Key was used for another request."),
        Kind("too_many_requests", 429, "There were too many requests. Come back after Retry-After seconds."),
        Kind("internal_error", 500, "Something went wrong here. It has been logged."),
        Kind("unavailable", 503, "The service is overloaded or out of order. Retry later."),
    )
}
BY_STATUS = {kind.status: kind for kind in reversed(KINDS.values())}


class InputError(NamedTuple):
    """What is wrong with one value: where it stands, a stable code, and a sentence.

    `place` is `pointer` (RFC 6901, into the body), `parameter` (of the query) or `header`.
    """

    place: str
    name: str
    code: str
    detail: str


class InputErrorSchema(BaseSchema):
    """What is wrong with one value. Exactly one of `pointer`, `parameter` and `header` says where."""

    pointer = fields.String(metadata={"description": "JSON Pointer into the body (RFC 6901)."})
    parameter = fields.String(metadata={"description": "Name of a query parameter."})
    header = fields.String(metadata={"description": "Name of a request header."})
    code = fields.String(
        required=True, metadata={"description": "Stable name of the error.", "example": "too_long"}
    )
    detail = fields.String(
        required=True,
        metadata={"description": "For people.", "example": "Longer than maximum length 140."},
    )

    class Meta:
        unknown = EXCLUDE


class ProblemSchema(BaseSchema):
    """What went wrong (RFC 9457)."""

    type = fields.String(
        required=True,
        metadata={"format": "uri", "description": "Identifies the kind of problem."},
    )
    title = fields.String(required=True, metadata={"description": "The status in words."})
    status = fields.Integer(
        required=True, metadata={"format": "int32", "description": "The HTTP status code."}
    )
    detail = fields.String(required=True, metadata={"description": "What happened, for people."})
    code = fields.String(required=True, metadata={"description": "Stable name of the problem, for programs."})
    request_id = fields.String(
        required=True, metadata={"description": "Names this request in the service's log."}
    )
    errors = fields.List(
        fields.Nested(InputErrorSchema()),
        metadata={"description": "What is wrong with which value, if values are wrong."},
    )
    etag = fields.String(metadata={"description": "The current one, if `If-Match` has another."})

    class Meta:
        unknown = EXCLUDE


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
        self.kind = KINDS[code]
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """Return the answer."""
        return _response(self.kind, self.errors, self.headers, self.members)


def member_problem(code: str, member: str) -> Problem:
    """Return a problem that is about one member of the body."""
    kind = KINDS[code]
    return Problem(code, errors=[InputError("pointer", f"/{member}", code, kind.detail)])


def header_problem(name: str, code: str, detail: str) -> Problem:
    """Return a problem that is about one header of the request."""
    return Problem("invalid_input", errors=[InputError("header", name, code, detail)])


def unavailable() -> Problem:
    """Return the answer of a service that is out of order for now."""
    return Problem("unavailable", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def input_errors(messages: Mapping[Any, Any], place: str) -> list[InputError]:
    """List marshmallow's messages, field by field; the name of a field becomes a JSON Pointer in a body."""
    errors = []
    for field_name, faults in messages.items():
        name = str(field_name)
        if place == "pointer":
            name = "/" + name.replace("~", "~0").replace("/", "~1")
        for fault in faults:
            # What is wrong with the body as a whole is filed under "_schema", as a member might be too.
            where = "" if fault.code == "not_an_object" else name
            errors.append(InputError(place, where, fault.code, str(fault)))
    return errors


def init_app(app: Flask) -> None:
    """Turn every exception into a problem document."""
    app.register_error_handler(Problem, Problem.response)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(IntegrityError, _integrity_error)
    app.register_error_handler(DataError, lambda _: Problem("invalid_input").response())
    app.register_error_handler(StaleDataError, lambda _: Problem("conflict").response())
    for exception in (OperationalError, InterfaceError, InternalError, PoolTimeoutError, HashingBusyError):
        app.register_error_handler(exception, _unavailable)
    app.register_error_handler(Exception, _unexpected)


def _validation_error(error: ValidationError) -> Response:
    errors = input_errors(error.messages_dict, "pointer")
    return Problem("invalid_input", errors=errors).response()


def _http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    kind = BY_STATUS.get(status, Kind(f"http_{status}", status, "The request failed."))
    kept = ("Allow", "Retry-After")
    headers = {name: value for name, value in error.get_headers() if name in kept}
    return _response(kind, (), headers, {})


def _integrity_error(error: IntegrityError) -> Response:
    """Answer 409; where a value must be unique, name the member that has it.

    PostgreSQL tells the constraint, uq_<table>_<column>; SQLite the column, <table>.<column>. What is
    unique whatever its case has a folded column beside it.
    """
    diagnosis = getattr(error.orig, "diag", None)
    broken = diagnosis.constraint_name if diagnosis else str(error.orig)
    taken = re.search(r"(?:\buq_[a-z]+_|UNIQUE.* [a-z]+\.)(?:folded_)?(\w+)$", broken or "")
    if taken is None:
        return Problem("conflict").response()
    return member_problem("already_taken", taken[1]).response()


def _unavailable(error: Exception) -> Response:
    current_app.logger.warning("%s: out of order: %r", current_request().id, error)
    return unavailable().response()


def _unexpected(error: Exception) -> Response:
    current_app.logger.error("%s: failed", current_request().id, exc_info=error)
    return Problem("internal_error").response()


def _response(
    kind: Kind, errors: Iterable[InputError], headers: Mapping[str, str], members: Mapping[str, str]
) -> Response:
    db.session.rollback()
    document = {**kind.document(current_request().id), **members}
    if errors:
        document["errors"] = [
            {error.place: error.name, "code": error.code, "detail": error.detail} for error in errors
        ]
    return Response(orjson.dumps(document), kind.status, headers, content_type="application/problem+json")
