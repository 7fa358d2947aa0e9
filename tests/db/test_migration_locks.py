"""Squawk finds no statement in a migration that locks a table of PostgreSQL long, or breaks older code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flask_migrate
import orjson
import pytest
from flask import Flask

from tests.db.test_migrations import REVISIONS, SCRIPTS

# Rules that do not apply to this schema, with the reason.
EXCLUDED = {
    "prefer-bigint-over-int": "counters, positions in texts and versions stay far below 2**31",
    "prefer-identity": "SQLAlchemy declares BIGSERIAL; the role that owns a table owns its sequence",
    "prefer-text-field": "a longer varchar rewrites nothing, and the contract has no shorter one",
    "require-statement-timeout": "migrations/env.py sets none: a statement that holds no lock may take long",
}
# Findings by revision, with the reason why they are accepted. A revision that removes what code no longer
# uses ("contract") is accepted if the release before runs without it.
ACCEPTED: dict[str, set[str]] = {
    # No release has run on the tables that these change: they precede the first one.
    "0002": {
        "adding-foreign-key-constraint",
        "constraint-missing-not-valid",
        "require-concurrent-index-creation",
    },
    "0005": {"ban-drop-table"},
    "0006": {"adding-field-with-default", "ban-drop-column", "disallowed-unique-constraint"},
    "0007": {"ban-drop-constraint", "constraint-missing-not-valid"},
}
BEGIN = "BEGIN; SET LOCAL lock_timeout = '500ms';"


def broken_rules(folder: Path, statements: str) -> set[str]:
    """Return the rules of squawk that some statements break."""
    file = folder / "migration.sql"
    file.write_text(statements, "utf-8")
    squawk = Path(sys.executable).with_name("squawk")
    options = ["--reporter=json", "--pg-version=12", f"--exclude={','.join(EXCLUDED)}"]
    ended = subprocess.run([squawk, *options, file], capture_output=True, check=False)
    return {finding["rule_name"] for finding in orjson.loads(ended.stdout)}


def test_no_revision_takes_long_locks(
    new_app: Callable[..., Flask], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    with new_app("postgresql://127.0.0.1/none").app_context():
        for revision in REVISIONS:
            former = SCRIPTS.get_revision(revision).down_revision
            flask_migrate.upgrade(revision=f"{former}:{revision}" if former else revision, sql=True)
            found[revision] = broken_rules(tmp_path, capsys.readouterr().out)

    broken = {revision: rules for revision, rules in found.items() if rules}
    assert broken == ACCEPTED, "docs/versioning.md says how to avoid it, and which findings may be ACCEPTED."


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX ix_posts_body ON posts (body)", "require-concurrent-index-creation"),
        ("ALTER TABLE posts ADD CONSTRAINT x CHECK (id > 0)", "constraint-missing-not-valid"),
        ("ALTER TABLE posts ALTER COLUMN edited_at SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE posts ALTER COLUMN id TYPE numeric", "changing-column-type"),
        ("ALTER TABLE posts RENAME COLUMN body TO text", "renaming-column"),
        ("ALTER TABLE posts DROP COLUMN edited_at", "ban-drop-column"),
    ],
)
def test_statements_that_do_are_found(tmp_path: Path, statement: str, rule: str) -> None:
    assert broken_rules(tmp_path, f"{BEGIN} {statement}; COMMIT;") == {rule}


def test_a_missing_lock_timeout_is_found(tmp_path: Path) -> None:
    statement = "ALTER TABLE posts ADD COLUMN language text"

    assert broken_rules(tmp_path, f"BEGIN; {statement}; COMMIT;") == {"require-lock-timeout"}
    assert broken_rules(tmp_path, f"{BEGIN} {statement}; COMMIT;") == set()
