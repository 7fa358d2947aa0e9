"""Output of commands: tables for people, JSON for programs."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import orjson

# The option of commands that print rows.
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, with times in UTC.")


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows as a table with the columns, or as a JSON array of objects."""
    rows = [{column: row[column] for column in columns} for row in rows]
    if as_json:
        print_json(rows)
        return
    lines = [columns, *([text_of(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def text_of(value: Any) -> str:
    """Return a value as text in a table; times are in UTC, to the second."""
    if value is None:
        return "-"
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)
