"""Recording of the statements that the application sends to its database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from flask import Flask

from api.db import db


class Statement(NamedTuple):
    """A statement and its parameters, as passed to the driver."""

    text: str
    parameters: Any


@contextmanager
def recorded_statements(app: Flask, server: str | None = None) -> Iterator[list[Statement]]:
    """Yield a list to which each statement that the database receives is added; or a replica, by its name."""
    sent: list[Statement] = []
    with app.app_context():
        dialect: Any = db.engines[server].dialect

    def recorded(execute: Callable[..., None]) -> Callable[..., None]:
        def wrapper(cursor: Any, text: str, parameters: Any = None, *rest: Any, **named: Any) -> None:
            sent.append(Statement(text, parameters))
            execute(cursor, text, parameters, *rest, **named)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        for name in ("do_execute", "do_executemany"):
            patch.setattr(dialect, name, recorded(getattr(dialect, name)))
        yield sent


def without_begin(statements: list[Statement]) -> list[str]:
    """Return the texts of the statements that do not begin a transaction."""
    return [statement.text for statement in statements if not statement.text.startswith("BEGIN")]
