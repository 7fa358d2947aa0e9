"""What the application asks of its database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from flask import Flask

from api.database import db


class Statement(NamedTuple):
    """A statement, as the driver gets it."""

    text: str
    parameters: Any


@contextmanager
def recorded_statements(app: Flask) -> Iterator[list[Statement]]:
    """Give the list of the statements that the database is sent from now on."""
    sent: list[Statement] = []
    with app.app_context():
        dialect: Any = db.engine.dialect

    def noted(execute: Callable[..., None]) -> Callable[..., None]:
        def wrapper(cursor: Any, text: str, parameters: Any = None, *rest: Any, **named: Any) -> None:
            sent.append(Statement(text, parameters))
            execute(cursor, text, parameters, *rest, **named)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        for name in ("do_execute", "do_executemany"):
            patch.setattr(dialect, name, noted(getattr(dialect, name)))
        yield sent
