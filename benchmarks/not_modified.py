"""What does a 304 cost, compared with the 200 that it spares? Asks for both in turn, on SQLite.

Run: .venv/bin/python -m benchmarks.not_modified
Prints the median processor time of each, in microseconds from the request's arrival to the answer's last
byte, and their ratio; less than 1.0 is saved.
"""

import tempfile
from statistics import median
from time import process_time
from typing import Any

import flask_migrate
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from api.app import API_PREFIX, create_app
from api.config import Config
from api.database import db
from api.models import Post, User
from benchmarks import UNLIMITED, consume, silent

ROUNDS = 500
PATHS = ("/posts/1", "/posts?limit=25", "/posts?limit=25&expand=counts", "/posts?limit=100")


def main() -> None:
    """Make a user with posts; then ask for what nobody changes, without its tag and with it."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Config(DATABASE_URL=f"sqlite:///{folder}/benchmark.db", **UNLIMITED))
        with app.app_context():
            flask_migrate.upgrade()
            ann = User(username="ann", email="ann@example.com", password_hash="")
            db.session.add_all(
                Post(author=ann, body=f"Post {number}. {'Snow. ' * 15}") for number in range(100)
            )
            db.session.commit()
        for path in PATHS:
            times: dict[int, list[float]] = {200: [], 304: []}
            with silent():
                _, etag, _ = answer(app, path, {})
                for _ in range(ROUNDS):
                    for headers in ({}, {"If-None-Match": etag}):
                        status, _, seconds = answer(app, path, headers)
                        times[status].append(seconds)
            full, spared = (1e6 * median(found) for found in times.values())
            print(f"{path}: 200 {full:.0f} µs, 304 {spared:.0f} µs, ratio {spared / full:.2f}")


def answer(app: Flask, path: str, headers: Any) -> tuple[int, str, float]:
    """Return the status, the tag and the processor time of an answer."""
    environ = EnvironBuilder(API_PREFIX + path, headers=headers).get_environ()
    begin = process_time()
    body, status, received = run_wsgi_app(app, environ)
    consume(body)
    return int(status[:3]), received["ETag"], process_time() - begin


if __name__ == "__main__":
    main()
