"""One processor for all threads of a process (on Linux).

Python runs one thread of a process at a time. The others are woken whenever it lets go for a moment, which it
does several times for each statement: on another processor they come too late, wait again, and all of that
takes as long as the work.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread, get_ident, get_native_id

from flask import Flask

SECONDS = 1.0
TURN_SECONDS = 0.001
THREADS = Path("/proc/self/task")
STAT = Path("/proc/thread-self/stat")

# The processors that this process may run on, once its threads are kept together.
everywhere: set[int] = set()


def stay_together(app: Flask) -> None:
    """Keep the threads of this process to one processor, each second to one that has time."""
    if sys.platform == "linux" and STAT.exists():  # pragma: no branch
        everywhere.update(os.sched_getaffinity(0))
        Thread(target=_lead, name="processor", daemon=True).start()
        turns = Turns()
        app.before_request(turns.begin)
        app.teardown_request(turns.end)


def roam() -> None:
    """Let this thread run anywhere for a second at most: it is going to compute without Python."""
    if everywhere:
        with suppress(OSError):  # As where a sandbox forbids it.
            os.sched_setaffinity(0, everywhere)


def _lead() -> None:
    """Have the others follow a thread that may run anywhere: the kernel wakes it where there is time."""
    leader = get_native_id()
    while True:
        processor = int(STAT.read_text().rpartition(")")[2].split()[36])  # proc_pid_stat(5), field 39.
        for thread in THREADS.iterdir():
            if int(thread.name) != leader:
                with suppress(OSError):  # It may have ended.
                    _keep(int(thread.name), processor)
        time.sleep(SECONDS)


def _keep(thread: int, processor: int) -> None:
    """Have a thread run on one processor and, when it is woken, only after whoever runs there."""
    os.sched_setaffinity(thread, {processor})
    if os.sched_getscheduler(thread) == os.SCHED_OTHER:  # Whoever runs the service may have chosen another.
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


class Turns:
    """Lets other threads run now and then, since none makes another wait by being woken."""

    def __init__(self) -> None:
        self._answering: set[int] = set()
        self._end = 0.0

    def begin(self) -> None:
        """Know that this thread answers a request."""
        self._answering.add(get_ident())

    def end(self, _error: BaseException | None) -> None:
        """Let the others run, after an answer, if any is in the middle of one and a turn is over."""
        self._answering.discard(get_ident())
        now = time.perf_counter()
        if self._answering and now > self._end:
            self._end = now + TURN_SECONDS
            os.sched_yield()
