"""A standby, and a failover to it."""

from collections.abc import Callable

import flask_migrate
import pytest
from flask import Flask

from benchmarks import failover
from tests.support.contract import ContractClient
from tests.support.factories import Factory
from tests.support.problems import assert_problem
from tests.support.standby import running_cluster
from tests.support.wait import wait_until

HELLO = {"body": "Hello."}


@pytest.mark.slow
def test_under_load_loses_no_request_and_no_acknowledged_write_with_synchronous_replication() -> None:
    outcome = failover.fail_over(is_synchronous=True, seconds=0.5, fsync="off")

    assert outcome.total(lambda one: len(one.unavailable)) > 0
    for responses in outcome.responses.values():
        assert responses.succeeded > 0
        faults = (responses.without_retry_after, responses.other_statuses, responses.lost)
        assert faults == (0, 0, 0)
    assert outcome.responses["publish"].published
    assert (outcome.missing, outcome.workers_replaced) == (0, 0)


@pytest.mark.slow
def test_writes_go_to_the_server_that_accepts_them(new_app: Callable[..., Flask]) -> None:
    with running_cluster(fsync="off") as cluster:
        both = cluster.url(cluster.standby_socket, cluster.primary_socket)
        app = new_app(f"{both}&target_session_attrs=read-write")
        reader = new_app(cluster.url(cluster.standby_socket))
        with app.app_context():
            flask_migrate.upgrade()
        ann = Factory(app).user("ann")
        client, read_only_client = ContractClient(app), ContractClient(reader)
        before = client.post("/posts", json=HELLO, headers=ann.signed_in)

        def replicated() -> None:
            assert len(read_only_client.get("/posts").json["items"]) == 1

        wait_until(replicated)
        refused = read_only_client.post("/posts", json=HELLO, headers=ann.signed_in)
        not_ready = reader.test_client().get("/readyz")
        cluster.fail_over()
        after = client.post("/posts", json=HELLO, headers=ann.signed_in)
        accepted = read_only_client.post("/posts", json=HELLO, headers=ann.signed_in)
        ready = reader.test_client().get("/readyz")
        posts = client.get("/posts").json["items"]

        assert [response.status_code for response in (before, after, accepted, ready)] == [201, 201, 201, 200]
        assert_problem(refused, 503, "unavailable")
        assert_problem(not_ready, 503, "unavailable")
        assert len(posts) == 3
