"""What all comparisons agree on, whatever their framework: the rows, the tokens, the looks of a cursor."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

DATABASE = os.environ["BENCHMARK_DATABASE"]  # A file of SQLite.
SECRET_KEY = os.environ["SECRET_KEY"]  # Signs tokens: JSON Web Tokens with a session's id as `sub`, HS256.
THREADS = 8  # As many as the service has by default.


def cursor_of(post_id: int) -> str:
    """Return an opaque cursor for the posts before one."""
    return urlsafe_b64encode(str(post_id).encode()).decode()


def id_of(cursor: str) -> int:
    """Return the id that a cursor holds; raise ValueError if it holds none."""
    return int(urlsafe_b64decode(cursor))
