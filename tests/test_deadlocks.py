"""Deadlocks: rows are locked in one order; who is the victim of a deadlock all the same never knows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Select, func, select, text

from api.database import db
from api.models import Entity, Post, User
from tests.contract import ContractClient
from tests.factories import PASSWORD, Factory, Member
from tests.patience import patiently
from tests.problems import assert_problem
from tests.races import at_once

# Those whom somebody waits for.
BLOCKING = text(
    "SELECT pg_blocking_pids(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)

# Raises what PostgreSQL raises in the victim of a deadlock, a number of times. (Sequences heed no rollback.)
DEADLOCKS = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('attempts') <= {} THEN RAISE EXCEPTION 'victim' USING ERRCODE = '40P01'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER deadlock BEFORE INSERT ON likes FOR EACH ROW EXECUTE FUNCTION deadlock();
"""


def test_the_victim_of_two_deadlocks_begins_anew(new_migrated_app: Callable[..., Flask]) -> None:
    app = new_migrated_app("postgresql")
    client, make = ContractClient(app), Factory(app)
    ann, post_id = make.user("ann"), make.post()
    with app.app_context():
        db.session.execute(text(DEADLOCKS.format(2)))
        db.session.commit()

    response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

    assert response.status_code == 204
    assert client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"] == 1


def test_the_victim_of_three_deadlocks_is_asked_to_come_back(new_migrated_app: Callable[..., Flask]) -> None:
    app = new_migrated_app("postgresql")
    client, make = ContractClient(app), Factory(app)
    ann, post_id = make.user("ann"), make.post()
    with app.app_context():
        db.session.execute(text(DEADLOCKS.format(3)))
        db.session.commit()

    response = client.put(f"/me/likes/{post_id}", headers=ann.signed_in)

    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"] == "2"
    assert client.get(f"/posts/{post_id}?expand=counts").json["counts"]["like_count"] == 0


@dataclass
class World:
    """Rows that a transaction of Bob's may lock, by what the tests call them, and who Bob is."""

    ids: dict[str, int]
    bob: Member

    def statement(self, name: str) -> Select[int]:
        """Return what locks a row."""
        model = User if name in {"ann", "bob", "eve"} else Post
        return select(model.id).where(model.id == self.ids[name]).with_for_update()


@pytest.fixture
def world(app: Flask, make: Factory) -> World:
    """Three users, in the order of their ids, and posts in the order of theirs."""
    ann, bob, eve = (make.user(name) for name in ("ann", "bob", "eve"))
    asked, liked = make.post(ann), make.post(ann)
    said = make.post(bob, in_reply_to_id=asked, is_reply=True)
    answer = make.post(eve, in_reply_to_id=said, is_reply=True)
    mention = make.post(eve, "@bob")
    make.like(bob, liked)
    make.follow(bob, ann)
    make.follow(eve, bob)
    with app.app_context():
        db.session.add(Entity(post_id=mention, start=0, end=4, user_id=bob.id, is_repeat=False))
        db.session.commit()
    posts = {"asked": asked, "liked": liked, "said": said, "answer": answer, "mention": mention}
    return World({**posts, "ann": ann.id, "bob": bob.id, "eve": eve.id}, bob)


@pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "body", "names"),
    [
        pytest.param("POST", "/posts", {"body": "@eve @ann"}, "ann bob eve", id="publish"),
        pytest.param(
            "POST", "/posts", {"body": "@eve", "in_reply_to_id": "asked"}, "asked bob eve", id="answer"
        ),
        pytest.param("PATCH", "/posts/{said}", {"body": "@eve @ann"}, "said ann bob eve", id="edit"),
        pytest.param("DELETE", "/posts/{said}", None, "asked said answer bob", id="delete"),
        pytest.param("PUT", "/me/likes/{asked}", None, "asked bob", id="like"),
        pytest.param("DELETE", "/me/likes/{liked}", None, "liked", id="unlike"),
        pytest.param("PUT", "/me/following/eve", None, "bob eve", id="follow"),
        pytest.param("DELETE", "/me/following/ann", None, "ann bob", id="unfollow"),
        pytest.param(
            "DELETE", "/me", {"password": PASSWORD}, "asked liked said answer mention ann bob eve", id="leave"
        ),
    ],
)
def test_rows_are_locked_in_one_order(
    app: Flask, world: World, method: str, path: str, body: dict[str, Any] | None, names: str
) -> None:
    """Posts before users, each by their ids: all are held, and let go once the request waits for them."""
    if body and "in_reply_to_id" in body:
        body = {**body, "in_reply_to_id": world.ids[body["in_reply_to_id"]]}
    request = partial(
        ContractClient(app).open,
        path.format(**world.ids),
        method=method,
        json=body,
        headers=world.bob.signed_in,
    )
    with app.app_context(), ExitStack() as stack, ThreadPoolExecutor(1) as thread:
        observer, *holders = (stack.enter_context(db.engine.connect()) for _ in ["", *names.split()])
        pids = [holder.scalar(select(func.pg_backend_pid())) for holder in holders]
        for holder, name in zip(holders, names.split(), strict=True):
            holder.execute(world.statement(name))
        answer = thread.submit(Context().run, request)

        def waits_for(pid: int | None) -> None:
            observer.rollback()  # In one transaction it would see the same again.
            assert observer.scalar(BLOCKING) == [pid]

        for holder, pid in zip(holders, pids, strict=True):
            patiently(partial(waits_for, pid))
            holder.rollback()
        assert answer.result().status_code < 300


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
