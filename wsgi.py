"""The application that WSGI servers and the `flask` command load."""

from api.app import create_app

app = create_app()
