"""Statements that are made once. To make one costs more than to execute it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeAlias, cast

from flask import abort
from sqlalchemy import (
    BigInteger,
    Boolean,
    Engine,
    Insert,
    PoolProxiedConnection,
    Select,
    String,
    bindparam,
    select,
)
from sqlalchemy.sql.dml import ReturningInsert

from api.database import DriverErrors, Moment, Words, database_name, db

AnySelect: TypeAlias = Select[*tuple[Any, ...]]
AnyStatement: TypeAlias = AnySelect | Insert | ReturningInsert[*tuple[Any, ...]]
Rows: TypeAlias = Sequence[Any]  # Of tuples.
P = ParamSpec("P")

# The types of the bind parameters that stand for arguments.
TYPES: dict[Any, Any] = {
    bool: Boolean(),
    int: BigInteger(),
    int | None: BigInteger(),
    str: String(),
    str | None: String(),
    list[str]: Words(),
    datetime: Moment(),
}

# Keeps what a function made, for as many combinations of arguments as there can be, and many more.
made_once = lru_cache(1_000)


@dataclass(slots=True)
class Prepared:
    """A statement that was made once, and the values of its bind parameters this time.

    It is executed by the driver alone, and gives what that gives: SQLAlchemy would take five times as long.
    """

    statement: AnyStatement
    values: dict[str, Any]

    def read(self) -> Rows:
        """Read all that it selects.

        In the session's transaction if it has begun one (what waits to be flushed is not seen), else with a
        connection that is given back at once.
        """
        if db.session.registry.has() and db.session().in_transaction():
            return self.write()
        engine = db.engine
        with DriverErrors(engine):
            connection = engine.raw_connection()
        try:
            return self._execute(engine, connection)
        finally:
            connection.close()

    def first_or_404(self) -> Any:
        """Return the first value of the first row; answer 404 if there is none."""
        [value, *_], *_ = self.read() or abort(404)
        return value

    def write(self) -> Rows:
        """Execute it in the session's transaction; return the rows that it gives."""
        connection = db.session.connection()
        return self._execute(connection.engine, connection.connection)

    def _execute(self, engine: Engine, connection: PoolProxiedConnection) -> Rows:
        compiled = _compiled(self.statement)
        with DriverErrors(engine, connection, compiled.sql):
            cursor = connection.cursor()
            engine.dialect.do_execute(cursor, compiled.sql, compiled.parameters(self.values))
            return cursor.fetchall()


def write_all(statements: Sequence[Prepared]) -> None:
    """Execute, in the session's transaction, statements that are one with several values and give no rows."""
    connection = db.session.connection()
    compiled = _compiled(statements[0].statement)
    parameters = [compiled.parameters(each.values) for each in statements]
    with DriverErrors(connection.engine, connection.connection, compiled.sql):
        connection.dialect.do_executemany(connection.connection.cursor(), compiled.sql, parameters)


class Compiled:
    """A statement in the database's own words, and what makes its bind parameters the driver's."""

    def __init__(self, statement: AnyStatement) -> None:
        dialect = db.engine.dialect
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup if compiled.positional else None
        self._constants: dict[str, Any] = {}
        self._callables: dict[str, Callable[[], Any]] = {}
        self._processors: dict[str, Callable[[Any], Any]] = {}
        for name, bind in compiled.binds.items():
            if processor := bind.type.dialect_impl(dialect).bind_processor(dialect):
                self._processors[name] = processor
            if bind.callable:
                self._callables[name] = bind.callable
            elif not bind.required:
                self._constants[name] = bind.value

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """Return the parameters, given the values of those that have none of their own."""
        values = {**self._constants, **given}
        for name, call in self._callables.items():
            values[name] = call()
        for name, process in self._processors.items():
            values[name] = process(values[name])
        return values if self._order is None else tuple([values[name] for name in self._order])


_compiled = made_once(Compiled)


def prepared(query: Callable[P, AnyStatement]) -> Callable[P, Prepared]:
    """Have a function make its statement once, for each database, rather than at each call.

    The function is given bind parameters in place of its arguments. Those that are keyword-only it is given
    as they are, and makes a statement for each: they are hashable, and have few values.
    """
    kinds = signature(query).parameters.values()
    bound = {each.name: TYPES[each.annotation] for each in kinds if each.kind is not Parameter.KEYWORD_ONLY}

    @made_once
    def made(_database: str, **shape: Any) -> AnyStatement:
        make: Callable[..., AnyStatement] = query
        return make(*[bindparam(name, type_=type_) for name, type_ in bound.items()], **shape)

    @wraps(query)
    def wrapper(*args: Any, **shape: Any) -> Prepared:
        return Prepared(made(database_name(), **shape), dict(zip(bound, args, strict=True)))

    return cast("Callable[P, Prepared]", wrapper)


@prepared
def row_with(row_id: int, *, model: type[Any]) -> AnySelect:
    """The row of a model with an id."""
    return select(model).where(model.id == row_id)
