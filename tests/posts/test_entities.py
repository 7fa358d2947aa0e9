"""URLs, hashtags and mentions: in the representation of a post, and as filters of lists."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask

from api.db import db
from api.models import Entity
from api.posts.rebuilding import rebuild_posts
from tests.support.concurrency import TRANSACTION_BEGUN, concurrently, during_request
from tests.support.contract import ContractClient
from tests.support.databases import no_sql
from tests.support.factories import Account, Factory
from tests.support.pagination import items, read_both_ways
from tests.support.problems import assert_problem

HEART = "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}"
JALLAJALALOUHOU = "\N{ARABIC LIGATURE JALLAJALALOUHOU}"  # Folds to eight code points.


def publish(client: ContractClient, author: Account, body: str) -> Any:
    """Publish a post and return it."""
    response = client.post("/posts", json={"body": body}, headers=author.signed_in)
    assert response.status_code == 201, response.text
    return response.json


def edit(client: ContractClient, author: Account, post_id: int, **changes: str) -> Any:
    """Edit a post and return it."""
    response = client.patch(f"/posts/{post_id}", json=changes, headers=author.signed_in)
    assert response.status_code == 200, response.text
    return response.json


def covered(post: Any) -> list[tuple[str, str]]:
    """Return the text that each entity and URL of a post covers, with its tag, username or URL."""
    found = sorted(post["entities"] + post["urls"], key=lambda entity: entity["start"])
    return [
        (
            post["body"][entity["start"] : entity["end"]],
            entity.get("tag") or entity.get("username") or entity["url"],
        )
        for entity in found
    ]


def bodies(client: ContractClient, **query: str) -> list[str]:
    """Return the bodies of the posts on the first page of a list."""
    response = client.get("/posts", query_string=query)
    assert response.status_code == 200, response.text
    return [post["body"] for post in response.json["items"]]


def rebuild(app: Flask) -> None:
    """Rebuild the entities of all posts."""
    with app.app_context():
        rebuild_posts()


@pytest.fixture
def ann(make: Factory) -> Account:
    """The author of the posts."""
    return make.user("ann")


@pytest.fixture
def bob(make: Factory) -> Account:
    """A user who is mentioned."""
    return make.user("Bob")


class TestEntities:
    def test_are_listed_in_the_order_of_the_text(
        self, client: ContractClient, ann: Account, bob: Account
    ) -> None:
        post = publish(client, ann, "\N{OWL}\N{OWL} @bob saw #Schnee, see example.com.")

        assert post["entities"] == [
            {"start": 3, "end": 7, "tag": None, "username": bob.username},
            {"start": 12, "end": 19, "tag": "schnee", "username": None},
        ]
        assert post["urls"] == [{"start": 25, "end": 36, "url": "https://example.com"}]

    def test_are_the_same_in_all_lists(self, client: ContractClient, ann: Account) -> None:
        post = publish(client, ann, "#snow and #ice for @ann: https://example.com/#snow")

        path = f"/posts/{post['id']}"
        assert (len(post["entities"]), len(post["urls"])) == (3, 1)
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
            pytest.param("a#b ##e", [], id="no hashtags"),
            pytest.param(
                "See https://en.example/wiki/Oracle_America,_Inc.#Decision (c.org/@ann).",
                [
                    ("https://en.example/wiki/Oracle_America,_Inc.#Decision",) * 2,
                    ("c.org/@ann", "https://c.org/@ann"),
                ],
                id="URLs",
            ),
            pytest.param(
                "https://\N{OWL}.example https://é.example/\N{OWL} ftp://é.example/#a",
                [("https://é.example/\N{OWL}", "https://xn--9ca.example/%F0%9F%A6%89")],
                id="URL with characters beyond ASCII",
            ),
            pytest.param(
                "http://a.b/" + "\N{OWL}" * 129,
                [("http://a.b/" + "\N{OWL}" * 129, "http://a.b/" + "%F0%9F%A6%89" * 129)],
                id="longest URL",
            ),
            pytest.param("今日は#雪 @bobさん", [("#雪", "雪"), ("@bob", "Bob")], id="without spaces"),
            pytest.param(
                "#snow #SNOW #snow",
                [("#snow", "snow"), ("#SNOW", "snow"), ("#snow", "snow")],
                id="repeated hashtag",
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
            pytest.param("@bo @bobb @bob-by @unknown @bobé", [], id="unknown usernames"),
            pytest.param("bob@example.com x@bob @bob@example.com", [], id="addresses"),
            pytest.param("@ann, to myself", [("@ann", "ann")], id="the author"),
            pytest.param("#a " * 46, [("#a", "a")] * 46, id="46 hashtags"),
            pytest.param("#" + "a" * 139, [("#" + "a" * 139, "a" * 139)], id="hashtag of 140 code points"),
            pytest.param(
                "#" + JALLAJALALOUHOU * 139,
                [("#" + JALLAJALALOUHOU * 139, ("جل جلاله" * 139)[:140])],
                id="hashtag that folding makes longer",
            ),
        ],
    )
    def test_cover_the_sign_and_the_tag_or_username(
        self, client: ContractClient, ann: Account, body: str, expected: list[tuple[str, str]]
    ) -> None:
        post = publish(client, ann, body)

        assert covered(post) == expected
        assert client.get("/posts").json["items"] == [post]

    def test_mention_the_user_with_the_longest_matching_name(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        make.user("cleo")
        make.user("cleo.")
        make.user("dan-")

        post = publish(client, ann, "@cleo @cleo. @cleo.. @dan- @dan")

        assert covered(post) == [
            ("@cleo", "cleo"),
            ("@cleo.", "cleo."),
            ("@cleo.", "cleo."),
            ("@dan-", "dan-"),
        ]

    def test_have_no_maximum_number(self, client: ContractClient, ann: Account) -> None:
        post = publish(client, ann, "#é?" * 46 + "#é")

        assert covered(post) == [("#é", "e")] * 47
        assert bodies(client, tag="e") == [post["body"]]

    def test_have_the_current_username_after_renaming(
        self, client: ContractClient, ann: Account, bob: Account
    ) -> None:
        post = publish(client, ann, "Hello, @bob.")

        client.patch("/me", json={"username": "Robert"}, headers=bob.signed_in)

        assert covered(client.get(f"/posts/{post['id']}").json) == [("@bob", "Robert")]
        assert covered(client.get("/posts").json["items"][0]) == [("@bob", "Robert")]
        assert bodies(client, mentions="robert") == ["Hello, @bob."]
        assert bodies(client, mentions="bob") == []

    def test_of_a_deleted_user_are_removed(
        self, client: ContractClient, make: Factory, ann: Account, bob: Account
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
    def test_are_replaced_when_the_text_is_edited(self, client: ContractClient, ann: Account) -> None:
        post = publish(client, ann, "#snow @bob #ice")

        edited = edit(client, ann, post["id"], body="@ann #ICE")
        again = edit(client, ann, post["id"], body="#ice @ann #rain")

        assert covered(edited) == [("@ann", "ann"), ("#ICE", "ice")]
        assert covered(again) == [("#ice", "ice"), ("@ann", "ann"), ("#rain", "rain")]
        assert client.get(f"/posts/{post['id']}").json == again
        assert [bodies(client, tag=tag) for tag in ("snow", "ice")] == [[], ["#ice @ann #rain"]]
        assert [bodies(client, mentions=name) for name in ("bob", "ann")] == [[], ["#ice @ann #rain"]]

    @pytest.mark.usefixtures("bob")
    @pytest.mark.parametrize("changes", [{}, {"body": "#snow @bob #snow"}], ids=["nothing", "the same text"])
    @pytest.mark.parametrize("before", ["#snow @bob #snow", "#ice"], ids=["new", "edited"])
    def test_are_unchanged_if_the_text_is_unchanged(
        self, client: ContractClient, ann: Account, before: str, changes: dict[str, str]
    ) -> None:
        post = publish(client, ann, before)
        post = edit(client, ann, post["id"], body="#snow @bob #snow") if before == "#ice" else post

        again = edit(client, ann, post["id"], **changes)

        assert again == post

    def test_mention_the_same_user_if_the_text_is_unchanged(
        self, client: ContractClient, ann: Account, bob: Account
    ) -> None:
        post = publish(client, ann, "Hello, @bob.")
        client.patch("/me", json={"username": "robert"}, headers=bob.signed_in)
        client.patch("/me", json={"username": "bob"}, headers=ann.signed_in)

        again = edit(client, ann, post["id"], body="Hello, @bob.")

        assert covered(again) == [("@bob", "robert")]

    def test_have_the_url_of_the_edited_text(self, client: ContractClient, ann: Account) -> None:
        post = publish(client, ann, "https://example.com/#snow")

        edited = edit(client, ann, post["id"], body="#snow https://example.com/b")

        assert covered(edited) == [("#snow", "snow"), ("https://example.com/b",) * 2]
        assert client.get(f"/posts/{post['id']}").json == edited
        assert bodies(client, tag="snow") == [edited["body"]]

    def test_are_removed_if_the_new_text_has_none(self, client: ContractClient, ann: Account) -> None:
        post = publish(client, ann, "#snow")

        edited = edit(client, ann, post["id"], body="snow")

        assert edited["entities"] == []
        assert bodies(client, tag="snow") == []

    def test_match_the_text_after_concurrent_edits(
        self, app: Flask, client: ContractClient, ann: Account, bob: Account
    ) -> None:
        post = publish(client, ann, "#snow")

        def editing(number: int) -> Callable[[], Any]:
            return lambda: edit(
                ContractClient(app), ann, post["id"], body=f"@{bob.username} #n{number} " * number
            )

        concurrently(*map(editing, range(1, 7)))

        left: Any = client.get(f"/posts/{post['id']}").json
        number = len(left["entities"]) // 2
        assert covered(left) == [("@Bob", "Bob"), (f"#n{number}", f"n{number}")] * number

    # On SQLite a transaction that writes blocks all other writers.
    @pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
    @pytest.mark.parametrize("is_edit", [False, True], ids=["publish", "edit"])
    def test_omit_a_user_who_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, ann: Account, bob: Account, is_edit: bool
    ) -> None:
        post = publish(client, ann, "Hello.")
        write = client.patch if is_edit else client.post
        path = f"/posts/{post['id']}" if is_edit else "/posts"
        leave = partial(
            ContractClient(app).delete, "/me", json={"password": bob.password}, headers=bob.signed_in
        )

        with during_request(app, leave, TRANSACTION_BEGUN):
            response = write(path, json={"body": "#snow @bob"}, headers=ann.signed_in)

        assert response.status_code == (200 if is_edit else 201)
        assert covered(response.json) == [("#snow", "snow")]

    def test_of_concurrently_deleted_users_are_omitted(
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

        def write(writer: Account) -> int:
            own = ContractClient(app)
            return own.post("/posts", json={"body": body}, headers=writer.signed_in).status_code

        def leave(leaver: Account) -> int:
            sent = {"password": leaver.password}
            return ContractClient(app).delete("/me", json=sent, headers=leaver.signed_in).status_code

        statuses = concurrently(
            *(partial(write, writer) for writer in writers), *(partial(leave, leaver) for leaver in leavers)
        )

        assert statuses == [201] * 4 + [204] * 4
        assert [post["entities"] for post in client.get("/posts").json["items"]] == [[]] * 4

    def test_are_rebuilt_with_the_users_that_were_mentioned(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account, bob: Account
    ) -> None:
        body = "@Bob @bobさん @cleo #snow a.com https://b.com/?u=@ann#ice"
        post_id = make.post(ann, body)
        make.user("cleo")
        make.mention(post_id, bob)
        with app.app_context():
            # As before URLs were entities.
            for text, tag, user_id in [
                ("#snow", "snow", None),
                ("@ann", None, ann.id),
                ("#ice", "ice", None),
            ]:
                start = body.index(text)
                place = {"post_id": post_id, "start": start, "end": start + len(text)}
                db.session.add(Entity(**place, tag=tag, user_id=user_id, is_repeat=False))
            db.session.commit()
        client.patch("/me", json={"username": "Robert"}, headers=bob.signed_in)
        make.user("bob", email="bob.2@example.com")

        rebuild(app)

        assert covered(client.get(f"/posts/{post_id}").json) == [
            ("@Bob", "Robert"),
            ("@bob", "Robert"),
            ("#snow", "snow"),
            ("a.com", "https://a.com"),
            ("https://b.com/?u=@ann#ice",) * 2,
        ]
        assert [bodies(client, tag=tag) for tag in ("snow", "ice")] == [[body], []]
        assert [bodies(client, mentions=name) for name in ("robert", "bob", "cleo", "ann")] == [
            [body],
            [],
            [],
            [],
        ]

    def test_are_unchanged_if_they_are_rebuilt(
        self, app: Flask, client: ContractClient, ann: Account, bob: Account
    ) -> None:
        post = publish(client, ann, f"#snow @{bob.username} https://example.com @ANN #snow")

        rebuild(app)

        assert client.get(f"/posts/{post['id']}").json == post


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
    def test_returns_each_post_once_newest_first(
        self, client: ContractClient, ann: Account, bob: Account, tag: str
    ) -> None:
        publish(client, ann, "#garten")
        publish(client, ann, "#gartenbau, garten")
        publish(client, bob, "#Gärten #garten #GARTEN")
        publish(client, bob, "#garten_")

        assert bodies(client, tag=tag) == ["#Gärten #garten #GARTEN", "#garten"]

    @pytest.mark.parametrize(
        ("typed", "others"),
        [
            pytest.param("می\u200cخواهم", ["میخواهم"], id="joiner"),
            pytest.param("ന്\u200d", ["ന്"], id="joiner at the end"),
            pytest.param("メ〜テレ", ["メ～テレ"], id="wave dash"),
            pytest.param("メ～テレ", ["メ〜テレ"], id="fullwidth tilde"),
            pytest.param("楽しい〜", ["楽しい", "楽しい～"], id="wave dash at the end"),
            pytest.param("ジョン・レノン", ["ｼﾞｮﾝ･ﾚﾉﾝ"], id="katakana middle dot"),
            pytest.param("paral·lel", ["PARAL·LEL"], id="middle dot"),
        ],
    )
    def test_finds_a_tag_as_it_was_typed(
        self, client: ContractClient, ann: Account, typed: str, others: list[str]
    ) -> None:
        post = publish(client, ann, f"#{typed}")

        for tag in [typed, f"#{typed}", post["entities"][0]["tag"], *others]:
            assert bodies(client, tag=tag) == [f"#{typed}"]

    @pytest.mark.parametrize(
        ("hashtag", "tag"),
        [
            ("#Łódź", "lodz"),
            ("#lodz", "Łódź"),
            ("#Ærø", "aero"),
            ("#DIYARBAKIR", "diyarbak\N{LATIN SMALL LETTER DOTLESS I}r"),
            ("#مُحَمَّد", "محمد"),
            ("#שָׁלוֹם", "שלום"),
        ],
    )
    def test_ignores_accents_and_vowel_points(
        self, client: ContractClient, ann: Account, hashtag: str, tag: str
    ) -> None:
        publish(client, ann, hashtag)

        assert bodies(client, tag=tag) == [hashtag]

    @pytest.mark.parametrize("tag", ["gart", "garten*", "@ann", "ann", "%", "#", "##garten", "'", '"', "7"])
    def test_is_empty_for_an_unknown_tag(self, client: ContractClient, ann: Account, tag: str) -> None:
        publish(client, ann, "#garten @ann #7")

        assert bodies(client, tag=tag) == []

    @pytest.mark.parametrize("tag", ["a" * 139, JALLAJALALOUHOU * 139], ids=["long", "longer when folded"])
    def test_accepts_the_tag_of_an_entity(self, client: ContractClient, ann: Account, tag: str) -> None:
        post = publish(client, ann, f"#{tag}")

        assert bodies(client, tag=f"#{tag}") == bodies(client, tag=post["entities"][0]["tag"]) == [f"#{tag}"]

    def test_omits_deleted_posts(self, client: ContractClient, ann: Account, bob: Account) -> None:
        remaining, gone = publish(client, ann, "#snow remaining"), publish(client, ann, "#snow")
        publish(client, bob, "#snow too")

        client.delete(f"/posts/{gone['id']}", headers=ann.signed_in)
        client.delete("/me", json={"password": bob.password}, headers=bob.signed_in)

        assert bodies(client, tag="snow") == [remaining["body"]]


class TestListByMention:
    @pytest.mark.parametrize("name", ["bob", "Bob", "BOB", " bob\t"])
    def test_returns_each_post_once_newest_first(
        self, client: ContractClient, ann: Account, bob: Account, name: str
    ) -> None:
        publish(client, ann, "@bob")
        publish(client, ann, "@bobby, bob #bob @ann")
        publish(client, bob, "@BOB is @bob")

        assert bodies(client, mentions=name) == ["@BOB is @bob", "@bob"]

    @pytest.mark.usefixtures("bob")
    @pytest.mark.parametrize("name", ["unknown", "bo", "@bob", "bob@example.com", "%", "b_b", "é", "'"])
    def test_is_empty_for_an_unknown_username(self, client: ContractClient, ann: Account, name: str) -> None:
        publish(client, ann, "@bob @unknown #bo")

        assert bodies(client, mentions=name) == []

    @pytest.mark.usefixtures("bob")
    def test_omits_deleted_posts(self, client: ContractClient, ann: Account) -> None:
        remaining, gone = publish(client, ann, "@bob remaining"), publish(client, ann, "@bob")

        client.delete(f"/posts/{gone['id']}", headers=ann.signed_in)

        assert bodies(client, mentions="bob") == [remaining["body"]]

    def test_does_not_find_users_who_registered_later(
        self, client: ContractClient, make: Factory, ann: Account
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
            pytest.param({"tag": "snow", "mentions": "bob", "author": "ann"}, id="tag, mentions and author"),
        ],
    )
    def test_have_pages_in_both_directions(
        self, client: ContractClient, ann: Account, query: dict[str, str], limit: int
    ) -> None:
        picked = []
        for number in range(5):
            picked.append(publish(client, ann, f"{number} #snow @bob #snow @bob")["id"])
            publish(client, ann, f"{number} #ice @ann")

        forth, back = read_both_ways(client, "/posts", limit, {}, **query)

        assert items(forth, "id") == picked[::-1]
        assert items(back[::-1], "id") == picked[::-1]

    @no_sql
    @pytest.mark.parametrize(("parameter", "maximum"), [("tag", 140), ("mentions", 64)])
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            pytest.param("", "blank", id="empty"),
            pytest.param("%20", "blank", id="blank"),
            pytest.param("a%00", "control_character", id="NUL"),
            pytest.param("{0}", "too_long", id="too long"),
            pytest.param("a&{1}=b", "repeated", id="repeated parameter"),
        ],
    )
    def test_refuse_invalid_parameters(
        self, client: ContractClient, parameter: str, maximum: int, value: str, code: str
    ) -> None:
        response = client.get(f"/posts?{parameter}={value.format('a' * (maximum + 1), parameter)}")

        assert_problem(response, 422, "invalid_input", {"parameter": parameter, "code": code})
