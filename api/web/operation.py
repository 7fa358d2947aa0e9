"""The declarations that decorators attach to a view function, for the contract."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

View = Callable[..., Any]


@dataclass
class Operation:
    """One operation of the contract: its security scheme, its input, its responses."""

    security: str | None = None
    # Whether anonymous callers are allowed as well.
    security_is_optional: bool = False
    query: Schema | None = None
    body: Schema | None = None
    # An instance of BaseSchema, and the field of the parameter `expand`. Typed as Any, because this package
    # must not import theirs.
    response: Any = None
    expand: Any = None
    is_idempotent: bool = False
    status: int = 204
    headers: tuple[str, ...] = ()
    failures: set[int] = field(default_factory=set)
    # The operations that use the response, by their ids in the contract.
    links: tuple[str, ...] = ()
    # An instance of Deprecation.
    deprecated: Any = None


def operation_of(view: View) -> Operation:
    """Return the operation of a view function, to read it or to add to it.

    `functools.wraps` copies `__dict__`, so that all decorators of a view share one operation.
    """
    operation: Operation = view.__dict__.setdefault("operation", Operation())
    return operation
