"""Measures whether the time of a refused sign-in tells that a name exists.

Run: .venv/bin/python -m benchmarks.sign_in
Prints the median time of a refusal for a known and for an unknown name, in milliseconds of wall-clock time,
and their ratio (1.0 tells nothing). `benchmarks.slow_clients` measures many sign-ins at once.
"""

from base64 import b64encode
from contextlib import suppress
from statistics import median
from time import perf_counter

from benchmarks.servers import Server, running_service

ROUNDS = 100


def main() -> None:
    """Print both, and their ratio."""
    with running_service("sqlite") as server:
        username = server.send("GET", "/users?limit=1").json["items"][0]["username"]
        known, unknown = refusals(server, username)
    print(f"refusal: known {known:.1f} ms, unknown {unknown:.1f} ms, ratio {known / unknown:.2f}")


def refusals(server: Server, username: str) -> tuple[float, float]:
    """Sign in with a wrong password, in turn as a user and as no user; return the median milliseconds."""
    times: dict[str, list[float]] = {username: [], "no-such-user": []}
    for _ in range(ROUNDS):
        for name, measured in times.items():
            credentials = b64encode(f"{name}:wrong password".encode()).decode()
            began = perf_counter()
            with suppress(SystemExit):
                server.send("POST", "/tokens", {"Authorization": f"Basic {credentials}"})
            measured.append(1000 * (perf_counter() - began))
    known, unknown = times.values()
    return median(known), median(unknown)


if __name__ == "__main__":
    main()
