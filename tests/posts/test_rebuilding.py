"""`flask rebuild-search`: it makes old posts as findable as new ones, while the service runs."""

import subprocess
import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from api.config import ROOT
from api.db import db
from api.models import Entity, Post
from api.posts import rebuilding
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.wait import wait_until

Publish = Callable[[str], int]


@pytest.fixture
def ann(make: Factory) -> Account:
    """The author of the posts."""
    return make.user("ann")


@pytest.fixture
def publish(client: ContractClient, ann: Account) -> Publish:
    """A function that publishes a post, and returns its id."""

    def publish(body: str) -> int:
        post_id: int = client.post("/posts", json={"body": body}, headers=ann.signed_in).json["id"]
        return post_id

    return publish


def forget_rules(app: Flask) -> None:
    """Write the words and tags of all posts as older rules would have."""
    with app.app_context():
        db.session.execute(update(Post).values(words=["old"]))
        db.session.execute(update(Entity).where(Entity.tag.is_not(None)).values(tag="old"))
        db.session.commit()


def run(app: Flask) -> str:
    """Run the command, and return its last line."""
    result = app.test_cli_runner().invoke(args=["rebuild-search"])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()[-1]


def bodies(client: ContractClient, **query: str) -> list[str]:
    """Return the bodies of the posts on the first page of a list."""
    return [post["body"] for post in client.get("/posts", query_string=query).json["items"]]


def wait_for(edits: list[int], number: int) -> None:
    """Wait until a number of edits have been made."""

    def enough() -> None:
        assert len(edits) >= number

    wait_until(enough)


class TestRebuildSearch:
    def test_makes_old_posts_findable_by_words_and_tags(
        self, app: Flask, client: ContractClient, publish: Publish
    ) -> None:
        texts = ["สวัสดีชาวโลก", "Łódź #Łódź", "#snow", "rain"]
        for body in texts:
            publish(body)
        forget_rules(app)
        assert bodies(client, q="โลก") == bodies(client, tag="lodz") == []

        last_line = run(app)

        assert last_line == "Checked 4 posts: rebuilt the words of 4 and the entities of 2."
        assert bodies(client, q="โลก") == ["สวัสดีชาวโลก"]
        assert bodies(client, q="lodz") == bodies(client, tag="lodz") == ["Łódź #Łódź"]
        assert bodies(client, q="old") == bodies(client, tag="old") == []

    def test_changes_no_post_that_is_as_it_should_be(
        self, app: Flask, client: ContractClient, publish: Publish
    ) -> None:
        for body in ("one #snow @ann #SNOW", "two"):
            publish(body)
        before = client.get("/posts").json

        assert run(app) == "Checked 2 posts: rebuilt the words of 0 and the entities of 0."

        assert client.get("/posts").json == before

    def test_succeeds_without_posts(self, app: Flask) -> None:
        assert run(app) == "Checked 0 posts: rebuilt the words of 0 and the entities of 0."

    def test_marks_tags_that_have_become_equal_as_repeats(
        self, app: Flask, client: ContractClient, publish: Publish
    ) -> None:
        post_id = publish("#Łódź #lodz")
        with app.app_context():
            first = Entity.start == 0
            db.session.execute(update(Entity).where(first).values(tag="łodz"))
            db.session.execute(update(Entity).where(~first).values(is_repeat=False))
            db.session.commit()

        run(app)

        assert bodies(client, tag="lodz") == ["#Łódź #lodz"]
        assert [entity["tag"] for entity in client.get(f"/posts/{post_id}").json["entities"]] == ["lodz"] * 2

    def test_leaves_mentions_to_the_users_they_were_for(
        self, app: Flask, client: ContractClient, make: Factory, publish: Publish
    ) -> None:
        bob = make.user("bob")
        post_id = publish("@Bob @later #snow")
        client.patch("/me", json={"username": "robert"}, headers=bob.signed_in)
        make.user("bob", email="other@example.com")
        make.user("later")
        forget_rules(app)

        run(app)

        entities: Any = client.get(f"/posts/{post_id}").json["entities"]
        assert [(entity["username"], entity["tag"]) for entity in entities] == [
            ("robert", None),
            (None, "snow"),
        ]

    def test_rebuilds_more_posts_than_a_batch(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        publish: Publish,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(rebuilding, "BATCH", 2)
        post_ids = [publish(f"snow {number}") for number in range(6)]
        client.delete(f"/posts/{post_ids[2]}", headers=ann.signed_in)
        forget_rules(app)

        assert run(app) == "Checked 5 posts: rebuilt the words of 5 and the entities of 0."
        assert len(bodies(client, q="snow")) == 5

    def test_continues_where_it_was_interrupted(
        self, app: Flask, client: ContractClient, publish: Publish, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rebuilding, "BATCH", 2)
        for number in range(5):
            publish(f"snow {number}")
        forget_rules(app)
        rebuild_batch, batches = rebuilding._rebuild_batch, [KeyboardInterrupt, None]

        def interrupted(*arguments: Any) -> Any:
            if not batches.pop():
                return rebuild_batch(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(rebuilding, "_rebuild_batch", interrupted)
            assert app.test_cli_runner().invoke(args=["rebuild-search"]).exit_code == 1

        assert len(bodies(client, q="snow")) == 2
        assert run(app) == "Checked 5 posts: rebuilt the words of 3 and the entities of 0."
        assert len(bodies(client, q="snow")) == 5

    def test_ends_although_the_last_posts_are_deleted_meanwhile(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        publish: Publish,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(rebuilding, "BATCH", 1)
        publish("first")
        last = publish("last")
        rebuild_batch = rebuilding._rebuild_batch

        def delete_last(*arguments: Any) -> Any:
            rebuilt = rebuild_batch(*arguments)
            client.delete(f"/posts/{last}", headers=ann.signed_in)
            return rebuilt

        monkeypatch.setattr(rebuilding, "_rebuild_batch", delete_last)

        assert run(app) == "Checked 1 posts: rebuilt the words of 0 and the entities of 0."

    @pytest.mark.slow
    def test_does_not_lose_edits_that_happen_meanwhile(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        publish: Publish,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(rebuilding, "BATCH", 3)
        post_ids = [publish(f"snow {number} #tag{number}") for number in range(30)]
        forget_rules(app)
        ended = Event()
        edits: list[int] = []

        def edit() -> None:
            with app.test_client() as editor:
                while not ended.is_set():
                    number = len(edits)
                    path = f"/api/v1/posts/{post_ids[number % 30]}"
                    body = {"body": f"rain {number} #edit{number}"}
                    assert editor.patch(path, json=body, headers=ann.signed_in).status_code == 200
                    edits.append(number)

        editing = Thread(target=edit)
        editing.start()
        try:
            wait_for(edits, 3)
            run(app)
            wait_for(edits, len(edits) + 3)
        finally:
            ended.set()
            editing.join()

        for body in bodies(client, limit="100"):
            word, number, tag = body.split()
            assert body in bodies(client, q=f'"{word} {number}"', limit="100")
            assert body in bodies(client, tag=tag)
        assert bodies(client, q="old") == bodies(client, tag="old") == []


@pytest.mark.slow
def test_the_command_runs_as_a_process(app: Flask, publish: Publish) -> None:
    publish("สวัสดีชาวโลก")
    forget_rules(app)

    ended = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "rebuild-search"],
        cwd=ROOT,
        env={"DATABASE_URL": app.config["DATABASE_URL"], "PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.splitlines()[-1] == "Checked 1 posts: rebuilt the words of 1 and the entities of 0."
    with app.app_context():
        assert db.session.scalars(select(Post.body).where(Post.words.is_distinct_from(["old"]))).all()
