"""Permissions of each operation, as `tests/operations.py` has them."""

from typing import Any

import pytest

from tests.operations import OPERATIONS, Caller, Operation, cases
from tests.support.contract import ContractClient
from tests.support.databases import no_sql, on_sqlite
from tests.support.factories import Factory
from tests.support.world import make_world

SECURITY: dict[Caller, list[dict[str, list[str]]]] = {
    Caller.ANYONE: [],
    Caller.PASSWORD: [{"basicAuth": []}],
    Caller.TOKEN: [{"bearerAuth": []}],
    Caller.AUTHOR: [{"bearerAuth": []}],
}


def security_of(operation: Operation) -> list[dict[str, list[str]]]:
    """Return the security requirements of an operation. A read that needs no token may be sent one."""
    is_enriched = operation.is_public and operation.is_safe
    return [{}, {"bearerAuth": []}] if is_enriched else SECURITY[operation.caller]


def test_the_contract_states_the_permissions() -> None:
    stated = {name: operation.contract["security"] for name, operation in OPERATIONS.items()}

    assert stated == {name: security_of(operation) for name, operation in OPERATIONS.items()}


def assert_unauthorized(client: ContractClient, operation: Operation, headers: dict[str, str]) -> None:
    """Assert that an operation responds with 401 and the challenge of its scheme."""
    response = client.open(operation.example_path, method=operation.method, headers=headers)

    assert response.status_code == 401
    scheme = "Basic" if operation.caller is Caller.PASSWORD else "Bearer"
    assert response.headers["WWW-Authenticate"].startswith(f'{scheme} realm="microblog"')


@no_sql
@pytest.mark.parametrize("operation", cases(lambda operation: operation.caller is not Caller.ANYONE))
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"Authorization": "Bearer nonsense"}, id="an invalid token"),
        pytest.param({"Authorization": "Basic \xe9"}, id="credentials that are not ASCII"),
        pytest.param({"Authorization": ""}, id="an empty header"),
    ],
)
def test_a_request_without_valid_credentials_is_unauthorized(
    client: ContractClient, operation: Operation, headers: dict[str, str]
) -> None:
    assert_unauthorized(client, operation, headers)


@on_sqlite
@pytest.mark.parametrize("name", ["createToken", "getAccount"])
def test_a_request_with_the_password_of_an_unknown_user_is_unauthorized(
    client: ContractClient, name: str
) -> None:
    assert_unauthorized(client, OPERATIONS[name], {"Authorization": "Basic bm9ib2R5OnBhc3N3b3Jk"})


@no_sql
@pytest.mark.parametrize(
    "operation",
    cases(lambda operation: operation.is_safe and operation.caller is Caller.ANYONE),
)
@pytest.mark.parametrize(
    "credentials", ["Bearer nonsense", "Basic \xe9", "Bearer \xe9", "Digest a=\xe9", "\xe9"]
)
def test_invalid_credentials_are_refused_where_a_token_is_optional(
    client: ContractClient, operation: Operation, credentials: str
) -> None:
    response = client.get(operation.example_path, headers={"Authorization": credentials})

    assert response.status_code == 401


@pytest.mark.parametrize("operation", cases(lambda operation: operation.caller is Caller.AUTHOR))
def test_other_users_than_the_author_are_forbidden(
    client: ContractClient, make: Factory, operation: Operation
) -> None:
    world = make_world(make)
    before: Any = client.get(f"/posts/{world.reply_id}").json

    response = operation.send(client, world, headers=world.eve.signed_in)

    assert response.status_code == 403
    assert client.get(f"/posts/{world.reply_id}").json == before
