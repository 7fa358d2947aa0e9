"""The number of statements of each operation, as `tests/operations.py` has it."""

import pytest

from tests.operations import ANYONE, Operation, cases
from tests.support.contract import ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import Factory
from tests.support.renderers import needs_sql_json
from tests.support.statements import Statement, without_begin
from tests.support.world import World, add_related_rows, make_world


@pytest.fixture
def world(make: Factory) -> World:
    """The rows that the operations need."""
    return make_world(make)


@needs_sql_json
@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("operation", cases())
def test_the_number_of_statements_does_not_depend_on_the_number_of_rows(
    client: ContractClient,
    make: Factory,
    world: World,
    statements: list[Statement],
    operation: Operation,
    rows: int,
) -> None:
    add_related_rows(make, world, rows)
    statements.clear()

    response = operation.send(client, world)

    assert response.status_code < 300, response.json
    sent = without_begin(statements)
    assert len(sent) == operation.statements, "\n\n".join(sent)


@pytest.mark.parametrize("operation", cases(lambda operation: operation.is_safe))
def test_a_safe_operation_only_reads(
    client: ContractClient, world: World, statements: list[Statement], operation: Operation
) -> None:
    statements.clear()

    operation.send(client, world)

    assert statements
    for statement in statements:
        assert statement.text.startswith(("SELECT", "WITH")), statement.text
        assert " FOR " not in statement.text, statement.text


@on_sqlite
@needs_sql_json
@pytest.mark.parametrize(
    "operation", cases(lambda operation: operation.is_safe and operation.caller is ANYONE)
)
def test_a_request_without_a_token_sends_no_statement_that_checks_it(
    client: ContractClient, world: World, statements: list[Statement], operation: Operation
) -> None:
    statements.clear()

    operation.send(client, world, headers={})

    assert len(statements) == operation.statements - 1
