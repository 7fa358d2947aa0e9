"""The threads of a process that answers keep to one processor, and none is lost where it is busy."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from api.config import ROOT
from api.processor import SECONDS
from tests.contract import PREFIX
from tests.server import running_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Only Linux says where threads run.")


def fields_of(status: Path) -> dict[str, str]:
    """Return what the kernel tells of a process or a thread (proc_pid_status(5))."""
    return dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)


def processors_of_threads(process: int) -> list[str]:
    """Return where each thread of a process may run, as the kernel lists processors."""
    statuses = Path(f"/proc/{process}/task").glob("*/status")
    return [fields_of(status)["Cpus_allowed_list"] for status in statuses]


def workers_of(process: int) -> list[int]:
    """Return the processes that a server has started to answer: its children with several threads."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # It may have ended.
            fields = fields_of(status)
            if int(fields["PPid"]) == process and int(fields["Threads"]) > 1:
                found.append(int(fields["Pid"]))
    return found


# Keeps its threads together; prints on how many processors it may run: by then, when it roams, and after.
KEPT_TOGETHER = f"""
import os, time
from api.processor import roam, stay_together

stay_together()
time.sleep({1.5 * SECONDS})
print(len(os.sched_getaffinity(0)))
roam()
print(len(os.sched_getaffinity(0)))
time.sleep({1.5 * SECONDS})
print(len(os.sched_getaffinity(0)))
"""


def test_a_thread_that_computes_may_run_anywhere_for_a_while() -> None:
    command = [sys.executable, "-c", KEPT_TOGETHER]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert printed.split() == ["1", str(len(os.sched_getaffinity(0))), "1"]


def test_threads_keep_to_one_processor_but_the_one_that_leads_them(tmp_path: Path) -> None:
    with running_server(tmp_path, WORKERS="2") as server:
        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(lambda _: server.get(f"{PREFIX}/posts")[0], range(100)))
        time.sleep(2 * SECONDS)
        workers = workers_of(server.process_id)
        places = [processors_of_threads(worker) for worker in workers]

    everywhere = len(os.sched_getaffinity(0))
    assert answers == [200] * 100
    assert len(workers) == 2
    for places_of_one in places:
        kept = [place for place in places_of_one if place.isdecimal()]
        assert len(set(kept)) == 1
        # Who leads may run anywhere, which is one place as well where there is but one.
        assert len(places_of_one) - len(kept) == (everywhere > 1)
