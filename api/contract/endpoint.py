"""The decorators that declare and enforce an endpoint's input, response and errors.

They are written in the order in which a request passes them. `@rate_limited` comes before authentication,
`@idempotent` after it:

    @posts.patch("/posts/<id:post_id>")
    @token_required                 # api.auth: authentication
    @accepts(PostUpdateSchema())    # input
    @returns(PostSchema())          # response
    @fails(403, 412)                # other errors
"""

from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlencode

from flask import Response
from marshmallow import ValidationError, validate

from api.contract.deprecation import deprecation_headers
from api.db.routing import choose_replica
from api.rendering.renderer import Representation, expandable_parts, represent
from api.schemas.base import BaseSchema, QuerySchema
from api.schemas.context import Context
from api.schemas.fields import Text
from api.schemas.messages import invalid
from api.web.conditional import is_fresh, response_etag
from api.web.json_body import json_object
from api.web.operation import Operation, View, operation_of
from api.web.problems import Problem, input_errors
from api.web.wrappers import ApiResponse, current_request

NO_PARAMETERS = QuerySchema()


class Expand(Text):
    """The query parameter that adds parts to a representation.

    The contract has the parts separated by commas. Generated clients such as those of openapi-python-client
    repeat the parameter instead, for each part, which means the same.
    """

    def __init__(self, parts: list[str]) -> None:
        listed = " and ".join(f"`{part}`" for part in parts)
        description = f"Parts to add, of {listed}, separated by commas or as one parameter each."
        super().__init__(
            validate=validate.Length(max=len(",".join(parts))), metadata={"description": description}
        )
        self.parts = parts

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        parts = frozenset(super()._deserialize(value, *args, **kwargs).split(","))
        if not parts <= set(self.parts):
            raise invalid("unknown_part", f"Choose from {', '.join(self.parts)}.")
        return parts


def accepts(schema: BaseSchema, location: Literal["json", "query"] = "json") -> Callable[[View], View]:
    """Validate the body, or the query string, with a schema and pass the loaded values to the view."""

    def decorate(view: View) -> View:
        operation = operation_of(view)
        operation.failures |= {400}
        if location == "json":
            operation.body = schema
            operation.failures |= {413, 415}
        else:
            operation.query = schema

        @wraps(view)
        def wrapper(*args: object, **kwargs: object) -> object:
            loaded = schema.load(json_object()) if location == "json" else _load_query(operation)
            return view(*args, loaded, **kwargs)

        return wrapper

    return decorate


def returns(
    schema: BaseSchema | None = None,
    status: int | None = None,
    headers: tuple[str, ...] = (),
    links: tuple[str, ...] = (),
) -> Callable[[View], View]:
    """Respond with the view's result, serialized by a schema (200); without a schema, with 204.

    A view returns a description (`api.rendering.descriptions`), an object that it created or changed, or a
    tuple of one of these and a dictionary of headers. A 201 response needs the header `Location`. For the
    contract, `headers` names other headers, and `links` the operations that use the response.
    """
    status = status or (200 if schema else 204)

    def decorate(view: View) -> View:
        operation = operation_of(view)
        operation.response = schema
        operation.status = status
        operation.headers = headers
        operation.links = links
        operation.failures |= {422}  # Every operation refuses unknown query parameters.
        parts = expandable_parts(schema) if schema else []
        if parts:
            operation.expand = Expand(parts)

        @wraps(view)
        def wrapper(*args: object, **kwargs: object) -> Response:
            request = current_request()
            if operation.query is None and request.query_string:
                _load_query(operation)  # Loads `expand`, and refuses all other parameters.
            if request.is_safe:
                choose_replica(request.last_write, request.session_id or request.remote_addr)
            result = view(*args, **kwargs)
            value, headers = result if isinstance(result, tuple) else (result, {})
            headers = {**headers, **deprecation_headers(operation)}
            if schema is None:
                return ApiResponse(status=status, headers=headers)
            context = Context(request.expand, request.user_id, request.session_id)
            return _response(represent(value, schema, context), schema, status, headers)

        return wrapper

    return decorate


def fails(*statuses: int) -> Callable[[View], View]:
    """Declare the errors that neither the other decorators nor the URL imply."""

    def decorate(view: View) -> View:
        operation_of(view).failures |= set(statuses)
        return view

    return decorate


def _response(
    representation: Representation, schema: BaseSchema, status: int, headers: dict[str, str]
) -> Response:
    """Return the response: 304 if the caller's copy is fresh (RFC 9110, section 15.4.5)."""
    request = current_request()
    etag = response_etag(representation.json, representation.etag)
    if etag:
        headers["ETag"] = etag
    if request.is_safe:
        headers["Vary"] = "Authorization"
        if not schema.IS_CONFIDENTIAL:
            audience = "public" if request.user_id is None else "private"
            headers["Cache-Control"] = f"{audience}, no-cache"
    if etag and request.is_safe and is_fresh(etag):
        return ApiResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if representation.cursors and (links := _links(representation.cursors)):
        headers["Link"] = links
    return ApiResponse(representation.json, status, headers, content_type="application/json")


def _links(cursors: Mapping[str, str | None]) -> str:
    """Return a `Link` header (RFC 8288) with the neighbouring pages of a list."""
    request = current_request()
    others = urlencode([(name, value) for name, value in request.args.items(multi=True) if name != "cursor"])
    url = f"{request.root_path}{request.path}?"
    if others:
        url += f"{others}&"
    return ", ".join(
        f'<{url}cursor={cursor}>; rel="{name.removesuffix("_cursor")}"'
        for name, cursor in cursors.items()
        if cursor
    )


def _load_query(operation: Operation) -> Any:
    """Return the loaded parameters, and set `request.expand`. Raises the problem `invalid_input`."""
    request = current_request()
    given = request.args.to_dict(flat=False)
    try:
        if operation.expand and "expand" in given:
            request.expand = operation.expand.deserialize(",".join(given.pop("expand")), "expand")
        for name, values in given.items():
            if len(values) > 1:
                raise invalid("repeated", "May be given once only.", name)
        parameters = {name: value for name, [value] in given.items()}
        return (operation.query or NO_PARAMETERS).load(parameters)
    except ValidationError as error:
        messages = error.messages if isinstance(error.messages, dict) else {"expand": error.messages}
        errors = input_errors(messages, "parameter")
        raise Problem("invalid_input", errors=errors) from None
