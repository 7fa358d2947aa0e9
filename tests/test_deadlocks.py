"""Deadlocks: who is the victim of one never knows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import text

from api.database import db
from tests.contract import ContractClient
from tests.factories import PASSWORD, Factory
from tests.problems import assert_problem
from tests.races import at_once

# Raises what PostgreSQL raises in the victim of a deadlock, a number of times. (Sequences heed no rollback.)
DEADLOCKS = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('attempts') <= {} THEN RAISE EXCEPTION 'victim' USING ERRCODE = '40P01'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER deadlock BEFORE INSERT ON likes FOR EACH ROW EXECUTE FUNCTION deadlock();
"""


@pytest.fixture
def postgresql_app(new_app: Callable[..., Flask], new_database_url: Any) -> Flask:
    """The application on a PostgreSQL database that nobody else uses."""
    app = new_app(new_database_url("postgresql"))
    with app.app_context():
        flask_migrate.upgrade()
    return app


def test_the_victim_of_two_deadlocks_begins_anew(postgresql_app: Flask) -> None:
    client, make = ContractClient(postgresql_app), Factory(postgresql_app)
    ann, post_id = make.user("ann"), make.post()
    with postgresql_app.app_context():
        db.session.execute(text(DEADLOCKS.format(2)))
        db.session.commit()

    response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

    assert response.status_code == 204
    assert client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"] == 1


def test_the_victim_of_three_deadlocks_is_asked_to_come_back(postgresql_app: Flask) -> None:
    client, make = ContractClient(postgresql_app), Factory(postgresql_app)
    ann, post_id = make.user("ann"), make.post()
    with postgresql_app.app_context():
        db.session.execute(text(DEADLOCKS.format(3)))
        db.session.commit()

    response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"] == "2"
    assert client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"] == 0


def test_people_who_leave_while_others_write_about_them_do_no_harm(app: Flask, make: Factory) -> None:
    people = [make.user() for _ in range(6)]
    post_ids = {person: make.post(person, f"Hello, {person.username}.") for person in people}
    for person in people:
        for other in people:
            make.like(person, post_ids[other])
            make.post(person, in_reply_to_id=post_ids[other], is_reply=True)
            if other != person:
                make.follow(person, other)

    def leave(number: int) -> set[int]:
        person = people[number]
        answer = ContractClient(app).delete("/me", json={"password": PASSWORD}, headers=person.signed_in)
        return {answer.status_code}

    def write(number: int) -> set[int]:
        own, signed_in = ContractClient(app), people[number].signed_in
        statuses = set()
        for other in people:
            body = {"body": f"@{other.username} #bye", "in_reply_to_id": post_ids[other]}
            statuses |= {
                own.delete(f"/me/likes/{post_ids[other]}", headers=signed_in).status_code,
                own.put(f"/me/likes/{post_ids[other]}", headers=signed_in).status_code,
                own.post("/posts", json=body, headers=signed_in).status_code,
                own.delete(f"/me/following/{other.username}", headers=signed_in).status_code,
                own.delete(f"/posts/{post_ids[other]}", headers=signed_in).status_code,
            }
        return statuses

    leaving = [partial(leave, number) for number in (0, 1)]
    writing = [partial(write, number) for number in (2, 3, 4, 5)]
    left, *rest = at_once(*leaving, *writing)

    assert left == {204}
    assert set().union(*rest) <= {201, 204, 403, 404, 409, 422}
    check = app.test_cli_runner().invoke(args=["counters", "check"])
    assert check.exit_code == 0, check.output
