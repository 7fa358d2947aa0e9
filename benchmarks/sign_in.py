"""Does a refused sign-in tell whether the name exists? Compares the two, in turn, on SQLite.

Run: .venv/bin/python -m benchmarks.sign_in
Prints the median time of each, in milliseconds of wall-clock time, and their ratio; 1.0 tells nothing.
"""

import tempfile
from statistics import median
from time import perf_counter

import flask_migrate

from api.app import API_PREFIX, create_app
from api.config import Config
from benchmarks import UNLIMITED

ROUNDS = 100
NAMES = ("ann", "nobody")


def main() -> None:
    """Register one user; then sign in with a wrong password, as her and as nobody."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Config(DATABASE_URL=f"sqlite:///{folder}/benchmark.db", **UNLIMITED))
        with app.app_context():
            flask_migrate.upgrade()
        client = app.test_client()
        ann = {"username": "ann", "email": "ann@example.com", "password": "9 green horses"}
        registered = client.post(f"{API_PREFIX}/users", json=ann)
        if registered.status_code != 201:
            raise SystemExit(registered.text)
        times: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(ROUNDS):
            for name in NAMES:
                begin = perf_counter()
                client.post(f"{API_PREFIX}/tokens", auth=(name, "wrong password"))
                times[name].append(perf_counter() - begin)
    known, unknown = (median(times[name]) * 1000 for name in NAMES)
    print(f"known {known:.1f} ms, unknown {unknown:.1f} ms, ratio {known / unknown:.2f}")


if __name__ == "__main__":
    main()
