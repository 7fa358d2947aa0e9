"""Generates the OpenAPI 3.1 document from the routes, their decorators and their schemas."""

import inspect
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import RAISE, Schema, fields
from werkzeug.routing import Rule

from api.config import API_PREFIX
from api.contract.code_samples import code_samples
from api.contract.deprecation import has_deprecations
from api.contract.idempotency import KEY
from api.contract.problem_schemas import ProblemSchema
from api.rendering.pagination import PageQuery
from api.web.conditional import CONDITION
from api.web.operation import Operation, View, operation_of
from api.web.problem_types import PROBLEM_TYPES, ProblemType, phrase

Json: TypeAlias = dict[str, Any]

TITLE = "Microblog"
VERSION = "0.1.0"
# Where `make run` serves the API: the address in samples and of the docs, unless the service knows its own.
LOCAL_URL = "http://127.0.0.1:8000"
SUMMARY = "Users, and the posts that they publish, reply to, like and follow."
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
- Responses may grow: clients must ignore members and values that they do not know. Before an
  operation, parameter or member is removed, it is marked `deprecated`, and responses have the headers
  `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).
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
    "(draft-ietf-httpapi-ratelimit-headers-10).",
    "RateLimit": "The remaining quota of each policy: `r` requests; more are available after `t` seconds.",
    "Set-Cookie": "The refresh token, if it is set as a cookie.",
    "ETag": "Changes whenever the representation does (RFC 9110, section 8.8.3). A proxy that compresses may "
    "mark it; the member `etag` stays as it is.",
    "Idempotency-Replayed": "`true` if the request was processed before and this is the stored response.",
}
DEPRECATION_HEADERS = {
    "Deprecation": "When a part of the API that the request uses became deprecated (RFC 9745).",
    "Sunset": "When that part may be gone (RFC 8594).",
}
# Without examples, which pages would fill in: a made-up value makes the request fail.
REQUEST_HEADERS = {
    "If-Match": "Change the resource only if one of these entity tags, such as "
    '`"66dd19934b89ded40e3a1c1b"`, is its current one; otherwise 412. The comparison is strong (RFC 9110, '
    "section 8.8.3.2), after the marks of proxies are removed: `W/`, and suffixes such as `-gzip`. An `ETag` "
    "matches as it was received, and so does the member `etag` in quotes. The tag of a list, or of a "
    "response with expanded parts, never matches.",
    "If-None-Match": "Return the representation only if none of these entity tags, such as "
    '`W/"66dd19934b89ded40e3a1c1b"`, is its current one; otherwise 304.',
    "Idempotency-Key": "A unique key for the request: 1 to 255 visible ASCII characters, with or without "
    "quotes, such as a UUID. A request with the same key within 24 hours is not processed again, and returns "
    "the stored response: the resource as it was created, even if it was changed later. If it was deleted "
    "since, the response is a 410. The key of a registration is deleted with the account.",
}
# The parameters that all lists share.
PAGE_PARAMETERS = PageQuery().fields
# Speakeasy's generators turn this into iterators over all pages.
PAGINATION = {
    "type": "cursor",
    "inputs": [{"name": "cursor", "in": "parameters", "type": "cursor"}],
    "outputs": {"nextCursor": "$.next_cursor", "results": "$.items"},
}
HEADER_PATTERNS = {"If-Match": CONDITION, "If-None-Match": CONDITION, "Idempotency-Key": KEY}
ALWAYS = ("X-Request-Id", "RateLimit-Policy", "RateLimit")
IDEMPOTENCY = {"in_progress", "idempotency_key_reused"}
METHODS = ("get", "put", "post", "delete", "patch")


def document(app: Flask, base: str = "") -> Json:
    """Return the OpenAPI document of the routes below `API_PREFIX`, of a service whose URL is `base`."""
    address = base or LOCAL_URL
    plugin: Any = MarshmallowPlugin(schema_name_resolver=_component_name)
    spec = APISpec(
        title=TITLE,
        version=VERSION,
        openapi_version="3.1.0",
        info={
            "summary": SUMMARY,
            "description": DESCRIPTION,
            "contact": {"name": "The operator of this service"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        externalDocs={
            "description": "Guides, and all operations to try.",
            "url": f"{address}/docs",
        },
        servers=[{"url": base + API_PREFIX, "description": "This service."}],
        plugins=[plugin],
    )
    plugin.converter.add_attribute_function(_deprecated)
    views = [(rule, app.view_functions[rule.endpoint]) for rule in _rules(app)]
    has_deprecated = any(has_deprecations(operation_of(view)) for _, view in views)
    _add_components(spec, {**HEADERS, **(DEPRECATION_HEADERS if has_deprecated else {})})
    tags = {_tag(rule) for rule, _ in views}
    for name, blueprint in app.blueprints.items():
        if name in tags:
            description = inspect.getdoc(sys.modules[blueprint.import_name])
            title = name.replace("_", " ").capitalize()
            spec.tag({"name": name, "x-displayName": title, "description": description})
    operations = {operation_id(view): rule for rule, view in views}
    for rule, view in views:
        path, described = _path(rule), _operation(spec, rule, view, operations)
        samples = _code_samples(operation_of(view), rule, path, address + API_PREFIX)
        spec.path(path, operations={_method(rule): {**described, "x-codeSamples": samples}})
    for schema, name in plugin.converter.refs.items():
        component = spec.components.schemas[name]
        component["description"] = inspect.getdoc(schema[0])
        component.setdefault("additionalProperties", True)
    return {"openapi": "3.1.0", **spec.to_dict()}


def _add_components(spec: APISpec, headers: Mapping[str, str]) -> None:
    """Add the parts that operations refer to."""
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for name, description in headers.items():
        spec.components.header(name, {"description": description, "schema": {"type": "string"}})
    for name, description in REQUEST_HEADERS.items():
        schema = {"type": "string", "pattern": HEADER_PATTERNS[name]}
        parameter = {"name": name, "required": False, "description": description, "schema": schema}
        spec.components.parameter(name.replace("-", ""), "header", parameter)
    for name, field in PAGE_PARAMETERS.items():
        spec.components.parameter(name.capitalize(), "query", _query_parameter(spec, name, field))
    of_304 = {name: name for name in (*ALWAYS, "ETag")}
    spec.components.response("NotModified", {"description": phrase(304), "headers": of_304})
    spec.components.response("Problem", _problem(405, 500, 503))


def _rules(app: Flask) -> list[Rule]:
    """Return the rules of the operations, sorted by path and method."""
    rules = (rule for rule in app.url_map.iter_rules() if rule.rule.startswith(API_PREFIX))
    return sorted(rules, key=lambda rule: (rule.rule, METHODS.index(_method(rule))))


def as_yaml(contract: Json) -> str:
    """Return a document as YAML, the content of the file `openapi.yaml`."""
    return yaml.dump(contract, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.CSafeDumper):
    """Writes multi-line text as blocks, and no aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def example_of(schema: Schema) -> Json:
    """Return an example of a schema, composed of the examples of its fields.

    An example of input has the required members only, unless all are optional: pages fill it in, and the
    value of an optional member, such as the id of another post, may make the request fail.
    """
    members = schema.fields
    if schema.unknown == RAISE:
        members = {name: field for name, field in members.items() if field.required} or members
    return {name: _field_example(field) for name, field in members.items()}


def _field_example(field: fields.Field[Any]) -> Any:
    match field:
        case fields.Nested():
            return example_of(field.schema)
        case fields.List():
            return [_field_example(field.inner)]
        case _:
            return field.metadata["example"]


def operation_id(view: View) -> str:
    """Return the `operationId` of a view function: `listPosts` for `list_posts`."""
    first, *others = view.__name__.split("_")
    return first + "".join(word.capitalize() for word in others)


def _method(rule: Rule) -> str:
    return next(method for method in METHODS if method.upper() in (rule.methods or ()))


def _path(rule: Rule) -> str:
    return re.sub("<[^>]*?(\\w+)>", r"{\1}", rule.rule.removeprefix(API_PREFIX))


def _tag(rule: Rule) -> str:
    return str(rule.endpoint.partition(".")[0])


def _operation(spec: APISpec, rule: Rule, view: View, operations: Mapping[str, Rule]) -> Json:
    operation = operation_of(view)
    summary, _, description = (inspect.getdoc(view) or "").partition("\n\n")
    name = operation_id(view)
    links = _links(name, operation, rule, operations)
    result: Json = {
        "operationId": name,
        "summary": summary.removesuffix("."),
        "description": " ".join((description or summary).split()),
        "tags": [_tag(rule)],
        "security": _security(operation),
        "parameters": _parameters(spec, operation, rule),
        "responses": _responses(spec, operation, rule, links),
    }
    if operation.deprecated:
        result["deprecated"] = True
    if operation.body:
        types = ["application/json", *(["application/merge-patch+json"] if _method(rule) == "patch" else [])]
        result["requestBody"] = {"required": True, "content": _content(operation.body, *types)}
    if _is_list(operation):
        result["x-speakeasy-pagination"] = PAGINATION
    return result


def _code_samples(operation: Operation, rule: Rule, path: str, base: str) -> list[dict[str, str]]:
    """Return the samples of an operation, with the examples of its parameters."""
    for parameter in (_path_parameter(rule, name) for name in rule.arguments):
        path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    body = example_of(operation.body) if operation.body else None
    security = None if operation.security_is_optional else operation.security
    return code_samples(_method(rule).upper(), base + path, security, body)


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    required: dict[str, list[str]] = {operation.security: []} if operation.security else {}
    return [{}, required] if operation.security_is_optional else [required] if required else []


def _parameters(spec: APISpec, operation: Operation, rule: Rule) -> list[str | Json]:
    """Return the parameters: those of the path first, headers last."""
    parameters: list[str | Json] = [_path_parameter(rule, name) for name in sorted(rule.arguments)]
    for name, field in operation.query.fields.items() if operation.query else ():
        is_shared = name in PAGE_PARAMETERS
        parameters.append(name.capitalize() if is_shared else _query_parameter(spec, name, field))
    if operation.expand:
        parameters.append(_expand_parameter(spec, operation.expand))
    if _has_304(operation, rule):
        parameters.append("IfNoneMatch")
    if HTTPStatus.PRECONDITION_FAILED in operation.failures:
        parameters.append("IfMatch")
    if operation.is_idempotent:
        parameters.append("IdempotencyKey")
    return parameters


def _is_list(operation: Operation) -> bool:
    return isinstance(operation.query, PageQuery)


def _has_304(operation: Operation, rule: Rule) -> bool:
    return _method(rule) == "get" and operation.response is not None


def _path_parameter(rule: Rule, name: str) -> Json:
    converter: Any = rule._converters[name]  # Werkzeug has no public attribute for it.
    return {"name": name, "in": "path", "required": True, **converter.describe(name)}


def _query_parameter(spec: APISpec, name: str, field: fields.Field[Any]) -> Json:
    plugin: Any = spec.plugins[0]
    schema = plugin.converter.field2property(field)
    parameter = {
        "name": name,
        "in": "query",
        "required": field.required,
        "description": schema.pop("description"),
        "schema": schema,
    }
    schema.pop("example", None)  # Pages would fill it in.
    if schema.pop("deprecated", False):
        parameter["deprecated"] = True
    return parameter


def _expand_parameter(spec: APISpec, field: Any) -> str:
    """Return the name of the component for the parameter `expand` with certain parts."""
    name = "Expand" + "And".join(part.capitalize() for part in field.parts)
    if name not in spec.components.parameters:
        spec.components.schema(
            f"{name}Part", {"type": "string", "enum": field.parts, "description": "A part to add."}
        )
        items = {"$ref": f"#/components/schemas/{name}Part"}
        parameter = {
            "name": "expand",
            "required": False,
            "description": field.metadata["description"],
            "style": "form",
            "explode": False,
            "schema": {"type": "array", "items": items, "minItems": 1, "maxItems": len(field.parts)},
        }
        spec.components.parameter(name, "query", parameter)
    return name


def _deprecated(_converter: object, field: fields.Field[Any], **_context: object) -> dict[str, bool]:
    """Return the flag of the contract for a field whose metadata has a `Deprecation`."""
    return {"deprecated": True} if "deprecated" in field.metadata else {}


def _responses(spec: APISpec, operation: Operation, rule: Rule, links: Json) -> Json:
    responses: Json = {str(operation.status): _success(operation, rule, links)}
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


def _success(operation: Operation, rule: Rule, links: Json) -> Json:
    names = [*ALWAYS, *operation.headers]
    names += ["Location"] if operation.status == HTTPStatus.CREATED else []
    names += ["Idempotency-Replayed"] if operation.is_idempotent else []
    names += ["Deprecation", "Sunset"] if has_deprecations(operation) else []
    response: Json = {"description": phrase(operation.status)}
    if schema := operation.response:
        response["content"] = _content(schema, "application/json")
        names += ["ETag"] if _has_304(operation, rule) or "etag" in schema.fields else []
    own = {
        name: {"description": description, "schema": {"type": "string"}}
        for name, description in (schema.HEADERS.items() if schema else ())
    }
    response["headers"] = {**{name: name for name in names}, **own}
    if links:
        response["links"] = links
    return response


def _links(name: str, operation: Operation, rule: Rule, operations: Mapping[str, Rule]) -> Json:
    """Return the operations that follow this one, and where their parameters are in the response.

    The id in a path is the member `id`; other parameters in a path are members of the same name.
    """
    links: Json = {}
    if _is_list(operation):
        cursor = {"cursor": "$response.body#/next_cursor"}
        kept = {name: f"$request.path.{name}" for name in sorted(rule.arguments)}
        links["nextPage"] = {"operationId": name, "parameters": {**kept, **cursor}}
    for following in operation.links:
        parameters = {
            argument: f"$response.body#/{'id' if argument.endswith('_id') else argument}"
            for argument in sorted(operations[following].arguments)
        }
        links[following] = {"operationId": following, **({"parameters": parameters} if parameters else {})}
    return links


def problem_example(problem_type: ProblemType, base: str = "") -> Json:
    """Return an example of a problem document."""
    example = problem_type.document("5f0c6d0e2a3b4c1d8e9f7a6b5c4d3e2f", base)
    if problem_type.code == "invalid_input":
        too_long = {"code": "too_long", "detail": "Longer than maximum length 140."}
        example["errors"] = [{"pointer": "/body", **too_long}]
    if problem_type.code == "precondition_failed":
        example["etag"] = "66dd19934b89ded40e3a1c1b"
    return example


def _problem(*statuses: int, is_idempotent: bool = False) -> Json:
    """Return the response object for errors. Its examples are the problem types with these statuses.

    Types about the `Idempotency-Key` are included only where an operation accepts the header.
    """
    excluded = set() if is_idempotent else IDEMPOTENCY
    types = [each for each in PROBLEM_TYPES.values() if each.status in statuses and each.code not in excluded]
    examples = {each.code: {"value": problem_example(each)} for each in types}
    headers = {name: name for name in ALWAYS}
    if {"in_progress", "too_many_requests", "unavailable"} & examples.keys():
        headers["Retry-After"] = "Retry-After"
    if HTTPStatus.GONE in statuses:
        headers["Idempotency-Replayed"] = "Idempotency-Replayed"
    if HTTPStatus.PRECONDITION_FAILED in statuses:
        headers["ETag"] = "ETag"
    if HTTPStatus.UNAUTHORIZED in statuses:
        headers["WWW-Authenticate"] = "WWW-Authenticate"
    return {
        "description": phrase(statuses[0]) if len(statuses) == 1 else "Any other problem",
        "headers": headers,
        "content": {"application/problem+json": {"schema": ProblemSchema(), "examples": examples}},
    }


def _content(schema: Schema, *media_types: str) -> Json:
    # Pages of RapiDoc ignore a single `example`, and make up another.
    examples = {"example": {"value": example_of(schema)}}
    return {each: {"schema": schema, "examples": examples} for each in media_types}


def _component_name(schema: Any) -> str:
    return type(schema).__name__.removesuffix("Schema")
