"""Descriptions of the rows that a route returns: queries that are not executed yet.

`@returns` passes them to the renderer. `db.get_or_404`, in contrast, reads a row at once.

return get_or_404(Post, post_id)
return first_or_404(user_named(username))
return paginate(posts_by(username), parameters, key=Post.id, parent=user_named(username))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Generic, ParamSpec, TypeVar

from sqlalchemy import Select, select

P = ParamSpec("P")
Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Query(Generic[Model]):
    """A delayed call of a query function."""

    function: Callable[..., Select[Model]]
    arguments: Mapping[str, Any]

    def select(self) -> Select[Model]:
        """Call the function; return the SELECT with the arguments as its values."""
        return self.function(**self.arguments)


def query(function: Callable[P, Select[Model]]) -> Callable[P, Query[Model]]:
    """Delay the call of a function that returns a SELECT.

    A renderer calls the function with the arguments; or once with bind parameters in their place, to compile
    and cache the SELECT. So the function must pass arguments on to SQLAlchemy and not compute with them. It
    may test arguments that are None, booleans or classes: these are always passed as they are.
    """
    parameters = signature(function).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is not Parameter.KEYWORD_ONLY]

    @wraps(function)
    def delayed(*args: P.args, **kwargs: P.kwargs) -> Query[Model]:
        return Query(function, {**dict(zip(names, args, strict=False)), **kwargs})

    return delayed


@dataclass(frozen=True, slots=True)
class Row:
    """The first row of a query; 404 if there is none."""

    query: Query[Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a query. For short lists only; lists that can grow are paginated."""

    query: Query[Any]


@dataclass(frozen=True, slots=True)
class Composite:
    """An object whose members are descriptions, by their names in its schema."""

    members: Mapping[str, object]


@query
def row_by_id(model: type[Any], row_id: int) -> Select[Any]:
    """Return the row of a model with an id."""
    return select(model).where(model.id == row_id)


def get_or_404(model: type[Any], row_id: int) -> Row:
    """Describe the row of a model with an id; the response is 404 if there is none."""
    return Row(row_by_id(model, row_id))


def first_or_404(query: Query[Any]) -> Row:
    """Describe the first row of a query; the response is 404 if there is none."""
    return Row(query)
