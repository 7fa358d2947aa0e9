"""The decorators that say what an endpoint takes and gives.

They do it, and record it for the contract. They stand in the order of a request: who may call
(`api.auth`), what comes in, what goes out, what else can happen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Any, Literal

from flask import Response, abort
from marshmallow import ValidationError

from api.body import json_object
from api.conditional import entity_tag, is_known
from api.database import only_reads
from api.errors import Problem, input_errors
from api.messages import ApiResponse, current_request
from api.prepared import Prepared
from api.rows import Expand, caller_id, parts_of, read_shown
from api.schema import BaseSchema, QuerySchema, refusal

View = Callable[..., Any]

NO_PARAMETERS = QuerySchema()


@dataclass
class Operation:
    """What the decorators said about one endpoint."""

    security: str | None = None
    query: BaseSchema | None = None
    body: BaseSchema | None = None
    answer: BaseSchema | None = None
    expand: Expand | None = None
    is_idempotent: bool = False
    status: int = 204
    headers: tuple[str, ...] = ()
    failures: set[int] = field(default_factory=set)


def operation_of(view: View) -> Operation:
    """Return what has been recorded about a view, to read it or to add to it."""
    operation: Operation = view.__dict__.setdefault("operation", Operation())
    return operation


def accepts(schema: BaseSchema, location: Literal["json", "query"] = "json") -> Callable[[View], View]:
    """Load the body, or the query, with a schema and pass what comes of it to the view."""

    def decorate(view: View) -> View:
        operation = operation_of(view)
        operation.failures |= {400}
        if location == "json":
            operation.body = schema
            operation.failures |= {413, 415}
        else:
            operation.query = schema

        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            loaded = schema.load(json_object()) if location == "json" else _load_query(operation)
            return view(*args, loaded, **kwargs)

        return wrapper

    return decorate


def returns(
    schema: BaseSchema | None = None, status: int | None = None, headers: tuple[str, ...] = ()
) -> Callable[[View], View]:
    """Answer with what the view returns, dumped with a schema (200); without one, with nothing (204).

    A view returns a row, a page of a list, or a statement for one row, which is read just as the schema shows
    it (404 if there is none). It may return a pair: that, and headers. One that answers 201 gives `Location`;
    `headers` names others that it may give.
    """

    status = status or (200 if schema else 204)

    def decorate(view: View) -> View:
        operation = operation_of(view)
        operation.answer = schema
        operation.status = status
        operation.headers = headers
        operation.failures |= {422}  # At the least for parameters that it does not know.
        parts = parts_of(schema) if schema else []
        if parts:
            operation.expand = Expand(parts)

        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Response:
            if operation.query is None and current_request().query_string:
                _load_query(operation)
            result = view(*args, **kwargs)
            body, given = result if isinstance(result, tuple) else (result, {})
            if schema is None:
                return ApiResponse(status=status, headers=given)
            return _answer(schema, body, status, given)

        return wrapper

    return decorate


def _answer(schema: BaseSchema, body: Any, status: int, headers: Mapping[str, str]) -> Response:
    """Return what the schema shows; to a caller who has it already, 304 (RFC 9110, section 15.4.5)."""
    if isinstance(body, Prepared):
        shown, *_ = read_shown(body, schema) or abort(404)
    else:
        shown = schema.read(body)
    etag = entity_tag(shown)
    headers = {**headers, "ETag": etag} if etag else dict(headers)
    is_read = only_reads()
    if is_read:
        headers["Vary"] = "Authorization"
        if not schema.IS_CONFIDENTIAL:
            audience = "public" if caller_id() is None else "private"
            headers["Cache-Control"] = f"{audience}, no-cache"
    if is_read and etag and is_known(etag):
        response = ApiResponse(status=HTTPStatus.NOT_MODIFIED)
    else:
        response = ApiResponse(shown.json, status)
        headers = {"Content-Type": "application/json", **shown.headers, **headers}
    for name, value in headers.items():  # `Headers` takes longer to be given several at once.
        response.headers.add(name, value)
    return response


def fails(*statuses: int) -> Callable[[View], View]:
    """Record the errors that cannot be inferred from the other decorators and the URL."""

    def decorate(view: View) -> View:
        operation_of(view).failures |= set(statuses)
        return view

    return decorate


def _load_query(operation: Operation) -> Any:
    request = current_request()
    parameters = request.args.to_dict()
    try:
        for name, values in request.args.lists():
            if len(values) > 1:
                raise refusal("repeated", "May be given once only.", name)
        if operation.expand and "expand" in parameters:
            parts: Any = operation.expand.deserialize(parameters.pop("expand"), "expand")
            request.expand = parts
        return (operation.query or NO_PARAMETERS).load(parameters)
    except ValidationError as error:
        messages = error.messages if isinstance(error.messages, dict) else {"expand": error.messages}
        errors = input_errors(messages, "parameter")
        raise Problem("invalid_input", errors=errors) from None
