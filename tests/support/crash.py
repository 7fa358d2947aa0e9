"""The service for tests of crashes: a request with the header `Die` kills its process before or after COMMIT.

SIGKILL runs no handlers, like a loss of power.
"""

import os
import signal

from flask import has_request_context, request
from sqlalchemy import event
from sqlalchemy.orm import Session

from wsgi import app as app


def _crash(event_name: str) -> None:
    if has_request_context() and request.headers.get("Die") == event_name:
        os.kill(os.getpid(), signal.SIGKILL)


event.listen(Session, "before_commit", lambda _: _crash("before_commit"))
event.listen(Session, "after_commit", lambda _: _crash("after_commit"))
