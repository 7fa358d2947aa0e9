"""The OpenAPI document: it is generated, valid, and usable by generators of clients."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import API_PREFIX
from api.contract.openapi import as_yaml, document
from tests.operations import Caller, Operation, cases
from tests.support.contract import (
    CONTRACT,
    CONTRACT_FILE,
    ContractClient,
    operations,
    resolve,
    schema_errors,
)
from tests.support.factories import Factory
from tests.support.world import make_world

OPERATIONS = [pytest.param(*found, id=found[2]["operationId"]) for found in operations()]
SCHEMAS: dict[str, Any] = CONTRACT["components"]["schemas"]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object within a part of the contract."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from nodes(child)


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the media type objects of an operation, each with "request" or "response"."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield "request", content
    for response in operation["responses"].values():
        for content in resolve(response).get("content", {}).values():
            yield "response", content


def reachable(kind: str) -> set[str]:
    """Return the names of the schemas that requests, or responses, refer to."""
    found: set[str] = set()
    waiting = [
        content["schema"]
        for _, _, operation in operations()
        for k, content in contents(operation)
        if k == kind
    ]
    while waiting:
        for node in nodes(waiting.pop()):
            name = node.get("$ref", "").rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                waiting.append(SCHEMAS[name])
    return found


def test_openapi_yaml_is_what_the_code_generates(migrated_app: Flask) -> None:
    generated = as_yaml(document(migrated_app, API_PREFIX))

    assert generated == CONTRACT_FILE.read_text("utf-8"), "run `make openapi`"


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(CONTRACT).validate()


def test_the_version_is_that_of_the_project() -> None:
    project = (CONTRACT_FILE.parent / "pyproject.toml").read_text("utf-8")

    assert f'\nversion = "{CONTRACT["info"]["version"]}"\n' in project


def test_openapi_yaml_has_no_anchors() -> None:
    events = yaml.parse(CONTRACT_FILE.read_text("utf-8"))

    assert not any(isinstance(event, yaml.AliasEvent) for event in events)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
class TestEveryOperation:
    def test_has_a_summary_a_description_and_a_tag(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        assert re.fullmatch("[a-z]+([A-Z][a-z]+)+", operation["operationId"])
        assert operation["summary"]
        assert len(operation["description"]) > len(operation["summary"]) + 1
        assert len(operation["tags"]) == 1
        assert isinstance(operation["security"], list)

    def test_lists_its_errors_by_reference(self, method: str, path: str, operation: dict[str, Any]) -> None:
        responses = operation["responses"]

        expected = {"default"}
        expected |= {"401"} if operation["security"] else set()
        expected |= {"404"} if "{" in path else set()
        expected |= {"400", "413", "415", "422"} if "requestBody" in operation else set()

        assert expected <= responses.keys()
        assert all(set(response) == {"$ref"} for status, response in responses.items() if status[0] != "2")

    def test_documents_idempotency_keys_where_they_work(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        takes_them = "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
        responses = {status: resolve(response) for status, response in operation["responses"].items()}

        examples = {
            code
            for response in responses.values()
            for content in response.get("content", {}).values()
            for code in content.get("examples", {})
        }
        may_be_repeated = {
            status for status, response in responses.items() if "Retry-After" in response["headers"]
        }

        assert examples & {"in_progress", "idempotency_key_reused"} == (
            {"in_progress", "idempotency_key_reused"} if takes_them else set()
        )
        assert may_be_repeated == {"429", "default"} | ({"409"} if takes_them else set())

    def test_puts_path_parameters_first_and_optional_ones_last(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        places = [
            (parameter["in"] != "path", not parameter["required"]) for parameter in operation["parameters"]
        ]

        assert places == sorted(places)

    def test_has_only_named_schemas(self, method: str, path: str, operation: dict[str, Any]) -> None:
        assert all(set(content["schema"]) == {"$ref"} for _, content in contents(operation))

    def test_has_examples_that_fit(self, method: str, path: str, operation: dict[str, Any]) -> None:
        for _, content in contents(operation):
            examples = [example["value"] for example in content.get("examples", {}).values()]
            for example in examples or [content["example"]]:
                assert not schema_errors(content["schema"], example)
        for parameter in operation["parameters"]:
            if "example" in parameter:
                assert not schema_errors(parameter["schema"], parameter["example"])


@pytest.mark.parametrize("operation", cases())
def test_the_examples_work(client: ContractClient, make: Factory, operation: Operation) -> None:
    request: dict[str, Any] = {}
    if operation.example_caller is not None:
        world = make_world(make)
        caller = {"ann": world.ann, "bob": world.bob}[operation.example_caller]
        if operation.caller is Caller.PASSWORD:
            request["auth"] = (caller.username, caller.password)
        elif operation.contract["security"]:
            request["headers"] = caller.signed_in
    query = {
        parameter["name"]: parameter["schema"]["example"]
        for parameter in operation.contract["parameters"]
        if "example" in parameter["schema"]
    }

    response = client.open(
        operation.example_path,
        method=operation.method,
        query_string=query,
        json=operation.example if operation.has_body else None,
        **request,
    )

    success = next(iter(operation.contract["responses"]))
    assert response.status_code == (operation.example_status or int(success))


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]

    assert len(ids) == len(set(ids))


def test_request_schemas_are_closed_and_response_schemas_open() -> None:
    requests, responses = reachable("request"), reachable("response")

    assert not requests & responses
    assert requests | responses == set(SCHEMAS)
    assert all(SCHEMAS[name]["additionalProperties"] is False for name in requests)
    assert all("additionalProperties" not in SCHEMAS[name] for name in responses)


def test_response_members_are_required() -> None:
    optional = {
        name: set(schema["properties"]) - set(schema["required"])
        for name, schema in SCHEMAS.items()
        if name in reachable("response")
    }

    assert {name: members for name, members in optional.items() if members} == {
        "Problem": {"errors", "etag"},
        "InputError": {"pointer", "parameter", "header"},
    }


def test_response_schemas_allow_new_values() -> None:
    for name in reachable("response"):
        for node in nodes(SCHEMAS[name]):
            assert not {"enum", "oneOf", "allOf"} & node.keys()


def test_integers_have_a_format_and_nullable_is_not_used() -> None:
    for node in nodes(CONTRACT):
        if node.get("type") == "integer":
            assert node["format"] in {"int32", "int64"}
        assert "nullable" not in node


def test_the_only_server_is_the_prefix_of_the_api() -> None:
    assert [server["url"] for server in CONTRACT["servers"]] == [API_PREFIX]
