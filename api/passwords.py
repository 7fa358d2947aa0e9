"""Passwords: which are good enough, and how they are kept (Argon2id, RFC 9106)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from api.processor import roam

LENGTH_MINIMUM = 8
LENGTH_MAXIMUM = 128
COMMON = {"microblog", *Path(__file__).with_name("common_passwords.txt").read_text("utf-8").split()}


class HashingBusyError(Exception):
    """Too many passwords wait for their turn."""


def is_common(password: str) -> bool:
    """Say whether a password is among those that are tried first."""
    return password.casefold() in COMMON


class Passwords:
    """Hashes and checks passwords, a few at a time.

    Each takes `memory` KiB and `time` passes over it, so only two are worked on at once and the others wait
    in line for their turn. Who finds the `line` full is told so at once, with HashingBusyError.
    """

    def __init__(self, *, memory: int, time: int, line: int) -> None:
        self._hasher = PasswordHasher(time_cost=time, memory_cost=memory, parallelism=1)
        self._line = BoundedSemaphore(line)
        self._turns = BoundedSemaphore(2)
        self._nobodys = self._hasher.hash("")

    def hash(self, password: str) -> str:
        """Return what to keep of a password."""
        with self._turn():
            return self._hasher.hash(password)

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Say whether a password is the one that was kept; as slowly for nobody (None) as for anybody."""
        with self._turn():
            try:
                self._hasher.verify(password_hash or self._nobodys, password)
            except VerifyMismatchError:
                return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Say whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._line.acquire(blocking=False):
            raise HashingBusyError
        try:
            with self._turns:
                roam()
                yield
        finally:
            self._line.release()
