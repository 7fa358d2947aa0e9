"""Backs up the file of an SQLite database while it is in use, and restores it.

A backup is a database file and, beside it, its SHA-256 in the format of `sha256sum`.
"""

import fcntl
import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from api.db.sqlite_write_lock import RETRY_SECONDS, is_busy

# Longest wait for the readers and writers of a database that is replaced while it is in use.
WAIT_SECONDS = 5


class BackupError(Exception):
    """A reason, in one line, why nothing was backed up or restored."""


def checksum_file(file: Path) -> Path:
    """Return the path of the checksum of a backup."""
    return file.with_name(f"{file.name}.sha256")


def back_up(database: sqlite3.Connection, file: Path) -> None:
    """Write a verified copy of a database to a file that does not exist, readable by its owner only.

    It has all that was committed before. Others read and write meanwhile: in one step, SQLite copies one
    snapshot (https://sqlite.org/backup.html).
    """
    if file.exists():
        raise BackupError(f"{file} exists already.")
    with _draft_beside(file) as draft:
        with closing(sqlite3.connect(draft)) as copy:
            database.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # Then the copy is a single file.
            _ensure_intact(copy)
        checksum_file(file).write_text(f"{_sync(draft)}  {file.name}\n", "utf-8")
        # The checksum comes first: without it, a backup cannot be restored.
        file.hardlink_to(draft)
        _sync_folder(file.parent)


def restore(file: Path, database: Path, *, revisions: Collection[str], force: bool) -> str:
    """Replace a database by a backup, in one step, and return the revision of its schema.

    Raises BackupError if the backup is damaged or has a revision other than these; and, without `force`, if
    another process uses the database, or if the database is newer than the backup or not readable.
    """
    try:
        [expected, *_] = checksum_file(file).read_text("utf-8").split()
    except (OSError, ValueError):
        raise BackupError(f"{checksum_file(file)} is not readable, or has no checksum.") from None
    with _locked(database.parent), _draft_beside(database) as draft:
        shutil.copyfile(file, draft)
        if _sync(draft) != expected:
            raise BackupError(f"{file} does not have the checksum in {checksum_file(file).name}.")
        with closing(sqlite3.connect(draft)) as backup:
            _ensure_intact(backup)
            revision = _revision_of(backup)
            if revision not in revisions:
                raise BackupError(f"{file} has revision {revision}, which this version does not know.")
            with _replaceable(database, backup, force=force):
                _copy_owner(database, draft)
                draft.replace(database)
                for suffix in ("-wal", "-shm"):
                    # They belong to the former database, and contain no changes.
                    database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
                _sync_folder(database.parent)
    return revision


@contextmanager
def _replaceable(database: Path, backup: sqlite3.Connection, *, force: bool) -> Iterator[None]:
    """Hold a database, if it exists, so that no process writes to it and its write-ahead log is empty."""
    if not database.exists() or not database.stat().st_size:
        yield
        return
    url = f"{database.as_uri()}?mode=rw"
    with closing(sqlite3.connect(url, timeout=0, isolation_level=None, uri=True)) as existing:
        try:
            _hold(existing, database, although_in_use=force)
            if not force and (tables := _newer_tables(existing, backup)):
                raise BackupError(f"The database is newer than the backup: {', '.join(tables)}.")
        except sqlite3.DatabaseError as error:
            if not force:
                raise BackupError(f"The database is not readable: {error}.") from None
        yield


def _hold(existing: sqlite3.Connection, database: Path, *, although_in_use: bool) -> None:
    """Lock a database: against all others or, if it may be in use, against writers."""
    try:
        # Refused while there is another connection; otherwise it deletes the write-ahead log.
        existing.execute("PRAGMA journal_mode = DELETE")
        existing.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        if not although_in_use:
            raise BackupError("The database is in use. Stop the service first.") from None
        _hold_while_in_use(existing, database)


def _hold_while_in_use(existing: sqlite3.Connection, database: Path) -> None:
    """Lock a database that others use against writers, when its write-ahead log is empty."""
    log = database.with_name(f"{database.name}-wal")
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(sqlite3.OperationalError):
            existing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            existing.execute("BEGIN IMMEDIATE")
            if not log.stat().st_size:
                return
            # Another process has written meanwhile, or still reads from the log.
            existing.execute("ROLLBACK")
        time.sleep(RETRY_SECONDS)
    raise BackupError(f"The database was locked for {WAIT_SECONDS} seconds.")


def _newer_tables(existing: sqlite3.Connection, backup: sqlite3.Connection) -> list[str]:
    """Return the tables that have a later time in some column than they have in a backup."""
    of_backup = _latest_times(backup)
    later = {
        table
        for (table, column), time in _latest_times(existing).items()
        if time > of_backup.get((table, column), "")
    }
    return sorted(later)


def _latest_times(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Return the latest time in each column of each table, as text; without columns that have none."""
    columns = connection.execute(
        "SELECT tables.name, columns.name"
        " FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns"
        " WHERE tables.type = 'table' AND columns.type = 'DATETIME'"
    ).fetchall()
    times = {}
    for table, column in columns:
        [latest] = connection.execute(f'SELECT max("{column}") FROM "{table}"').fetchone()  # noqa: S608
        if latest:
            times[table, column] = latest
    return times


def _revision_of(backup: sqlite3.Connection) -> str:
    try:
        [revision] = backup.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.OperationalError, TypeError):
        raise BackupError("The backup is no database of this service.") from None
    return str(revision)


def _ensure_intact(connection: sqlite3.Connection) -> None:
    """Raise BackupError if a database is damaged."""
    try:
        [[result], *_] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        result = str(error)
    if result != "ok":
        raise BackupError(f"The database is damaged: {result}.")
    if dangling := connection.execute("PRAGMA foreign_key_check").fetchone():
        raise BackupError(f"The database is damaged: table {dangling[0]} refers to rows that do not exist.")


@contextmanager
def _draft_beside(file: Path) -> Iterator[Path]:
    """Yield a new file in the folder of another, readable by its owner only, and delete it afterwards."""
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", delete=False) as draft:
        path = Path(draft.name)
    try:
        yield path
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _sync(file: Path) -> str:
    """Wait until a file is on the disk, and return its SHA-256."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that also `flask db upgrade` takes (`migrations/env.py`)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError("Another process migrates or restores the database.") from None
        yield
    finally:
        os.close(descriptor)


def _copy_owner(existing: Path, file: Path) -> None:
    """Give a file the owner and the permissions of one that it replaces."""
    if existing.exists():
        shutil.copymode(existing, file)
        status = existing.stat()
        with suppress(PermissionError):
            os.chown(file, status.st_uid, status.st_gid)
