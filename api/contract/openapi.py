"""Generates the OpenAPI 3.1 document from the routes, their decorators and their schemas."""

import inspect
import re
import sys
from http import HTTPStatus
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from api.contract.problem_schemas import ProblemSchema
from api.schemas import BaseSchema
from api.web.operation import Operation, View, operation_of
from api.web.problems import PROBLEM_TYPES, phrase

TITLE = "Microblog"
VERSION = "0.1.0"
DESCRIPTION = """\
Users and posts. Reading is public; writing requires an account.

- Register with `POST /users`, sign in with `POST /tokens`, then send the access token as
  `Authorization: Bearer …`.
- A list is `{"items": […], "next_cursor": …, "prev_cursor": …}`. Cursors are opaque: send one
  as `cursor` to get that page.
- Errors are problem documents (RFC 9457). `code` is for programs, `detail` for people; `errors` names the
  invalid values.
- Ids are integers from 1 to 2^63-1. Timestamps are RFC 3339 in UTC. Lengths of text are in code points after
  NFC normalization.
- The headers `RateLimit-Policy` and `RateLimit` of each response state how many requests remain. When none
  remain, the response is 429 with `Retry-After`. A 304 counts as a request; a CORS preflight does not.
- `X-Request-Id`, 1 to 128 letters, digits, `.`, `_` and `-`, identifies a request in the response and in the
  log of the service, which generates one if it is not sent. `traceparent` (W3C Trace Context) is logged.
- Pages of allowed origins can call the service (CORS). Such pages should use the refresh token cookie that
  `POST /tokens?cookie=true` sets: no script can read it, and browsers send it to `/tokens` only. Apps in
  web views and browser extensions can be allowed too. They use the refresh token in the body: with
  `cookie=true` the response is a 403, because browsers would drop the cookie.
- Unknown members and parameters are errors.
"""
SECURITY_SCHEMES = {
    "basicAuth": {
        "type": "http",
        "scheme": "basic",
        "description": "Your username or email address, and your password.",
    },
    "bearerAuth": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token from `POST /tokens`.",
    },
}
HEADERS = {
    "X-Request-Id": "Identifies the request in the log of the service.",
    "Location": "URL of the new resource.",
    "WWW-Authenticate": "How to authenticate (RFC 9110, section 11.6.1).",
    "Retry-After": "Seconds to wait before a retry.",
    "RateLimit-Policy": "The policies that apply to the request, by name: `q` requests in `w` seconds "
    " (draft-ietf-httpapi-ratelimit-headers-10).",
    "RateLimit": "The remaining quota of each policy: `r` requests; more are available after `t` seconds.",
    "Set-Cookie": "The refresh token, if it is set as a cookie.",
    "ETag": "Changes whenever the representation does (RFC 9110, section 8.8.3). A proxy that compresses may "
    "mark it; the member `etag` stays as it is.",
    "Idempotency-Replayed": "`true` if the request was processed before and this is the stored response.",
}
REQUEST_HEADERS = {
    "If-Match": (
        "Change the resource only if one of these tags is its current one; otherwise 412. The comparison is "
        "strong (RFC 9110, section 8.8.3.2), after the marks of proxies are removed: `W/`, and suffixes such "
        "as `-gzip`. An `ETag` matches as it was received, and so does the member `etag` in quotes. "
        "The tag of a list, or of a response with expanded parts, never matches.",
        '"Zt0Zk0uJ3tQ2nJt0"',
    ),
    "If-None-Match": (
        "Return the representation only if none of these tags is its current one; otherwise 304.",
        'W/"tQ2nJt0Zt0Zk0uJ3"',
    ),
    "Idempotency-Key": (
        "A unique key for the request: 1 to 255 visible ASCII characters, with or without quotes. A request "
        "with the same key within 24 hours is not processed again, and returns the stored response: what was "
        "created, as it was then, even if it was changed since. If it was deleted since, the response is a "
        "410. The key of a registration is deleted with the account.",
        '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    ),
}
ALWAYS = ("X-Request-Id", "RateLimit-Policy", "RateLimit")
IDEMPOTENCY = {"in_progress", "idempotency_key_reused"}
METHODS = ("get", "put", "post", "delete", "patch")


def document(app: Flask, prefix: str) -> dict[str, Any]:
    """Return the OpenAPI document of the routes below a prefix."""
    plugin: Any = MarshmallowPlugin(schema_name_resolver=_component_name)
    spec = APISpec(
        title=TITLE,
        version=VERSION,
        openapi_version="3.1.0",
        info={
            "description": DESCRIPTION,
            "contact": {"name": "The operator of this service"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        servers=[{"url": prefix, "description": "This service."}],
        plugins=[plugin],
    )
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for name, description in HEADERS.items():
        spec.components.header(name, {"description": description, "schema": {"type": "string"}})
    for name, (description, example) in REQUEST_HEADERS.items():
        parameter = {
            "name": name,
            "description": description,
            "schema": {"type": "string"},
            "example": example,
        }
        spec.components.parameter(name.replace("-", ""), "header", {"required": False, **parameter})
    headers = {name: name for name in (*ALWAYS, "ETag")}
    spec.components.response("NotModified", {"description": phrase(304), "headers": headers})
    spec.components.response("Problem", _problem(405, 500, 503))
    described: set[str] = set()
    for rule in sorted(app.url_map.iter_rules(), key=_place):
        if not rule.rule.startswith(prefix):
            continue
        view = app.view_functions[rule.endpoint]
        tag = rule.endpoint.partition(".")[0]
        if tag not in described:
            module = sys.modules[view.__module__]
            spec.tag({"name": tag, "description": inspect.getdoc(module)})
            described.add(tag)
        path = re.sub("<[^>]*?(\\w+)>", r"{\1}", rule.rule.removeprefix(prefix))
        spec.path(path, operations={_method(rule): _operation(spec, rule, view, tag)})
    for schema, name in plugin.converter.refs.items():
        spec.components.schemas[name]["description"] = inspect.getdoc(schema[0])
    return {"openapi": "3.1.0", **spec.to_dict()}


def as_yaml(contract: dict[str, Any]) -> str:
    """Return a document as YAML, the content of the file `openapi.yaml`."""
    return yaml.dump(contract, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Writes multi-line text as blocks, and no aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def example_of(schema: Schema) -> dict[str, Any]:
    """Return an example of a schema, composed of the examples of its fields."""
    return {name: _field_example(field) for name, field in schema.fields.items()}


def _field_example(field: fields.Field[Any]) -> Any:
    match field:
        case fields.Nested():
            return example_of(field.schema)
        case fields.List():
            return [_field_example(field.inner)]
        case _:
            return field.metadata["example"]


def _place(rule: Rule) -> tuple[str, int]:
    return rule.rule, METHODS.index(_method(rule))


def _method(rule: Rule) -> str:
    return next(method for method in METHODS if method.upper() in (rule.methods or ()))


def _operation(spec: APISpec, rule: Rule, view: View, tag: str) -> dict[str, Any]:
    operation = operation_of(view)
    summary, _, description = (inspect.getdoc(view) or "").partition("\n\n")
    parameters: list[Any] = [_path_parameter(rule, name) for name in sorted(rule.arguments)]
    if operation.query:
        parameters += [_query_parameter(spec, *field) for field in operation.query.fields.items()]
    if operation.expand:
        parameters.append(_query_parameter(spec, "expand", operation.expand))
    if _has_304(operation, rule):
        parameters.append("IfNoneMatch")
    if HTTPStatus.PRECONDITION_FAILED in operation.failures:
        parameters.append("IfMatch")
    if operation.is_idempotent:
        parameters.append("IdempotencyKey")
    first, *others = view.__name__.split("_")
    result: dict[str, Any] = {
        "operationId": first + "".join(word.capitalize() for word in others),
        "summary": summary.removesuffix("."),
        "description": " ".join((description or summary).split()),
        "tags": [tag],
        "security": [{operation.security: []}] if operation.security else [],
        "parameters": parameters,
        "responses": _responses(spec, operation, rule),
    }
    if operation.body:
        result["requestBody"] = {
            "required": True,
            "content": _content(operation.body),
        }
    return result


def _has_304(operation: Operation, rule: Rule) -> bool:
    return _method(rule) == "get" and operation.response is not None


def _path_parameter(rule: Rule, name: str) -> dict[str, Any]:
    converter: Any = rule._converters[name]  # Werkzeug has no public attribute for it.
    return {"name": name, "in": "path", "required": True, **converter.describe(name)}


def _query_parameter(spec: APISpec, name: str, field: fields.Field[Any]) -> dict[str, Any]:
    plugin: Any = spec.plugins[0]
    schema = plugin.converter.field2property(field)
    description = schema.pop("description")
    return {
        "name": name,
        "in": "query",
        "required": field.required,
        "description": description,
        "schema": schema,
    }


def _responses(spec: APISpec, operation: Operation, rule: Rule) -> dict[str, Any]:
    status = operation.status
    response: dict[str, Any] = {"description": phrase(status)}
    response["headers"] = {name: name for name in (*ALWAYS, *operation.headers)}
    if status == HTTPStatus.CREATED:
        response["headers"]["Location"] = "Location"
    if operation.response:
        response["content"] = _content(operation.response)
        for name, description in operation.response.HEADERS.items():
            response["headers"][name] = {"description": description, "schema": {"type": "string"}}
        if _has_304(operation, rule) or "etag" in operation.response.fields:
            response["headers"]["ETag"] = "ETag"
    if operation.is_idempotent:
        response["headers"]["Idempotency-Replayed"] = "Idempotency-Replayed"
    responses: dict[str, Any] = {str(status): response}
    if _has_304(operation, rule):
        responses["304"] = "NotModified"
    for failure in sorted(operation.failures | {429} | ({404} if rule.arguments else set())):
        is_idempotent = operation.is_idempotent and failure in {
            PROBLEM_TYPES[code].status for code in IDEMPOTENCY
        }
        name = ("Idempotent" if is_idempotent else "") + phrase(failure).replace(" ", "")
        if name not in spec.components.responses:
            spec.components.response(name, _problem(failure, is_idempotent=is_idempotent))
        responses[str(failure)] = name
    return {**responses, "default": "Problem"}


def _problem(*statuses: int, is_idempotent: bool = False) -> dict[str, Any]:
    """Return the response object for errors. Its examples are the problem types with these statuses.

    Types about the `Idempotency-Key` are included only where an operation accepts the header.
    """
    excluded = set() if is_idempotent else IDEMPOTENCY
    types = [each for each in PROBLEM_TYPES.values() if each.status in statuses and each.code not in excluded]
    examples = {each.code: {"value": each.document("5f0c6d0e2a3b4c1d8e9f7a6b5c4d3e2f")} for each in types}
    if "invalid_input" in examples:
        too_long = {"code": "too_long", "detail": "Longer than maximum length 140."}
        examples["invalid_input"]["value"]["errors"] = [{"pointer": "/body", **too_long}]
    headers = {name: name for name in ALWAYS}
    if {"in_progress", "too_many_requests", "unavailable"} & examples.keys():
        headers["Retry-After"] = "Retry-After"
    if HTTPStatus.GONE in statuses:
        headers["Idempotency-Replayed"] = "Idempotency-Replayed"
    if HTTPStatus.PRECONDITION_FAILED in statuses:
        headers["ETag"] = "ETag"
        examples["precondition_failed"]["value"]["etag"] = "nJt0Zt0Zk0uJ3tQ2"
    if HTTPStatus.UNAUTHORIZED in statuses:
        headers["WWW-Authenticate"] = "WWW-Authenticate"
    return {
        "description": phrase(statuses[0]) if len(statuses) == 1 else "Any other problem",
        "headers": headers,
        "content": {"application/problem+json": {"schema": ProblemSchema(), "examples": examples}},
    }


def _content(schema: BaseSchema) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example_of(schema)}}


def _component_name(schema: Any) -> str:
    return type(schema).__name__.removesuffix("Schema")
