"""The application, for any WSGI server (`wsgi:app`) and for the `flask` command."""

from typing import TYPE_CHECKING

from api.app import create_app

if TYPE_CHECKING:
    from api.server import Front

app = create_app()
# A WSGI server may fork after it imported this module, so that the mailer starts with the first request.
app.before_request(app.extensions["mailer"].start)


def front() -> "Front":
    """Return the RSGI application that a worker of `flask serve` runs."""
    from api.server import Front  # WSGI servers do not load granian.

    app.extensions["mailer"].start()
    return Front(app)
