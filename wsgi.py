"""The application that WSGI servers and the `flask` command load."""

from flask import Flask

from api.app import create_app
from api.processor import stay_together

app = create_app()


def worker() -> Flask:
    """Return the application for a process that does nothing but answer."""
    stay_together(app)
    return app
