"""Hashtags and mentions: found in what is written, shown with their places, and what lists are picked by."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.contract import ContractClient
from tests.factories import Factory, Member
from tests.problems import assert_problem
from tests.races import TRANSACTION_BEGUN, at_once, meanwhile
from tests.walks import items, walk_both_ways

HEART = "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}"
JALLAJALALOUHOU = "\N{ARABIC LIGATURE JALLAJALALOUHOU}"  # Folds to eight code points.


def publish(client: ContractClient, author: Member, body: str) -> Any:
    """Publish a post and return it."""
    response = client.post("/posts", json={"body": body}, headers=author.signed_in)
    assert response.status_code == 201, response.text
    return response.json


def edit(client: ContractClient, author: Member, post_id: int, **changes: str) -> Any:
    """Edit a post and return it."""
    response = client.patch(f"/posts/{post_id}", json=changes, headers=author.signed_in)
    assert response.status_code == 200, response.text
    return response.json


def places(post: Any) -> list[tuple[str, str]]:
    """Return what the entities of a post cover, and the tag or the name that each is."""
    return [
        (post["body"][entity["start"] : entity["end"]], entity["tag"] or entity["username"])
        for entity in post["entities"]
    ]


def bodies(client: ContractClient, **query: str) -> list[str]:
    """Return the texts on the first page of the posts that a query picks."""
    response = client.get("/posts", query_string=query)
    assert response.status_code == 200, response.text
    return [post["body"] for post in response.json["items"]]


@pytest.fixture
def ann(make: Factory) -> Member:
    """Who writes."""
    return make.user("ann")


@pytest.fixture
def bob(make: Factory) -> Member:
    """Who is mentioned."""
    return make.user("Bob")


class TestEntities:
    def test_are_shown_in_their_order(self, client: ContractClient, ann: Member, bob: Member) -> None:
        post = publish(client, ann, "\N{OWL}\N{OWL} @bob saw #Schnee.")

        assert post["entities"] == [
            {"start": 3, "end": 7, "tag": None, "username": bob.username},
            {"start": 12, "end": 19, "tag": "schnee", "username": None},
        ]

    def test_are_shown_the_same_everywhere(self, client: ContractClient, ann: Member) -> None:
        post = publish(client, ann, "#snow and #ice for @ann")

        path = f"/posts/{post['id']}"
        assert len(post["entities"]) == 3
        assert client.get(path).json == post
        assert client.get(f"{path}/thread").json["post"] == post
        for listed in ("/posts", "/users/ann/posts", "/feed", "/posts?tag=snow", "/posts?mentions=ann"):
            assert client.get(listed, headers=ann.signed_in).json["items"] == [post]

    @pytest.mark.usefixtures("bob")
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            pytest.param("none", [], id="none"),
            pytest.param("#Été #नमस्ते", [("#Été", "ete"), ("#नमस्ते", "नमस्ते")], id="letters and marks"),
            pytest.param(
                "#cafe\N{COMBINING ACUTE ACCENT} @bob", [("#café", "cafe"), ("@bob", "Bob")], id="NFC"
            ),
            pytest.param("\N{FULLWIDTH NUMBER SIGN}東京 #7", [("\uff03東京", "東京")], id="fullwidth sign"),
            pytest.param("a#b https://c.org/#d ##e", [], id="no hashtags"),
            pytest.param(
                "#snow #SNOW #snow", [("#snow", "snow"), ("#SNOW", "snow"), ("#snow", "snow")], id="again"
            ),
            pytest.param(
                f"{HEART}#snow{HEART}@bob", [("#snow", "snow"), ("@bob", "Bob")], id="between emoji"
            ),
            pytest.param(
                "@bob @BOB @Bob", [("@bob", "Bob"), ("@BOB", "Bob"), ("@Bob", "Bob")], id="any case"
            ),
            pytest.param(
                "(@bob), @bob. @bob's @bob...", [("@bob", "Bob")] * 4, id="punctuation after a name"
            ),
            pytest.param("@bo @bobb @bob-by @nobody @bobé", [], id="nobody"),
            pytest.param("bob@example.com x@bob @bob@example.com", [], id="addresses"),
            pytest.param("@ann, to myself", [("@ann", "ann")], id="oneself"),
            pytest.param("#a " * 46, [("#a", "a")] * 46, id="46 hashtags"),
            pytest.param("#" + "a" * 139, [("#" + "a" * 139, "a" * 139)], id="hashtag of 140"),
            pytest.param(
                "#" + JALLAJALALOUHOU * 139,
                [("#" + JALLAJALALOUHOU * 139, ("جل جلاله" * 139)[:140])],
                id="hashtag that grows",
            ),
        ],
    )
    def test_cover_what_they_are(
        self, client: ContractClient, ann: Member, body: str, expected: list[tuple[str, str]]
    ) -> None:
        post = publish(client, ann, body)

        assert places(post) == expected
        assert client.get("/posts").json["items"] == [post]

    def test_are_of_whoever_is_called_so_with_the_sign_at_the_end(
        self, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        make.user("cleo")
        make.user("cleo.")
        make.user("dan-")

        post = publish(client, ann, "@cleo @cleo. @cleo.. @dan- @dan")

        assert places(post) == [
            ("@cleo", "cleo"),
            ("@cleo.", "cleo."),
            ("@cleo.", "cleo."),
            ("@dan-", "dan-"),
        ]

    def test_are_as_many_as_a_text_can_hold(self, client: ContractClient, ann: Member) -> None:
        post = publish(client, ann, "#é?" * 46 + "#é")

        assert places(post) == [("#é", "e")] * 47
        assert bodies(client, tag="e") == [post["body"]]

    def test_show_what_somebody_is_called_now(self, client: ContractClient, ann: Member, bob: Member) -> None:
        post = publish(client, ann, "Hello, @bob.")

        client.patch("/me", json={"username": "Robert"}, headers=bob.signed_in)

        assert places(client.get(f"/posts/{post['id']}").json) == [("@bob", "Robert")]
        assert places(client.get("/posts").json["items"][0]) == [("@bob", "Robert")]
        assert bodies(client, mentions="robert") == ["Hello, @bob."]
        assert bodies(client, mentions="bob") == []

    def test_go_away_with_whom_they_mention_and_nothing_else(
        self, client: ContractClient, make: Factory, ann: Member, bob: Member
    ) -> None:
        post = publish(client, ann, "@bob, #snow for @ann and @bob.")

        client.delete("/me", json={"password": bob.password}, headers=bob.signed_in)
        make.user("bob")

        left: Any = client.get(f"/posts/{post['id']}").json
        assert left == {**post, "entities": post["entities"][1:3], "etag": left["etag"]}
        assert left["etag"] != post["etag"]
        assert bodies(client, mentions="bob") == []
        assert bodies(client, mentions="ann") == [post["body"]]

    @pytest.mark.usefixtures("bob")
    def test_are_found_anew_in_new_text(self, client: ContractClient, ann: Member) -> None:
        post = publish(client, ann, "#snow @bob #ice")

        edited = edit(client, ann, post["id"], body="@ann #ICE")
        again = edit(client, ann, post["id"], body="#ice @ann #rain")

        assert places(edited) == [("@ann", "ann"), ("#ICE", "ice")]
        assert places(again) == [("#ice", "ice"), ("@ann", "ann"), ("#rain", "rain")]
        assert client.get(f"/posts/{post['id']}").json == again
        assert [bodies(client, tag=tag) for tag in ("snow", "ice")] == [[], ["#ice @ann #rain"]]
        assert [bodies(client, mentions=name) for name in ("bob", "ann")] == [[], ["#ice @ann #rain"]]

    @pytest.mark.usefixtures("bob")
    @pytest.mark.parametrize("changes", [{}, {"body": "#snow @bob #snow"}], ids=["nothing", "the same text"])
    @pytest.mark.parametrize("before", ["#snow @bob #snow", "#ice"], ids=["new", "edited"])
    def test_stay_when_the_text_does(
        self, client: ContractClient, ann: Member, before: str, changes: dict[str, str]
    ) -> None:
        post = publish(client, ann, before)
        post = edit(client, ann, post["id"], body="#snow @bob #snow") if before == "#ice" else post

        again = edit(client, ann, post["id"], **changes)

        assert again == post

    def test_go_away_with_the_last_mark(self, client: ContractClient, ann: Member) -> None:
        post = publish(client, ann, "#snow")

        edited = edit(client, ann, post["id"], body="snow")

        assert edited["entities"] == []
        assert bodies(client, tag="snow") == []

    def test_are_those_of_the_text_after_many_edits_at_once(
        self, app: Flask, client: ContractClient, ann: Member, bob: Member
    ) -> None:
        post = publish(client, ann, "#snow")

        def editing(number: int) -> Callable[[], Any]:
            return lambda: edit(
                ContractClient(app), ann, post["id"], body=f"@{bob.username} #n{number} " * number
            )

        at_once(*map(editing, range(1, 7)))

        left: Any = client.get(f"/posts/{post['id']}").json
        number = len(left["entities"]) // 2
        assert places(left) == [("@Bob", "Bob"), (f"#n{number}", f"n{number}")] * number

    # On SQLite the transaction of a request that writes keeps all others waiting.
    @pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
    @pytest.mark.parametrize("is_edit", [False, True], ids=["publish", "edit"])
    def test_leave_out_whom_somebody_deletes_meanwhile(
        self, app: Flask, client: ContractClient, ann: Member, bob: Member, is_edit: bool
    ) -> None:
        post = publish(client, ann, "Hello.")
        write = client.patch if is_edit else client.post
        path = f"/posts/{post['id']}" if is_edit else "/posts"
        leave = partial(
            ContractClient(app).delete, "/me", json={"password": bob.password}, headers=bob.signed_in
        )

        with meanwhile(app, leave, TRANSACTION_BEGUN):
            response = write(path, json={"body": "#snow @bob"}, headers=ann.signed_in)

        assert response.status_code == (200 if is_edit else 201)
        assert places(response.json) == [("#snow", "snow")]

    def test_never_stand_in_the_way_of_who_leaves(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        writers, leavers = (
            [make.user(f"{kind}{number}") for number in range(4)] for kind in ("writer", "leaver")
        )
        for writer in writers:
            for leaver in leavers:
                make.follow(leaver, writer)
                make.follow(writer, leaver)
        body = " ".join(f"@{leaver.username}" for leaver in leavers)

        def write(writer: Member) -> int:
            own = ContractClient(app)
            return own.post("/posts", json={"body": body}, headers=writer.signed_in).status_code

        def leave(leaver: Member) -> int:
            sent = {"password": leaver.password}
            return ContractClient(app).delete("/me", json=sent, headers=leaver.signed_in).status_code

        statuses = at_once(
            *(partial(write, writer) for writer in writers), *(partial(leave, leaver) for leaver in leavers)
        )

        assert statuses == [201] * 4 + [204] * 4
        assert [post["entities"] for post in client.get("/posts").json["items"]] == [[]] * 4


class TestListByTag:
    @pytest.mark.parametrize(
        "tag",
        [
            pytest.param("garten", id="tag"),
            pytest.param("#garten", id="with its sign"),
            pytest.param("\N{FULLWIDTH NUMBER SIGN}garten", id="with a fullwidth sign"),
            pytest.param("GÄRTEN", id="case and accents"),
            pytest.param("ga\N{COMBINING DIAERESIS}rten", id="decomposed"),
        ],
    )
    def test_gives_each_post_once_newest_first(
        self, client: ContractClient, ann: Member, bob: Member, tag: str
    ) -> None:
        publish(client, ann, "#garten")
        publish(client, ann, "#gartenbau, garten")
        publish(client, bob, "#Gärten #garten #GARTEN")
        publish(client, bob, "#garten_")

        assert bodies(client, tag=tag) == ["#Gärten #garten #GARTEN", "#garten"]

    @pytest.mark.parametrize("tag", ["gart", "garten*", "@ann", "ann", "%", "#", "##garten", "'", '"', "7"])
    def test_gives_nothing_for_what_is_no_tag(self, client: ContractClient, ann: Member, tag: str) -> None:
        publish(client, ann, "#garten @ann #7")

        assert bodies(client, tag=tag) == []

    @pytest.mark.parametrize("tag", ["a" * 139, JALLAJALALOUHOU * 139], ids=["long", "that grows"])
    def test_takes_what_an_entity_shows(self, client: ContractClient, ann: Member, tag: str) -> None:
        post = publish(client, ann, f"#{tag}")

        assert bodies(client, tag=f"#{tag}") == bodies(client, tag=post["entities"][0]["tag"]) == [f"#{tag}"]

    def test_is_current_after_deleting(self, client: ContractClient, ann: Member, bob: Member) -> None:
        kept, gone = publish(client, ann, "#snow kept"), publish(client, ann, "#snow")
        publish(client, bob, "#snow too")

        client.delete(f"/posts/{gone['id']}", headers=ann.signed_in)
        client.delete("/me", json={"password": bob.password}, headers=bob.signed_in)

        assert bodies(client, tag="snow") == [kept["body"]]


class TestListByMention:
    @pytest.mark.parametrize("name", ["bob", "Bob", "BOB"])
    def test_gives_each_post_once_newest_first(
        self, client: ContractClient, ann: Member, bob: Member, name: str
    ) -> None:
        publish(client, ann, "@bob")
        publish(client, ann, "@bobby, bob #bob @ann")
        publish(client, bob, "@BOB is @bob")

        assert bodies(client, mentions=name) == ["@BOB is @bob", "@bob"]

    @pytest.mark.usefixtures("bob")
    @pytest.mark.parametrize("name", ["nobody", "bo", "@bob", "bob@example.com", "%", "b_b", "é", "'"])
    def test_gives_nothing_for_nobody(self, client: ContractClient, ann: Member, name: str) -> None:
        publish(client, ann, "@bob @nobody #bo")

        assert bodies(client, mentions=name) == []

    @pytest.mark.usefixtures("bob")
    def test_is_current_after_deleting(self, client: ContractClient, ann: Member) -> None:
        kept, gone = publish(client, ann, "@bob kept"), publish(client, ann, "@bob")

        client.delete(f"/posts/{gone['id']}", headers=ann.signed_in)

        assert bodies(client, mentions="bob") == [kept["body"]]

    def test_does_not_find_who_was_called_so_later(
        self, client: ContractClient, make: Factory, ann: Member
    ) -> None:
        publish(client, ann, "@cleo")
        make.user("cleo")

        assert bodies(client, mentions="cleo") == []


class TestListsByEntities:
    @pytest.mark.usefixtures("bob")
    @pytest.mark.parametrize("limit", [1, 2, 5])
    @pytest.mark.parametrize(
        "query",
        [
            pytest.param({"tag": "snow"}, id="tag"),
            pytest.param({"mentions": "bob"}, id="mentions"),
            pytest.param({"tag": "snow", "mentions": "bob"}, id="both"),
            pytest.param({"tag": "snow", "mentions": "bob", "author": "ann"}, id="and an author"),
        ],
    )
    def test_are_walked_page_by_page_and_back(
        self, client: ContractClient, ann: Member, query: dict[str, str], limit: int
    ) -> None:
        picked = []
        for number in range(5):
            picked.append(publish(client, ann, f"{number} #snow @bob #snow @bob")["id"])
            publish(client, ann, f"{number} #ice @ann")

        forth, back = walk_both_ways(client, "/posts", limit, {}, **query)

        assert items(forth, "id") == picked[::-1]
        assert items(back[::-1], "id") == picked[::-1]

    @pytest.mark.parametrize(("parameter", "maximum"), [("tag", 140), ("mentions", 64)])
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            pytest.param("", "blank", id="empty"),
            pytest.param("%20", "blank", id="blank"),
            pytest.param("a%00", "control_character", id="NUL"),
            pytest.param("{0}", "too_long", id="long"),
            pytest.param("a&{1}=b", "repeated", id="twice"),
        ],
    )
    def test_refuse_what_is_not_valid(
        self, client: ContractClient, parameter: str, maximum: int, value: str, code: str
    ) -> None:
        response = client.get(f"/posts?{parameter}={value.format('a' * (maximum + 1), parameter)}")

        assert_problem(response, 422, "invalid_input", {"parameter": parameter, "code": code})
