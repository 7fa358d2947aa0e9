"""Readiness: the reasons why the service is not ready."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from api.db import db
from api.db.revisions import revision_scripts
from api.web.health import NOT_MIGRATED, READ_ONLY, UNREACHABLE
from tests.conftest import DATABASES
from tests.support.databases import on_sqlite
from tests.support.problems import assert_problem
from tests.support.statements import recorded_statements


@contextmanager
def revision(app: Flask, value: str | None) -> Iterator[None]:
    """Have another revision in the database, or none."""
    with app.app_context():
        head = revision_scripts().get_current_head()
        db.session.execute(text("DELETE FROM alembic_version"))
        if value:
            db.session.execute(text("INSERT INTO alembic_version VALUES (:value)"), {"value": value})
        db.session.commit()
        try:
            yield
        finally:
            db.session.execute(text("DELETE FROM alembic_version"))
            db.session.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head})
            db.session.commit()


def assert_not_ready(app: Flask, detail: str) -> None:
    """Assert that the service says why it is not ready."""
    response = app.test_client().get("/readyz")
    assert_problem(response, 503, "unavailable")
    assert response.json["detail"] == detail
    assert response.headers["Retry-After"]


@pytest.mark.parametrize("older", ["0001", None])
def test_a_database_with_an_older_revision_is_not_ready(app: Flask, older: str | None) -> None:
    with revision(app, older):
        assert_not_ready(app, NOT_MIGRATED)


def test_a_database_with_a_newer_revision_is_ready(app: Flask) -> None:
    with revision(app, "9999"):
        assert app.test_client().get("/readyz").status_code == 200


@pytest.mark.parametrize("kind", DATABASES)
def test_a_database_without_tables_is_not_ready(
    new_app: Callable[..., Flask], new_database_url: Any, kind: str
) -> None:
    assert_not_ready(new_app(new_database_url(kind)), NOT_MIGRATED)


@pytest.mark.parametrize("url", ["sqlite:///{}/none.db", "postgresql://ann@127.0.0.1:1/name"])
def test_a_database_that_cannot_be_reached_is_not_ready(
    new_app: Callable[..., Flask], tmp_path: Path, url: str
) -> None:
    assert_not_ready(new_app(url.format(tmp_path)), UNREACHABLE)


@on_sqlite
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_file_or_folder_that_is_not_writable_is_not_ready(
    app: Flask, monkeypatch: pytest.MonkeyPatch, is_folder: bool
) -> None:
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_dir() != is_folder)

    assert_not_ready(app, READ_ONLY)


def test_the_check_sends_few_statements(app: Flask) -> None:
    app.test_client().get("/readyz")  # Connects.

    with recorded_statements(app) as sent:
        app.test_client().get("/readyz")

    with app.app_context():
        assert len(sent) == {"sqlite": 1, "postgresql": 2}[db.engine.dialect.name]
