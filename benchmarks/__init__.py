"""What backs the figures in the documentation."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any

from api.config import Config

# Settings with which nobody asks too often.
UNLIMITED: dict[str, Any] = {
    setting.name: "1000000/second" for setting in fields(Config) if setting.name.startswith("RATE_LIMIT_")
}


@contextmanager
def silent() -> Iterator[None]:
    """Do without the access log: what a benchmark prints is its result."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def consume(body: Iterable[bytes]) -> None:
    """Read an answer to its end, and close it."""
    b"".join(body)
    close = getattr(body, "close", None)
    if close:
        close()
