"""The threads of a process that answers keep to one processor, and none is lost where it is busy."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from unittest.mock import MagicMock

import pytest
from flask import Flask

from api.config import ROOT
from api.processor import SECONDS, TURN_SECONDS, stay_together
from tests.contract import PREFIX
from tests.patience import patiently
from tests.server import running_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Only Linux says where threads run.")


def fields_of(status: Path) -> dict[str, str]:
    """Return what the kernel tells of a process or a thread (proc_pid_status(5))."""
    return dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)


def places_of_threads(process: int) -> list[tuple[str, int]]:
    """Return where each thread of a process may run, as the kernel lists processors, and by which policy."""
    found = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):  # It may have ended.
            allowed = fields_of(thread / "status")["Cpus_allowed_list"]
            found.append((allowed, os.sched_getscheduler(int(thread.name))))
    return found


def workers_of(process: int) -> list[int]:
    """Return the processes that a server has started to answer: its children with several threads."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # It may have ended.
            fields = fields_of(status)
            if int(fields["PPid"]) == process and int(fields["Threads"]) > 1:
                found.append(int(fields["Pid"]))
    return found


# Keeps its threads together. Says on how many processors it may run, and by which policy, when it roams.
KEPT_TOGETHER = """
import os, sys
from flask import Flask
from api.processor import roam, stay_together
from tests.patience import patiently

chosen, kept = map(int, sys.argv[1:])

def place():
    return len(os.sched_getaffinity(0)), os.sched_getscheduler(0)

def is_kept():
    assert place() == (1, kept)

os.sched_setscheduler(0, chosen, os.sched_param(0))
stay_together(Flask("threads"))
patiently(is_kept)
roam()
print(*place())
patiently(is_kept)
"""

# The same, while no file can be opened, and when some can be again.
WITHOUT_FILES = f"""
import os, resource, time
from flask import Flask
from api.processor import stay_together
from tests.patience import patiently

def keeps_to_one():
    assert len(os.sched_getaffinity(0)) == 1

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
stay_together(Flask("threads"))
time.sleep({1.5 * SECONDS})
print(len(os.sched_getaffinity(0)))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
patiently(keeps_to_one)
"""


# A policy that somebody chose for the service stays.
@pytest.mark.parametrize(("chosen", "kept"), [("SCHED_OTHER", "SCHED_BATCH"), ("SCHED_IDLE", "SCHED_IDLE")])
def test_a_thread_that_computes_may_run_anywhere_for_a_while(chosen: str, kept: str) -> None:
    policies = [str(getattr(os, policy)) for policy in (chosen, kept)]
    command = [sys.executable, "-c", KEPT_TOGETHER, *policies]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert printed.split() == [str(len(os.sched_getaffinity(0))), policies[1]]


def test_threads_are_kept_together_when_there_are_files_again() -> None:
    command = [sys.executable, "-c", WITHOUT_FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(len(os.sched_getaffinity(0)))]
    assert not done.stderr


def test_who_begins_lets_those_go_first_that_are_in_the_middle_of_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Flask("turns")
    in_the_middle, may_end = Event(), Event()
    yields: list[float] = []
    clock = [100.0]
    monkeypatch.setattr("api.processor.Thread", MagicMock())
    monkeypatch.setattr("api.processor.everywhere", set())
    monkeypatch.setattr("api.processor.perf_counter", lambda: clock[0])
    monkeypatch.setattr("os.sched_yield", lambda: yields.append(clock[0]))
    stay_together(app)

    @app.get("/slow")
    def slow() -> str:
        in_the_middle.set()
        may_end.wait()
        return ""

    @app.get("/quick")
    def quick() -> str:
        return ""

    def ask_at(*moments: float) -> list[float]:
        """Ask at some moments, in turns; return when others went first."""
        yields.clear()
        for moment in moments:
            clock[0] = 100 + moment * TURN_SECONDS
            app.test_client().get("/quick")
        return [round((at - 100) / TURN_SECONDS, 1) for at in yields]

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(app.test_client().get, "/slow")
        in_the_middle.wait()
        assert ask_at(0, 0.4, 0.8, 1.2, 1.6, 5) == [0, 1.2, 5]
        may_end.set()
        asked.result()

    assert ask_at(10, 20) == []


def test_threads_keep_to_one_processor_but_the_one_that_leads_them(tmp_path: Path) -> None:
    with running_server(tmp_path, WORKERS="2") as server:
        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(lambda _: server.get(f"{PREFIX}/posts")[0], range(100)))
        assert answers == [200] * 100

        def kept_together() -> None:
            workers = workers_of(server.process_id)
            assert len(workers) == 2
            for worker in workers:
                places = places_of_threads(worker)
                kept = [place for place in places if place[1] == os.SCHED_BATCH]
                assert len(set(kept)) == 1
                assert kept[0][0].isdecimal()
                others = [(place[0].isdecimal(), place[1]) for place in places if place not in kept]
                assert others == [(len(os.sched_getaffinity(0)) == 1, os.SCHED_OTHER)]

        patiently(kept_together)
