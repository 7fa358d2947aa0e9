"""The registry of operations is complete."""

from tests.operations import CONTRACT, REGISTRY, Operation
from tests.support.factories import Factory
from tests.support.world import LargeWorld, World, make_world


def omissions(operation: Operation, world: World) -> list[str]:
    """Return what the entry of an operation lacks."""
    parameters = {*world.path_parameters, *operation.parameters}
    if operation.is_list:
        parameters &= LargeWorld(world.ann, world.post_id).path_parameters.keys()
    unknown = operation.names("path") - parameters
    found = {
        "is a list: enter its order and index, `lists=(Listing(...),)`": (
            operation.is_list and not operation.lists
        ),
        "is not safe: enter the rows that it locks, `locks=(Locks(...),)` or `locks=()`": (
            not operation.is_safe and operation.locks is None
        ),
        "takes a body: enter one that is accepted, `body=lambda world: {...}`": (
            operation.has_body and operation.body is None
        ),
        f"has path parameters {unknown}: add them to `World` and, for lists, `LargeWorld`": bool(unknown),
    }
    return [f"{operation.name} {omission}" for omission, is_missing in found.items() if is_missing]


def test_every_operation_has_a_complete_entry_and_every_entry_an_operation(make: Factory) -> None:
    world = make_world(make)
    found = [
        *(f"{name} is new: add an `Operation` to the registry" for name in CONTRACT.keys() - REGISTRY),
        *(f"{name} is not in openapi.yaml: remove its entry" for name in REGISTRY.keys() - CONTRACT),
        *(omission for name in REGISTRY.keys() & CONTRACT for omission in omissions(REGISTRY[name], world)),
    ]

    assert not found, "in tests/operations.py (rows: tests/support/world.py):\n" + "\n".join(sorted(found))
