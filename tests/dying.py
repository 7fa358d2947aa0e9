"""The service, for tests: a request with the header `Die` ends its process before or after its commit.

SIGKILL leaves no time for anything, like the loss of power.
"""

import os
import signal

from flask import has_request_context, request
from sqlalchemy import event
from sqlalchemy.orm import Session

from wsgi import app as app


def _die(moment: str) -> None:
    if has_request_context() and request.headers.get("Die") == moment:
        os.kill(os.getpid(), signal.SIGKILL)


event.listen(Session, "before_commit", lambda _: _die("before_commit"))
event.listen(Session, "after_commit", lambda _: _die("after_commit"))
