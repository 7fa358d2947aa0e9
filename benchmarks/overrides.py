"""Measures what each override of Flask and Werkzeug in `api/web/wrappers.py` saves of a request for one post.

Each is replaced in turn by the framework's own method, in one process, without a server. The figures are
the processor time of a request in microseconds, the least of several rounds, and the share that is saved.

Run: .venv-bench/bin/python -m benchmarks.overrides
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import flask_migrate
from flask import Flask, Response
from werkzeug.test import EnvironBuilder

from api import config
from api.app import create_app
from api.config import API_PREFIX
from api.db import db
from api.models import Post, User
from api.web.wrappers import ApiResponse, Microblog

ROUNDS, REQUESTS = 15, 300
OVERRIDES: list[tuple[type, type, str]] = [
    (Microblog, Flask, "create_url_adapter"),
    (Microblog, Flask, "ensure_sync"),
    (ApiResponse, Response, "get_wsgi_headers"),
]


def main() -> None:
    """Print a line for each override."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as log,
        patch("sys.stdout", log) as _,
    ):
        app, path = make_app(folder)
        least: dict[str, float] = {}
        for _ in range(ROUNDS):
            measure(least, "all", app, path)
            for override, framework, name in OVERRIDES:
                with patch.object(override, name, getattr(framework, name)):
                    measure(least, name, app, path)
    print(f"with all overrides: {1e6 * least['all']:.0f} µs")
    for _, _, name in OVERRIDES:
        saved = least[name] - least["all"]
        print(f"{name}: saves {1e6 * saved:.0f} µs, {100 * saved / least[name]:.0f} %")


def make_app(folder: str) -> tuple[Flask, str]:
    """Return the application on a database with one post, and the path of the post."""
    limits: dict[str, Any] = {
        name: "1000000/second" for name in config.SETTINGS if name.startswith("RATE_LIMIT_")
    }
    app = create_app(config.Config(DATABASE_URL=f"sqlite:///{folder}/overrides.db", **limits))
    with app.app_context():
        flask_migrate.upgrade()
        author = User(username="ann", email="ann@example.com", password_hash="")
        post = Post(body="Hello.", author=author)
        db.session.add(post)
        db.session.commit()
        return app, f"{API_PREFIX}/posts/{post.id}"


def measure(least: dict[str, float], name: str, app: Flask, path: str) -> None:
    """Run a round of requests, and keep the least time of a request."""
    environs = [EnvironBuilder(path=path).get_environ() for _ in range(REQUESTS)]
    started = time.process_time()
    for environ in environs:
        body = app(environ, lambda *_: lambda _: None)
        b"".join(body)
        body.close()  # type: ignore[attr-defined]
    seconds = (time.process_time() - started) / REQUESTS
    least[name] = min(seconds, least.get(name, seconds))


if __name__ == "__main__":
    main()
