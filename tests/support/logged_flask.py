"""`flask`, with what Alembic logs at its level INFO: each revision that it runs."""

import logging

from flask.cli import main

logging.basicConfig(level="INFO")
main()
