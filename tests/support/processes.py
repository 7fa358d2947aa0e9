"""Python processes that tests start, forked from one that has imported the service.

A process that imports the service itself takes longer to start than most of these tests take. Otherwise a
forked process behaves like `python -m MODULE`.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from api.config import ROOT
from tests.support.wait import TIMEOUT_SECONDS

multiprocessing.get_context("forkserver").set_forkserver_preload(["api.app", "api.server", __name__])


class ModuleProcess(ForkServerProcess):
    """A process that runs `python -m MODULE ARGUMENTS`, once `start` is called.

    What it prints is in a file. It has a process group of its own and may be interrupted, as in a terminal.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], log: Path, folder: Path = ROOT
    ) -> None:
        super().__init__()
        self._arguments = (module, *arguments)
        self._environment = dict(environment)
        self._log = log
        self._folder = folder
        log.write_bytes(b"")

    def run(self) -> None:
        """Run the module, in the process."""
        os.setsid()
        # A shell without job control has the processes that it starts in the background ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file, stream.fileno())
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(self._folder)
        multiprocessing.set_start_method(None, force=True)  # Not that of this process.
        sys.argv = list(self._arguments)
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

    def lines(self) -> list[str]:
        """Return the lines printed so far."""
        return self._log.read_text("utf-8").splitlines()

    def end(self) -> int:
        """Wait until the process ends; return its exit status, which is negative if a signal ended it."""
        self.join(TIMEOUT_SECONDS)
        assert self.exitcode is not None, self.lines()
        return self.exitcode
