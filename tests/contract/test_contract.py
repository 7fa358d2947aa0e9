"""The OpenAPI document: it is generated, valid, and usable by generators of clients."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.config import API_PREFIX
from api.contract.openapi import LOCAL_URL, REQUEST_HEADERS, as_yaml, document
from api.web.problem_types import INPUT_ERRORS, PROBLEM_TYPES
from tests.operations import Caller, Operation, cases
from tests.support.contract import (
    CONTRACT,
    CONTRACT_FILE,
    ContractClient,
    operations,
    resolve,
    schema_errors,
)
from tests.support.databases import on_sqlite
from tests.support.factories import Factory
from tests.support.world import make_world

OPERATIONS = [pytest.param(*found, id=found[2]["operationId"]) for found in operations()]
OPERATIONS_BY_ID = {operation["operationId"]: operation for _, _, operation in operations()}
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


@on_sqlite
def test_openapi_yaml_is_what_the_code_generates(migrated_app: Flask) -> None:
    generated = as_yaml(document(migrated_app))

    assert generated == CONTRACT_FILE.read_text("utf-8"), "run `make openapi`"


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(CONTRACT).validate()


def test_the_version_is_that_of_the_project() -> None:
    project = (CONTRACT_FILE.parent / "pyproject.toml").read_text("utf-8")

    assert f'\nversion = "{CONTRACT["info"]["version"]}"\n' in project


def test_every_component_is_used() -> None:
    used = {node["$ref"] for node in nodes(CONTRACT) if "$ref" in node}
    schemes = {
        name for _, _, operation in operations() for scheme in operation["security"] for name in scheme
    }
    used |= {f"#/components/securitySchemes/{name}" for name in schemes}

    for kind, components in CONTRACT["components"].items():
        assert {f"#/components/{kind}/{name}" for name in components} <= used


def test_the_documentation_has_an_absolute_url() -> None:
    assert CONTRACT["externalDocs"]["url"] == f"{LOCAL_URL}/docs"


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
            assert examples
            for example in examples:
                assert not schema_errors(content["schema"], example)
        for parameter in operation["parameters"]:
            if "example" in parameter:
                assert not schema_errors(parameter["schema"], parameter["example"])

    def test_has_examples_of_what_it_requires_only(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        for parameter in operation["parameters"]:
            assert ("example" in parameter) is parameter["required"]
            assert not {"example", "examples"} & parameter["schema"].keys()
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = resolve(content["schema"])
            example = content["examples"]["example"]["value"]
            assert set(example) == set(schema.get("required", schema["properties"]))

    def test_has_links_that_lead_to_operations(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        for response in operation["responses"].values():
            for link in resolve(response).get("links", {}).values():
                target = OPERATIONS_BY_ID[link["operationId"]]
                required = {each["name"] for each in target["parameters"] if each["required"]}
                given = link.get("parameters", {})
                assert required <= given.keys() <= {each["name"] for each in target["parameters"]}
                [content] = response["content"].values()
                members = resolve(content["schema"])["properties"]
                for expression in given.values():
                    source, _, name = expression.partition("#/")
                    assert source != "$response.body" or name in members

    def test_shares_the_parameters_of_lists(self, method: str, path: str, operation: dict[str, Any]) -> None:
        parameters = CONTRACT["paths"][path][method.lower()]["parameters"]

        inline = {parameter["name"] for parameter in parameters if "name" in parameter}
        assert not inline & {"limit", "cursor", "expand", *REQUEST_HEADERS}

    def test_accepts_merge_patches_with_patch(
        self, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        types = list(operation.get("requestBody", {}).get("content", {}))

        patches = ["application/json", "application/merge-patch+json"]
        assert types == (patches if method == "PATCH" else patches[:1] if types else [])

    def test_says_how_lists_are_paginated(self, method: str, path: str, operation: dict[str, Any]) -> None:
        is_list = "cursor" in {parameter["name"] for parameter in operation["parameters"]}

        assert ("x-speakeasy-pagination" in operation) is is_list
        assert ("nextPage" in operation["responses"].get("200", {}).get("links", {})) is is_list


@pytest.mark.parametrize("operation", cases())
def test_the_examples_work(client: ContractClient, make: Factory, operation: Operation) -> None:
    request: dict[str, Any] = {}
    if operation.example_caller is not None:
        world = make_world(make)
        caller = {"ann": world.ann, "bob": world.bob}[operation.example_caller]
        if operation.caller is Caller.PASSWORD:
            request["auth"] = (caller.username, caller.password)
        elif not operation.is_public:
            request["headers"] = caller.signed_in
    response = client.open(
        operation.example_path,
        method=operation.method,
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
    parameters = {name for name, schema in SCHEMAS.items() if "enum" in schema}

    assert not requests & responses
    assert requests | responses | parameters == set(SCHEMAS)
    assert all(SCHEMAS[name]["additionalProperties"] is False for name in requests)
    assert all(SCHEMAS[name]["additionalProperties"] is True for name in responses)


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


def test_tags_are_in_the_order_in_which_a_developer_meets_them() -> None:
    tags = [tag["name"] for tag in CONTRACT["tags"]]

    assert tags[:2] == ["users", "posts"]
    assert {tag for _, _, operation in operations() for tag in operation["tags"]} == set(tags)
    assert all(tag["x-displayName"] and tag["description"] for tag in CONTRACT["tags"])


def test_codes_are_listed_as_extensible_enums() -> None:
    listed = {
        (name, member): field["x-extensible-enum"]
        for name, schema in SCHEMAS.items()
        for member, field in schema.get("properties", {}).items()
        if "x-extensible-enum" in field
    }

    assert listed == {
        ("Problem", "code"): list(PROBLEM_TYPES),
        ("InputError", "code"): list(INPUT_ERRORS),
        ("TokenPair", "token_type"): ["Bearer"],
    }


# Names of classes that are visible without an import, and keywords, in the languages of generated clients.
TAKEN_NAMES = {
    "Java": "Boolean Byte Character Class Comparable Compiler Deprecated Double Enum Error Exception Float "
    "Function Integer Iterable Long Math Module Number Object Override Package Process Record Runnable "
    "Runtime Short String System Thread Throwable Void Date File List Locale Map Objects Optional Set "
    "Collection Iterator Properties Queue Random Scanner Stack Timer Vector",
    "Kotlin": "Any Array Annotation Char Companion Lazy Nothing Pair Result Sequence Triple Unit",
    "Swift": "Actor Bool Codable Data Decoder Dictionary Encoder Never Notification Operation Progress "
    "Protocol Range Self Task Type URL UUID",
    "Go": "break case chan const continue default defer fallthrough func go goto interface map package range "
    "select struct switch type var Client Configuration Context Response",
    "C#": "Action Attribute Buffer Console Convert Delegate Environment Event EventArgs Exception Func Guid "
    "Index Lazy Nullable Random TimeSpan Tuple Type Uri Version",
    "Python": "and as assert async await class def del elif except finally for from global import in is "
    "lambda None nonlocal not or pass raise return try while with yield dict list int object property type",
    "TypeScript": "Blob Body Comment Document Element Event File Headers Image Location Map Node "
    "Notification Option Promise Proxy Reflect Request Response Selection Symbol Text Window any interface",
    "Rust": "Box Cell Drop Err None Ok Option Rc Result Self Some Vec crate dyn enum fn impl let loop match "
    "mod move mut pub ref self static super trait unsafe use where",
}


@pytest.mark.parametrize("language", TAKEN_NAMES)
def test_no_name_is_taken_in_a_language_of_clients(language: str) -> None:
    taken = {name.casefold() for name in TAKEN_NAMES[language].split()}
    names = set(SCHEMAS) | {operation["operationId"] for _, _, operation in operations()}

    assert not {name for name in names if name.casefold() in taken}


@on_sqlite
@pytest.mark.parametrize(
    ("header", "value"),
    [
        *(
            (header, value)
            for header in ("If-Match", "If-None-Match")
            for value in (
                "",
                "*",
                "*,",
                "a",
                '"a"',
                'W/"a"',
                '"\xff"',
                ', "a" ,, W/"b" ,',
                '"a" "b"',
                '"a",*',
                '"a',
            )
        ),
        *(
            ("Idempotency-Key", value)
            for value in ("", "a", "a b", "a,b", '"a b"', "a" * 255, "a" * 256, '""', '"\\""', '"\\a"', '"a')
        ),
    ],
)
def test_headers_are_refused_if_they_do_not_fit_the_pattern(
    client: ContractClient, make: Factory, header: str, value: str
) -> None:
    schema = CONTRACT["components"]["parameters"][header.replace("-", "")]["schema"]
    ann = make.user("ann")
    post_id = make.post(ann)
    headers = {**ann.signed_in, header: value}

    match header:
        case "If-Match":
            response = client.delete(f"/posts/{post_id}", headers=headers)
        case "If-None-Match":
            response = client.get(f"/posts/{post_id}", headers=headers)
        case _:
            response = client.post("/posts", json={"body": "Hello."}, headers=headers)

    assert (response.status_code == 422) is bool(schema_errors(schema, value))


@on_sqlite
@pytest.mark.parametrize(
    "value",
    ["a", "a\tb", "a\x00b", "a\x1db", "a\x85b", "a\rb", "\x0ba", "\x1ca", "a\x85", "\x00a", " ", "\x1c"],
)
@pytest.mark.parametrize(
    ("path", "name"),
    [("/users", "q"), ("/posts", "q"), ("/posts", "mentions")],
    ids=["trimmed", "text", "name"],
)
def test_parameters_are_refused_if_they_do_not_fit_the_pattern(
    client: ContractClient, path: str, name: str, value: str
) -> None:
    [schema] = [
        each["schema"]
        for each in OPERATIONS_BY_ID[f"list{path[1:].title()}"]["parameters"]
        if each["name"] == name
    ]

    response = client.get(path, query_string={name: value})

    assert (response.status_code == 422) is bool(schema_errors(schema, value))


@pytest.mark.parametrize("value", ["a", "a\nb", "a\r\nb", "a\rb", "a\x0bb", "a\x7fb", " \n", "a\u2028b"])
def test_members_are_refused_if_they_do_not_fit_the_pattern(
    client: ContractClient, make: Factory, value: str
) -> None:
    response = client.post("/posts", json={"body": value}, headers=make.user().signed_in)

    assert (response.status_code == 422) is bool(schema_errors(SCHEMAS["PostCreate"], {"body": value}))
