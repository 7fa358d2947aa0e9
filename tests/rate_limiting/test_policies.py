"""Each operation of the contract declares the limits that it needs."""

from typing import Any

import pytest
from flask import Flask

from api.rate_limiting.policies import Policy, RouteLimits, policies_from, rate_limited
from tests.support.contract import PREFIX, example_path, operations, resolve
from tests.support.databases import no_sql

READ_METHODS = {"GET", "HEAD"}
PASSWORD_MEMBERS = {"password", "current_password"}


def limits_of(app: Flask, method: str, path: str, operation: dict[str, Any]) -> RouteLimits:
    """Return the limits that the view of an operation declares."""
    adapter = app.url_map.bind("localhost")
    endpoint, _ = adapter.match(PREFIX + example_path(path, operation), method)
    limits: RouteLimits = getattr(app.view_functions[endpoint], "rate_limits", RouteLimits())
    return limits


def asks_for_the_password(operation: dict[str, Any]) -> bool:
    """Return whether a signed-in caller sends the current password in the body."""
    content = operation.get("requestBody", {}).get("content", {})
    members = {name for media in content.values() for name in resolve(media["schema"])["properties"]}
    return bool(members & PASSWORD_MEMBERS) and operation["security"] == [{"bearerAuth": []}]


@no_sql
@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [pytest.param(*operation, id=operation[2]["operationId"]) for operation in operations()],
)
def test_an_operation_declares_the_limits_that_it_needs(
    migrated_app: Flask, method: str, path: str, operation: dict[str, Any]
) -> None:
    limits = limits_of(migrated_app, method, path, operation)

    is_open_to_guessing = operation["security"] != [{"bearerAuth": []}] and method not in READ_METHODS
    assert bool(limits.policy) == is_open_to_guessing
    if operation["security"] == [{"basicAuth": []}]:
        assert limits.wrong_password == 401
    elif asks_for_the_password(operation):
        assert limits.wrong_password == 403
    else:
        assert limits.wrong_password is None
    assert {limits.policy} - {None} <= policies_from(migrated_app.config).keys()


def test_the_contract_has_operations_of_each_kind() -> None:
    securities = [operation["security"] for _, _, operation in operations()]

    assert [{"basicAuth": []}] in securities
    assert [] in securities
    assert sum(asks_for_the_password(operation) for _, _, operation in operations()) == 3


def test_the_declaration_of_a_view_does_not_wrap_it() -> None:
    def view() -> None:
        """Do nothing."""

    assert rate_limited("sign_in")(view) is view


def test_policies_are_named_like_their_settings() -> None:
    policies = policies_from({"RATE_LIMIT_SIGN_IN": "10/15 minutes", "RATELIMIT_STORAGE_URL": "memory://"})

    assert policies.keys() == {"sign_in"}
    assert policies["sign_in"].field == '"sign_in";q=10;w=900'


def test_the_storage_key_names_the_policy_its_limit_and_the_caller() -> None:
    assert Policy("sign_in", "10/15 minutes").key_for("192.0.2.1") == "sign_in/10/900/second/192.0.2.1"
