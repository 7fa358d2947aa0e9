"""How Alembic runs the migrations, for `flask db`."""

from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy.exc import OperationalError

from api.database import Moment, db

metadata = db.metadata


def render_item(kind: str, item: Any, _autogenerate_context: Any) -> str | bool:
    """Write our own types as plain SQLAlchemy, so that a migration never imports the application."""
    if kind == "type" and isinstance(item, Moment):
        return "sa.DateTime(timezone=True)"
    return False


def include_name(name: str | None, _kind: str, _parents: Any) -> bool:
    """Leave out the full-text search's index, and on SQLite its tables; only the migrations know of them."""
    return not (name or "").startswith("posts_search")


def drop_empty_revision(_context: Any, _revision: Any, directives: list[Any]) -> None:
    """Make no file where `flask db migrate` finds no change. (`flask db check` wants to see that itself.)"""
    if getattr(context.config.cmd_opts, "autogenerate", False) and directives[0].upgrade_ops.is_empty():
        directives.clear()


OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "render_item": render_item,
    "include_name": include_name,
    "process_revision_directives": drop_empty_revision,
    "compare_type": True,
    "transactional_ddl": True,
    "transaction_per_migration": True,
}
if context.is_offline_mode():
    context.configure(url=current_app.config["DATABASE_URL"], literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        connection = db.engine.connect()
    except OperationalError as error:
        reason = str(error.orig).partition("\n")[0]
        raise SystemExit(f"Cannot open the database: {reason}") from None
    with connection:
        if connection.dialect.name == "sqlite":
            # Alembic replaces a table to change it; with foreign keys on, that empties those below.
            # SQLite heeds the setting only outside a transaction, so the driver itself is asked.
            driver_connection: Any = connection.connection.driver_connection
            driver_connection.execute("PRAGMA foreign_keys = OFF")
        else:
            # Changing a large table may take longer than a request may.
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.commit()
        context.configure(
            connection=connection, render_as_batch=connection.dialect.name == "sqlite", **OPTIONS
        )
        try:
            with context.begin_transaction():
                context.run_migrations()
        finally:
            connection.invalidate()
