"""Executes statements with the database driver, without SQLAlchemy's Session and Connection."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from sqlalchemy import Engine, Insert, PoolProxiedConnection, Select
from sqlalchemy.exc import DBAPIError

from api.db.extension import db
from api.db.postgresql import BEGIN_SQL, is_outdated
from api.db.routing import replica_of_request
from api.db.transactions import IS_POOLED
from api.metrics import count, error_class

# Execution option of statements that PostgreSQL must plan with the actual values.
CUSTOM_PLAN = "custom_plan"


class DriverStatement:
    """A SELECT or INSERT in the SQL of a dialect, with its bind parameters."""

    def __init__(self, statement: Select[*tuple[Any, ...]] | Insert) -> None:
        dialect = db.engine.dialect
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self._positions: Sequence[str] | None = compiled.positiontup if compiled.positional else None
        # Then psycopg writes the values into the statement, so that PostgreSQL plans with them.
        self._has_values_in_text = dialect.name == "postgresql" and (
            CUSTOM_PLAN in statement.get_execution_options()
        )
        self._constants: dict[str, Any] = {}
        self._processors: dict[str, Callable[[Any], Any]] = {}
        for name, bind in compiled.binds.items():
            if processor := bind.type.dialect_impl(dialect).bind_processor(dialect):
                self._processors[name] = processor
            if not bind.required:
                self._constants[name] = bind.value

    def rows(self, values: Mapping[str, Any]) -> Sequence[Any]:
        """Execute the statement with values for its bind parameters; return the rows as tuples.

        It runs in the session's transaction if there is one, without flushing the session first; otherwise in
        autocommit or, behind a pooler, in a transaction, on a connection that returns to the pool at once. It
        is then sent to the replica of the request, if there is one. Raises SQLAlchemy's DBAPIError.
        """
        if db.session.registry.has() and db.session().in_transaction():
            connection = db.session.connection()
            return self._execute(connection.engine, connection.connection, values)
        replica = replica_of_request()
        engine = replica.engine if replica else db.engine
        with _DriverErrors(engine):
            pooled = engine.raw_connection()
        try:
            if replica:
                replica.ensure_known(pooled.info)
            return self._execute(engine, pooled, values, begins=pooled.info.get(IS_POOLED, False))
        finally:
            pooled.close()

    def insert(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute the INSERT for each row, in the session's transaction. Raises SQLAlchemy's DBAPIError."""
        connection = db.session.connection()
        pooled = connection.connection
        with _DriverErrors(connection.engine, pooled, self.sql):
            parameters = [self._parameters(row) for row in rows]
            connection.dialect.do_executemany(pooled.cursor(), self.sql, parameters)

    def _execute(
        self,
        engine: Engine,
        connection: PoolProxiedConnection,
        values: Mapping[str, Any],
        *,
        begins: bool = False,
    ) -> Sequence[Any]:
        """Execute the statement. With `begins`, begin a transaction first; the pool ends it."""
        driver: Any = connection.driver_connection
        with _DriverErrors(engine, connection, self.sql):
            cursor: Any = psycopg.ClientCursor(driver) if self._has_values_in_text else driver.cursor()
            if begins:
                cursor.execute(connection.info[BEGIN_SQL])
            engine.dialect.do_execute(cursor, self.sql, self._parameters(values))
            rows: Sequence[Any] = cursor.fetchall()
            return rows

    def _parameters(self, values: Mapping[str, Any]) -> Any:
        parameters = {**self._constants, **values}
        for name, process in self._processors.items():
            parameters[name] = process(parameters[name])
        if self._positions is None:
            return parameters
        return tuple([parameters[name] for name in self._positions])


@lru_cache(1_000)
def _driver_statement(statement: Select[*tuple[Any, ...]] | Insert, _dialect: str) -> DriverStatement:
    return DriverStatement(statement)


def driver_rows(statement: Select[*tuple[Any, ...]], **values: Any) -> Sequence[Any]:
    """Execute a SELECT that is a constant of its module; see `DriverStatement.rows`."""
    return _driver_statement(statement, db.engine.dialect.name).rows(values)


def driver_insert(statement: Insert, rows: Iterable[Mapping[str, Any]]) -> None:
    """Execute an INSERT that is a constant of its module; the rows have all columns of its table."""
    _driver_statement(statement, db.engine.dialect.name).insert(rows)


class _DriverErrors:
    """Raises the driver's errors as SQLAlchemy's, and discards a connection that is lost or outdated."""

    def __init__(
        self, engine: Engine, connection: PoolProxiedConnection | None = None, sql: str | None = None
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._sql = sql

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        dialect: Any = self._engine.dialect
        if isinstance(error, dialect.loaded_dbapi.Error):
            count("database_errors", error_class(error))
            is_unusable = self._connection is not None and (
                dialect.is_disconnect(error, self._connection, None)
                or is_outdated(error, self._connection.info)
            )
            if self._connection and is_unusable:
                # As Connection does: discards this connection, and the others of the pool, which are as old.
                self._engine.pool._invalidate(self._connection, error)
            raise DBAPIError.instance(
                self._sql, None, error, dialect.loaded_dbapi.Error, connection_invalidated=is_unusable
            ) from error
