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
from threading import Thread, get_native_id

SECONDS = 1.0
THREADS = Path("/proc/self/task")
STAT = Path("/proc/thread-self/stat")

# The processors that this process may run on, once its threads are kept together.
everywhere: set[int] = set()


def stay_together() -> None:
    """Keep the threads of this process to one processor, each second to one that has time."""
    if sys.platform == "linux" and STAT.exists():  # pragma: no branch
        everywhere.update(os.sched_getaffinity(0))
        Thread(target=_lead, name="processor", daemon=True).start()


def roam() -> None:
    """Let this thread run anywhere for a second at most: it is going to compute without Python."""
    if everywhere:
        with suppress(OSError):  # As where a sandbox forbids it.
            os.sched_setaffinity(0, everywhere)


def _lead() -> None:
    """Have the others follow a thread that may run anywhere: the kernel wakes it where there is time."""
    leader = str(get_native_id())
    while True:
        processor = int(STAT.read_text().rpartition(")")[2].split()[36])  # proc_pid_stat(5), field 39.
        for thread in THREADS.iterdir():
            if thread.name != leader:
                with suppress(OSError):  # It may have ended.
                    os.sched_setaffinity(int(thread.name), {processor})
        time.sleep(SECONDS)
