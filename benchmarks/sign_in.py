"""Measures sign-ins: whether a refusal tells that a name exists, and what many at once cost others.

Run: .venv/bin/python -m benchmarks.sign_in
Prints the median time of a refusal for a known and for an unknown name, in milliseconds of wall-clock time,
and their ratio (1.0 tells nothing). Then, for 64 sign-ins at once, the resident memory of the worker in MB
before, at most and afterwards, and the slowest read of another client, in milliseconds.
"""

import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from statistics import median
from time import perf_counter

from benchmarks.servers import Server, running_service

ROUNDS = 100
SIGN_INS = 64


def main() -> None:
    """Print both."""
    with running_service("sqlite") as server:
        username = server.send("GET", "/users?limit=1").json["items"][0]["username"]
        known, unknown = refusals(server, username)
        print(f"refusal: known {known:.1f} ms, unknown {unknown:.1f} ms, ratio {known / unknown:.2f}")
        before, peak, after, slowest = burst(server, username)
    print(f"{SIGN_INS} at once: {before:.0f} MB before, {peak:.0f} MB at most, {after:.0f} MB afterwards")
    print(f"slowest read at the same time: {slowest:.0f} ms")


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


def burst(server: Server, username: str) -> tuple[float, float, float, float]:
    """Sign in many times at once; return the memory in MB before, at most and after, and the slowest read."""
    server.sign_in(username)
    [worker] = [process for process in server.process.children(recursive=True) if process.num_threads() > 1]

    def megabytes() -> float:
        return float(worker.memory_info().rss) / 1e6

    with ThreadPoolExecutor(SIGN_INS) as threads:
        before, sizes, reads = megabytes(), [], []
        running = [threads.submit(server.sign_in, username) for _ in range(SIGN_INS)]
        while not all(one.done() for one in running):
            began = perf_counter()
            server.send("GET", "/posts")
            reads.append(1000 * (perf_counter() - began))
            sizes.append(megabytes())
        for one in running:
            one.result()
    time.sleep(1)
    return before, max(sizes), megabytes(), max(reads)


if __name__ == "__main__":
    main()
