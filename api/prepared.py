"""Statements that are made once. To make one costs more than to execute it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeAlias, cast

from sqlalchemy import BigInteger, Row, Select, String, bindparam, select

from api.database import Moment, database_name, db

AnySelect: TypeAlias = Select[*tuple[Any, ...]]
P = ParamSpec("P")

# The types of the bind parameters that stand for arguments.
TYPES: dict[type, Any] = {int: BigInteger(), str: String(), datetime: Moment()}

# Keeps what a function made, for as many combinations of arguments as there can be, and many more.
made_once = lru_cache(1_000)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that was made once, and the values of its bind parameters this time."""

    statement: AnySelect
    values: dict[str, Any]

    def rows(self) -> Sequence[Row[Any]]:
        """Read all that it selects, in the session's transaction. What waits to be flushed is not seen."""
        return db.session.connection().execute(self.statement, self.values).all()


def prepared(query: Callable[P, AnySelect]) -> Callable[P, Prepared]:
    """Have a function make its statement once, for each database, rather than at each call.

    The function is given bind parameters in place of its arguments. Those that are keyword-only it is given
    as they are, and makes a statement for each: they are hashable, and have few values.
    """
    kinds = signature(query).parameters.values()
    bound = {each.name: TYPES[each.annotation] for each in kinds if each.kind is not Parameter.KEYWORD_ONLY}

    @made_once
    def made(_database: str, **shape: Any) -> AnySelect:
        make: Callable[..., AnySelect] = query
        return make(*[bindparam(name, type_=type_) for name, type_ in bound.items()], **shape)

    @wraps(query)
    def wrapper(*args: Any, **shape: Any) -> Prepared:
        return Prepared(made(database_name(), **shape), dict(zip(bound, args, strict=True)))

    return cast("Callable[P, Prepared]", wrapper)


@prepared
def row_with(row_id: int, *, model: type[Any]) -> AnySelect:
    """The row of a model with an id."""
    return select(model).where(model.id == row_id)
