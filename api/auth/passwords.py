"""Rules for passwords, and their hashing (Argon2id, RFC 9106)."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from api.web.problems import unavailable

LENGTH_MINIMUM = 8
LENGTH_MAXIMUM = 128
COMMON = {"microblog", *Path(__file__).with_name("common_passwords.txt").read_text("utf-8").split()}

HASHES_AT_ONCE = 2
M_MMAP_THRESHOLD = -3  # mallopt(3)
MMAP_THRESHOLD = 1024 * 1024


def is_common(password: str) -> bool:
    """Whether a password is among those that are guessed first."""
    return password.casefold() in COMMON


def return_freed_memory() -> None:
    """Have glibc return each large block of memory to the system as soon as it is freed.

    By default glibc raises the size from which it does so to that of the largest block freed, and keeps the
    memory of a hash in each thread.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # pragma: no branch -- glibc only.
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)


class Passwords:
    """Hashes and verifies passwords, two at a time.

    A hash takes `memory` KiB and `time` passes over it. `queue` limits the callers that hash or wait; others
    get the problem `unavailable` at once.
    """

    def __init__(self, *, memory: int, time: int, queue: int) -> None:
        return_freed_memory()
        self._hasher = PasswordHasher(time_cost=time, memory_cost=memory, parallelism=1)
        self._queue = BoundedSemaphore(queue)
        self._running = BoundedSemaphore(HASHES_AT_ONCE)
        self._dummy_hash = self._hasher.hash("")

    def hash(self, password: str) -> str:
        """Return the hash of a password, with its salt and parameters."""
        with self._turn():
            return self._hasher.hash(password)

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether a hash is that of a password. For no user (None) it takes as long, and is false."""
        with self._turn():
            try:
                self._hasher.verify(password_hash or self._dummy_hash, password)
            except VerifyMismatchError:
                return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether a hash has other parameters than those in the settings."""
        return self._hasher.check_needs_rehash(password_hash)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._queue.acquire(blocking=False):
            raise unavailable()
        try:
            with self._running:
                yield
        finally:
            self._queue.release()
