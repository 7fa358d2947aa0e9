"""The contract: it is what the code does, it is valid, and it keeps the rules that SDK generators taught."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import API_PREFIX
from api.openapi import as_yaml, document
from tests.contract import (
    CONTRACT,
    CONTRACT_FILE,
    ContractClient,
    example_path,
    operations,
    resolve,
    schema_errors,
)
from tests.factories import Factory

OPERATIONS = [pytest.param(*found, id=found[2]["operationId"]) for found in operations()]
# Nobody but the service can make a token that works.
REFUSED_EXAMPLES = {"refreshToken": "401", "redeemPasswordReset": "403", "redeemEmailVerification": "403"}
SCHEMAS: dict[str, Any] = CONTRACT["components"]["schemas"]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Give every object within a part of the contract."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from nodes(child)


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what an operation takes and answers: "request" or "response", and the media type object."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield "request", content
    for answer in operation["responses"].values():
        for content in resolve(answer).get("content", {}).values():
            yield "response", content


def reachable(kind: str) -> set[str]:
    """Return the names of the schemas that requests, or responses, are made of."""
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


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(CONTRACT).validate()


def test_its_version_is_the_projects() -> None:
    project = (CONTRACT_FILE.parent / "pyproject.toml").read_text("utf-8")

    assert f'\nversion = "{CONTRACT["info"]["version"]}"\n' in project


def test_yaml_has_no_anchors() -> None:
    events = yaml.parse(CONTRACT_FILE.read_text("utf-8"))

    assert not any(isinstance(event, yaml.AliasEvent) for event in events)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
class TestEveryOperation:
    def test_is_described_for_its_users(self, method: str, path: str, operation: dict[str, Any]) -> None:
        assert re.fullmatch("[a-z]+([A-Z][a-z]+)+", operation["operationId"])
        assert operation["summary"]
        assert len(operation["description"]) > len(operation["summary"]) + 1
        assert len(operation["tags"]) == 1
        assert isinstance(operation["security"], list)

    def test_lists_its_errors_by_reference(self, method: str, path: str, operation: dict[str, Any]) -> None:
        answers = operation["responses"]

        expected = {"default"}
        expected |= {"401"} if operation["security"] else set()
        expected |= {"404"} if "{" in path else set()
        expected |= {"400", "413", "415", "422"} if "requestBody" in operation else set()

        assert expected <= answers.keys()
        assert all(set(answer) == {"$ref"} for status, answer in answers.items() if status[0] != "2")

    def test_speaks_of_idempotency_keys_where_they_work(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        takes_them = "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
        answers = {status: resolve(answer) for status, answer in operation["responses"].items()}

        examples = {
            code
            for answer in answers.values()
            for content in answer.get("content", {}).values()
            for code in content.get("examples", {})
        }
        may_be_repeated = {status for status, answer in answers.items() if "Retry-After" in answer["headers"]}

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

    def test_has_examples_that_work(
        self,
        client: ContractClient,
        make: Factory,
        method: str,
        path: str,
        operation: dict[str, Any],
    ) -> None:
        credentials = None
        headers: dict[str, str] = {}
        if operation["operationId"] != "createUser":
            ann, bob = make.user("ann", session_id=41), make.user("bob", session_id=42)
            # Ann, whose name is the example of all who are looked up, is followed by Bob, who calls; he
            # answers what she wrote. Nobody follows themselves, and only Ann may be called like her.
            caller = ann if operation["operationId"] == "updateAccount" else bob
            make.follow(bob, ann)
            make.post(ann, id=41)
            make.post(bob, id=42, in_reply_to_id=41, is_reply=True)
            scheme: dict[str, Any] = next(iter(operation["security"]), {})
            credentials = (caller.username, caller.password) if "basicAuth" in scheme else None
            headers = caller.signed_in if "bearerAuth" in scheme else {}
        query = {
            parameter["name"]: parameter["schema"]["example"]
            for parameter in operation["parameters"]
            if "example" in parameter["schema"]
        }
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})

        response = client.open(
            example_path(path, operation),
            method=method,
            query_string=query,
            json=body.get("example"),
            headers=headers,
            auth=credentials,
        )

        promised = next(iter(operation["responses"]))
        assert str(response.status_code) == REFUSED_EXAMPLES.get(operation["operationId"], promised)


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]

    assert len(ids) == len(set(ids))


def test_request_schemas_are_closed_and_response_schemas_open() -> None:
    requests, responses = reachable("request"), reachable("response")

    assert not requests & responses
    assert requests | responses == set(SCHEMAS)
    assert all(SCHEMAS[name]["additionalProperties"] is False for name in requests)
    assert all("additionalProperties" not in SCHEMAS[name] for name in responses)


def test_response_members_are_always_there() -> None:
    optional = {
        name: set(schema["properties"]) - set(schema["required"])
        for name, schema in SCHEMAS.items()
        if name in reachable("response")
    }

    assert {name: members for name, members in optional.items() if members} == {
        "Problem": {"errors", "etag"},
        "InputError": {"pointer", "parameter", "header"},
    }


def test_responses_leave_room_for_new_values() -> None:
    for name in reachable("response"):
        for node in nodes(SCHEMAS[name]):
            assert not {"enum", "oneOf", "allOf"} & node.keys()


def test_integers_have_a_format_and_nothing_is_nullable_by_another_word() -> None:
    for node in nodes(CONTRACT):
        if node.get("type") == "integer":
            assert node["format"] in {"int32", "int64"}
        assert "nullable" not in node


def test_there_is_one_server_with_the_address_in_it() -> None:
    assert [server["url"] for server in CONTRACT["servers"]] == [API_PREFIX]
