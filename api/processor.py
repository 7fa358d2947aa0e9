"""One processor for all threads of a process (on Linux).

Python runs one thread of a process at a time. The others are woken whenever it lets go for a moment, which it
does several times for each statement: on another processor they come too late, wait again, and all of that
takes as long as the work.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread, get_ident, get_native_id
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SECONDS = 1.0
TURN_SECONDS = 0.0005
THREADS = Path("/proc/self/task")
STAT = Path("/proc/thread-self/stat")

# The processors that this process may run on, once its threads are kept together.
everywhere: set[int] = set()


def stay_together(app: Flask) -> None:
    """Keep the threads of this process to one processor, each second to one that has time, and by turns."""
    if sys.platform == "linux" and STAT.exists():  # pragma: no branch
        everywhere.update(os.sched_getaffinity(0))
        Thread(target=_lead, name="processor", daemon=True).start()
        app.wsgi_app = Turns(app.wsgi_app)  # type: ignore[method-assign]


def roam() -> None:
    """Let this thread run anywhere for a second at most: it is going to compute without Python."""
    if everywhere:
        with suppress(OSError):  # As where a sandbox forbids it.
            os.sched_setaffinity(0, everywhere)


def _lead() -> None:
    """Have the others follow a thread that may run anywhere: the kernel wakes it where there is time."""
    leader = get_native_id()
    while True:
        with suppress(OSError):  # There may be too many open files.
            processor = int(STAT.read_text().rpartition(")")[2].split()[36])  # proc_pid_stat(5), field 39.
            for thread in THREADS.iterdir():
                if int(thread.name) != leader:
                    _keep(int(thread.name), processor)
        sleep(SECONDS)


def _keep(thread: int, processor: int) -> None:
    """Have a thread run on one processor and, when it is woken, only after whoever runs there."""
    with suppress(OSError):  # It may have ended, or a sandbox may forbid it.
        os.sched_setaffinity(thread, {processor})
        if os.sched_getscheduler(thread) == os.SCHED_OTHER:  # Else whoever runs the service chose it.
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


class Turns:
    """An application whose threads let each other run, since none makes another wait by being woken."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._answering: set[int] = set()
        self._end = 0.0

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer; but if a turn is over, those that are in the middle of an answer go first."""
        now = perf_counter()
        if self._answering and now > self._end:
            self._end = now + TURN_SECONDS
            with suppress(OSError):
                os.sched_yield()
        self._answering.add(get_ident())
        try:
            return self._app(environ, start_response)
        finally:
            self._answering.remove(get_ident())
