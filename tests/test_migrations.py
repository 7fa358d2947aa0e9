"""Models and migrations agree, and every migration goes up, down and up again, on both databases."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import inspect

from api.config import ROOT
from api.database import db
from tests.conftest import DATABASES

SCRIPTS = ScriptDirectory(str(ROOT / "migrations"))
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]


@pytest.fixture(params=DATABASES)
def empty_app(
    request: pytest.FixtureRequest, new_app: Callable[..., Flask], new_database_url: Any
) -> Iterator[Flask]:
    """The application on a database without tables."""
    app = new_app(new_database_url(request.param))
    with app.app_context():
        yield app


def test_there_is_one_head() -> None:
    assert SCRIPTS.get_heads() == REVISIONS[-1:]


def test_the_migrations_build_the_models(empty_app: Flask) -> None:
    flask_migrate.upgrade()

    flask_migrate.check()  # Ends the process if the models differ.


def test_each_migration_goes_up_and_down_and_up_again(empty_app: Flask) -> None:
    for revision in REVISIONS:
        flask_migrate.upgrade(revision=revision)
        flask_migrate.downgrade(revision="-1")
        flask_migrate.upgrade(revision=revision)

    flask_migrate.check()  # Ends the process if the models differ.


def test_all_the_way_down_leaves_nothing(empty_app: Flask) -> None:
    flask_migrate.upgrade()

    flask_migrate.downgrade(revision="base")

    assert inspect(db.engine).get_table_names() == ["alembic_version"]


def test_a_change_that_is_none_makes_no_migration(empty_app: Flask) -> None:
    flask_migrate.upgrade()

    flask_migrate.migrate()

    assert [script.revision for script in SCRIPTS.walk_revisions()][::-1] == REVISIONS


def test_a_database_that_is_not_there_is_one_line(new_app: Callable[..., Flask], tmp_path: Path) -> None:
    app = new_app(f"sqlite:///{tmp_path}/folder/x.db")
    (tmp_path / "folder").rmdir()

    with app.app_context(), pytest.raises(SystemExit, match=r"^Cannot open the database: unable to open"):
        flask_migrate.upgrade()


def test_the_migrations_can_be_written_as_sql(empty_app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    flask_migrate.upgrade(sql=True)

    assert "CREATE TABLE posts" in capsys.readouterr().out
