"""One round of benchmarks whose figures are in the documentation."""

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import feeds, large_databases, lists
from benchmarks.servers import SETTINGS
from tests.conftest import DATABASES
from tests.support.server import CHEAP_PASSWORDS

SMALL, LARGE = 200, 600


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATABASES)
def test_lists_are_measured_in_databases_with_correct_counters(
    kind: str, new_database_url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_databases, "SEEDED_MAXIMUM", SMALL)
    monkeypatch.setattr("benchmarks.lists.SETTINGS", {**SETTINGS, **CHEAP_PASSWORDS})
    monkeypatch.setattr(lists, "DEPTH", 400)
    monkeypatch.setattr(lists, "WARM_UP", 0)
    monkeypatch.setattr(lists, "ROUNDS", 1)
    database: Any = SimpleNamespace(kind=kind, create=lambda _name: new_database_url(kind))

    services = lists.filled_services(database, [SMALL, LARGE], None)
    small, large = services.values()
    for service in services.values():
        service.prepare()
    lists.measure([small, large])

    search = f"/posts?limit=100&q={large_databases.RARE_WORD}"
    found = [len(service.send("GET", search, {})["items"]) for service in services.values()]
    assert found[0] == found[1] > 0
    for service in services.values():
        large_databases.run(service.app, "counters", "check")
    table = lists.figures_table(services, lambda request: request.work, 0)
    assert all(f"| {name} |" in table for name in small.requests)
    assert "posts" in lists.plans_table(services)
    assert "posts" in lists.sizes_table(services)
    for service in services.values():
        service.close()


def test_the_simulation_of_feeds_is_the_same_each_time() -> None:
    outputs = [CliRunner().invoke(feeds.main, ["--users=500"]).output for _ in range(2)]

    assert "| computed on read |" in outputs[0]
    assert outputs[0] == outputs[1]


def test_a_stored_feed_writes_more_rows_and_reads_fewer_the_more_authors_it_has() -> None:
    users = feeds.Users(2_000, reads_per_post=65)

    loads = [users.stored(threshold) for threshold in (0, 100, 1_000, 2_000)]

    assert loads[0].written == 0
    assert loads[-1].written == pytest.approx(users.entries)
    assert [load.written for load in loads] == sorted(load.written for load in loads)
    assert [load.found for load in loads] == sorted((load.found for load in loads), reverse=True)
    assert users.computed_on_read().found > loads[-1].found
