"""Checks responses against `openapi.yaml`."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator, Registry
from werkzeug.test import TestResponse

CONTRACT_FILE = Path(__file__).parents[2] / "openapi.yaml"
CONTRACT: dict[str, Any] = yaml.load(CONTRACT_FILE.read_text("utf-8"), yaml.CSafeLoader)
PREFIX: str = CONTRACT["servers"][0]["url"]
URI = "urn:contract"

# Headers that every response may have; operations document all others.
COMMON_HEADERS = {
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Cache-Control",
    "Content-Length",
    "Content-Security-Policy",
    "Content-Type",
    "Referrer-Policy",
    "Vary",
    "X-Content-Type-Options",
}
# Statuses that every response may have.
COMMON_STATUSES = {400, 405, 413, 500, 503}


def _closed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the contract with its schemas closed: responses have no other members, and no other codes."""
    closed = copy.deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        schema["additionalProperties"] = False
        for member in schema.get("properties", {}).values():
            if values := member.get("x-extensible-enum"):
                member["enum"] = values
    return closed


# The pattern of each path, and its operations.
PATHS: list[tuple[re.Pattern[str], dict[str, Any]]] = [
    (re.compile(PREFIX + re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))), CONTRACT["paths"][template])
    for template in sorted(CONTRACT["paths"], key=lambda template: template.count("{"))
]
REGISTRY = Registry([(URI, _closed(CONTRACT))])


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference into the components, if there is one."""
    reference = node.get("$ref")
    if reference is None:
        return node
    _, _, kind, name = reference.split("/")
    found: dict[str, Any] = CONTRACT["components"][kind][name]
    return found


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation of the contract: method, path template, operation with resolved parameters."""
    for path, item in CONTRACT["paths"].items():
        for method, operation in item.items():
            parameters = [resolve(parameter) for parameter in operation["parameters"]]
            yield method.upper(), path, {**operation, "parameters": parameters}


def example_path(path: str, operation: dict[str, Any]) -> str:
    """Fill in a path template with the examples of its parameters."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    return path


def schema_errors(schema: dict[str, Any], value: Any) -> list[str]:
    """Return the errors of a value by a schema of the contract."""
    reference = schema.get("$ref")
    rooted = {"$ref": f"{URI}{reference}"} if reference else schema
    errors = _validator(orjson.dumps(rooted)).iter_errors(value)
    return [f"{error.instance_path}: {error.message}" for error in errors]


@cache
def _validator(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(orjson.loads(schema), registry=REGISTRY, validate_formats=True)


def check(method: str, path: str, response: TestResponse) -> None:
    """Assert that a response conforms to the contract."""
    status = response.status_code
    operation = _operation(method, path)
    if operation is None:
        assert status in {400, 404, 405, 413, 429}, f"{method} {path} is not in the contract"
        documented = CONTRACT["components"]["responses"]["Problem"]
    elif str(status) in operation["responses"]:
        documented = resolve(operation["responses"][str(status)])
    else:
        assert status in COMMON_STATUSES, f"{method} {path} has no response {status}"
        documented = resolve(operation["responses"]["default"])
    _check_headers(documented, response)
    _check_body(method, documented, response)


def _operation(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation of a request; literal paths take precedence over templates."""
    wanted = {"HEAD": "GET"}.get(method, method).lower()
    return next((item.get(wanted) for pattern, item in PATHS if pattern.fullmatch(path)), None)


def _check_headers(documented: dict[str, Any], response: TestResponse) -> None:
    required = set(documented["headers"])
    optional = {"Allow", "Idempotency-Replayed", "Link", "Retry-After", "Set-Cookie"}
    given = set(response.headers.keys())
    assert required - optional <= given, f"missing headers: {required - given}"
    unknown = given - required - COMMON_HEADERS - optional
    assert not unknown, f"headers that are not in the contract: {unknown}"


def _check_body(method: str, documented: dict[str, Any], response: TestResponse) -> None:
    content = documented.get("content")
    if content is None:
        assert not response.data
        assert "Content-Type" not in response.headers
        # RFC 9110, section 8.6.
        assert response.content_length == (None if response.status_code in {204, 304} else 0)
        return
    assert response.content_type in content
    if method != "HEAD":
        assert response.content_length == len(response.data)
        errors = schema_errors(content[response.content_type]["schema"], response.json)
        assert not errors, response.text


class ContractClient(FlaskClient):
    """A test client that checks every response; paths are those of the contract, without the prefix."""

    def open(self, path: str, **kwargs: Any) -> TestResponse:  # type: ignore[override]
        """Send a request to a path of the contract, and check the response."""
        response = super().open(PREFIX + path, **kwargs)
        check(kwargs["method"], PREFIX + path.partition("?")[0], response)
        return response
