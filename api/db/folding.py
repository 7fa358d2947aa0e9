"""Case folding of usernames and email addresses: of ASCII letters only, alike in Python and in SQL.

Python's `str.lower` turns some other characters into ASCII letters, such as KELVIN SIGN. PostgreSQL's
`lower()` depends on the locale: under a Turkish one it does not turn I into i.
"""

from string import ascii_lowercase, ascii_uppercase
from typing import Any

from sqlalchemy import String, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

LOWER_CASE = str.maketrans(ascii_uppercase, ascii_lowercase)


def folded(text: str) -> str:
    """Return a text with its ASCII letters in lower case."""
    return text.translate(LOWER_CASE)


class FoldedColumn(FunctionElement[str]):
    """The SQL expression of `folded` for a column, whatever the collation and locale of the database."""

    type = String()
    inherit_cache = True

    def __init__(self, column_name: str) -> None:
        super().__init__(literal_column(column_name))


@compiles(FoldedColumn)
def _lower(element: FoldedColumn, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(FoldedColumn, "postgresql")
def _lower_with_collation(element: FoldedColumn, compiler: SQLCompiler, **options: Any) -> str:
    return f'lower({compiler.process(element.clauses, **options)} COLLATE "C")'
