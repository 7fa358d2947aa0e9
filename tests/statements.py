"""What the application asks of its database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from flask import Flask
from sqlalchemy import event

from api.database import db


class Statement(NamedTuple):
    """A statement, as the driver gets it."""

    text: str
    parameters: Any


@contextmanager
def recorded_statements(app: Flask) -> Iterator[list[Statement]]:
    """Give the list of the statements that the database is sent from now on."""
    sent: list[Statement] = []

    note = lambda *noted: sent.append(Statement(*noted[2:4]))  # noqa: E731 -- there may be nothing to note.
    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)
