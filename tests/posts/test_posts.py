"""Posts: publish, read, list, edit and delete them."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from flask import Flask

from api.db import db
from tests.support.concurrency import TRANSACTION_BEGUN, concurrently, during_request
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_sqlite
from tests.support.factories import Factory
from tests.support.problems import assert_problem

MERGE_PATCH = "application/merge-patch+json"
LONG_AGO = datetime(2020, 2, 29, 23, 59, 59, 999_999, UTC)
E_ACUTE = "e\N{COMBINING ACUTE ACCENT}"  # Two code points, one after NFC.
ALPHA = "\N{GREEK SMALL LETTER ALPHA}\u0313\u0300\u0345"  # Four code points, one after NFC.
QA = "\N{DEVANAGARI LETTER QA}"  # One code point, two after NFC.
NOTE = "\N{MUSICAL SYMBOL HALF NOTE}"  # One code point, two after NFC, beyond 16 bits.

REFUSED_BODIES = [
    pytest.param({"body": ""}, "/body", "blank", id="empty"),
    pytest.param({"body": " \t\n\N{NO-BREAK SPACE}"}, "/body", "blank", id="blank"),
    pytest.param({"body": "\u3164\u2800\ufe0f\u034f"}, "/body", "blank", id="nothing visible"),
    pytest.param({"body": "a" * 141}, "/body", "too_long", id="141"),
    pytest.param({"body": E_ACUTE * 141}, "/body", "too_long", id="141 composed"),
    pytest.param({"body": ALPHA * 141}, "/body", "too_long", id="141 of four code points"),
    pytest.param({"body": QA * 71}, "/body", "too_long", id="71 that NFC makes 142"),
    pytest.param({"body": "a" * 60_000}, "/body", "too_long", id="60,000"),
    pytest.param({"body": "a\0b"}, "/body", "control_character", id="NUL"),
    pytest.param({"body": "a\x1b[2Jb"}, "/body", "control_character", id="escape"),
    pytest.param({"body": "a\vb"}, "/body", "control_character", id="vertical tab"),
    pytest.param({"body": "\r\n\u2028"}, "/body", "blank", id="only line ends"),
    pytest.param({"body": "\r\n" * 70 + "a" * 71}, "/body", "too_long", id="141 with CRLF"),
    pytest.param({"body": "a\x85b"}, "/body", "control_character", id="C1 control"),
    pytest.param({"body": None}, "/body", "null_not_allowed", id="null"),
    pytest.param({"body": 7}, "/body", "wrong_type", id="number"),
    pytest.param({"body": True}, "/body", "wrong_type", id="boolean"),
    pytest.param({"body": ["Hello."]}, "/body", "wrong_type", id="list"),
    pytest.param({"body": {"text": "Hello."}}, "/body", "wrong_type", id="object"),
    pytest.param({"body": "Hello.", "id": 7}, "/id", "unknown_member", id="id"),
    pytest.param({"body": "Hello.", "user_id": 7}, "/user_id", "unknown_member", id="author's id"),
    pytest.param({"body": "Hello.", "author": {}}, "/author", "unknown_member", id="author"),
    pytest.param({"body": "Hello.", "timestamp": ""}, "/timestamp", "unknown_member", id="timestamp"),
    pytest.param({"body": "Hello.", "version": 1}, "/version", "unknown_member", id="version"),
    pytest.param({"body": "Hello.", "a/b~": 1}, "/a~1b~0", "unknown_member", id="escaped in a pointer"),
]
ACCEPTED_BODIES = [
    pytest.param("a", "a", id="1"),
    pytest.param("a" * 140, "a" * 140, id="140"),
    pytest.param(E_ACUTE * 140, "é" * 140, id="140 composed"),
    pytest.param(ALPHA * 140, "ᾂ" * 140, id="140 of four code points"),
    pytest.param(QA * 70, "क\u093c" * 70, id="70 that NFC makes 140"),
    pytest.param("🦉" * 140, "🦉" * 140, id="140 beyond 16 bits"),
    pytest.param("g\u0308\u0323" * 46, "g\u0323\u0308" * 46, id="combining marks in another order"),
    pytest.param(NOTE, "\U0001d157\U0001d165", id="decomposed by NFC"),
    pytest.param(" one\n\ttwo ", " one\n\ttwo ", id="spaces, a newline and a tab"),
    pytest.param("a\r\nb\rc\u2028d\u2029e\r\r\n", "a\nb\nc\nd\ne\n\n", id="line ends"),
    pytest.param("\r\n" * 139 + "a", "\n" * 139 + "a", id="140 with CRLF"),
    pytest.param("<b>'; -- %s \\", "<b>'; -- %s \\", id="characters special in HTML or SQL"),
]
INVALID_IDS = [
    pytest.param("0", id="zero"),
    pytest.param("-1", id="negative"),
    pytest.param("01", id="leading zero"),
    pytest.param("1.0", id="decimal"),
    pytest.param("1_0", id="underscore"),
    pytest.param("abc", id="letters"),
    pytest.param("\N{ARABIC-INDIC DIGIT ONE}", id="other digits"),
    pytest.param(str(2**63 - 1), id="2^63-1"),
    pytest.param(str(2**63), id="2^63"),
    pytest.param(str(2**70), id="2^70"),
]


def bodies(client: ContractClient, path: str = "/posts") -> list[str]:
    """Return the bodies of the posts on the first page of a list."""
    return [post["body"] for post in client.get(path).json["items"]]


class TestCreatePost:
    def test_publishes_a_post(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")

        response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert response.status_code == 201
        assert response.json["body"] == "Hello."
        assert response.json["author"]["username"] == "ann"
        assert response.json["edited_at"] is None
        assert response.headers["Location"] == f"{PREFIX}/posts/{response.json['id']}"
        assert client.get(f"/posts/{response.json['id']}").json == response.json
        assert bodies(client) == ["Hello."]

    def test_has_a_location_with_the_path_prefix_of_the_service(self, app: Flask, make: Factory) -> None:
        headers = make.user().signed_in

        response = app.test_client().post(
            f"{PREFIX}/posts", json={"body": "Hello."}, headers=headers, base_url="http://localhost/blog"
        )

        assert response.headers["Location"] == f"/blog{PREFIX}/posts/{response.json['id']}"

    def test_returns_the_timestamp_in_utc(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        before = datetime.now(UTC).isoformat(timespec="milliseconds")

        post = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in).json

        after = datetime.now(UTC).isoformat(timespec="milliseconds")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", post["timestamp"])
        assert before.removesuffix("+00:00") <= post["timestamp"].removesuffix("Z")
        assert post["timestamp"].removesuffix("Z") <= after.removesuffix("+00:00")

    @pytest.mark.parametrize(("sent", "stored"), ACCEPTED_BODIES)
    def test_stores_the_text_in_nfc(
        self, client: ContractClient, make: Factory, sent: str, stored: str
    ) -> None:
        ann = make.user()

        response = client.post("/posts", json={"body": sent}, headers=ann.signed_in)

        assert response.status_code == 201
        assert response.json["body"] == stored
        assert client.get(f"/posts/{response.json['id']}").json["body"] == stored

    @on_sqlite
    @pytest.mark.parametrize(
        ("sent", "pointer", "code"),
        [*REFUSED_BODIES, pytest.param({}, "/body", "required", id="missing")],
    )
    def test_refuses_invalid_input(
        self, client: ContractClient, make: Factory, sent: dict[str, Any], pointer: str, code: str
    ) -> None:
        ann = make.user()

        response = client.post("/posts", json=sent, headers=ann.signed_in)

        assert response.status_code == 422
        assert [(error["pointer"], error["code"]) for error in response.json["errors"]] == [(pointer, code)]
        assert bodies(client) == []

    def test_accepts_the_same_text_twice(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        make.post(ann, "Hello.")

        response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert response.status_code == 201
        assert bodies(client) == ["Hello.", "Hello."]

    def test_does_not_reuse_the_ids_of_deleted_posts(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert response.json["id"] > post_id

    # On SQLite a transaction that writes blocks all other writers.
    @pytest.mark.parametrize("migrated_app", ["postgresql"], indirect=True)
    def test_refuses_a_user_whose_account_is_deleted_during_the_request(
        self, app: Flask, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user()
        elsewhere = partial(
            ContractClient(app).delete, "/me", json={"password": ann.password}, headers=ann.signed_in
        )

        with during_request(app, elsewhere, TRANSACTION_BEGUN):
            response = client.post("/posts", json={"body": "Hello."}, headers=ann.signed_in)

        assert response.status_code in {401, 409}
        assert bodies(client) == []


class TestCreateReply:
    def test_returns_the_id_of_the_parent(self, client: ContractClient, make: Factory) -> None:
        ann, post_id = make.user(), make.post()
        sent = {"body": "Yes.", "in_reply_to_id": post_id}

        response = client.post("/posts", json=sent, headers=ann.signed_in)

        assert response.status_code == 201
        assert (response.json["is_reply"], response.json["in_reply_to_id"]) == (True, post_id)
        assert client.get(f"/posts/{response.json['id']}").json == response.json
        assert bodies(client, f"/posts/{post_id}/replies") == ["Yes."]

    @pytest.mark.parametrize(
        ("post_id", "code"),
        [
            pytest.param(2**62, "not_found", id="unknown"),
            pytest.param(2**63 - 1, "not_found", id="2^63-1"),
            pytest.param(0, "out_of_range", id="zero"),
            pytest.param(-1, "out_of_range", id="negative"),
            pytest.param(2**63, "out_of_range", id="2^63"),
            pytest.param("one", "wrong_type", id="text"),
            pytest.param("1", "wrong_type", id="digits as text"),
            pytest.param(1.0, "wrong_type", id="decimal"),
            pytest.param(True, "wrong_type", id="boolean"),
            pytest.param(None, "null_not_allowed", id="null"),
        ],
    )
    def test_refuses_an_invalid_or_unknown_parent(
        self, client: ContractClient, make: Factory, post_id: Any, code: str
    ) -> None:
        ann = make.user()
        make.post(ann, id=1)

        response = client.post(
            "/posts", json={"body": "Yes.", "in_reply_to_id": post_id}, headers=ann.signed_in
        )

        assert response.status_code == 422
        assert [(error["pointer"], error["code"]) for error in response.json["errors"]] == [
            ("/in_reply_to_id", code)
        ]
        assert bodies(client) == ["Hello."]

    def test_refuses_a_deleted_parent(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        response = client.post(
            "/posts", json={"body": "Yes.", "in_reply_to_id": post_id}, headers=ann.signed_in
        )

        assert response.status_code == 422
        assert response.json["errors"][0]["pointer"] == "/in_reply_to_id"

    def test_cannot_get_another_parent(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)

        response = client.patch(
            f"/posts/{post_id}", json={"in_reply_to_id": make.post(ann)}, headers=ann.signed_in
        )

        assert response.status_code == 422
        assert response.json["errors"][0]["code"] == "unknown_member"


class TestListReplies:
    def test_returns_the_oldest_first(self, client: ContractClient, make: Factory) -> None:
        post_id = make.post(body="zero")
        first = make.post(body="one", in_reply_to_id=post_id, is_reply=True)
        make.post(body="to another", in_reply_to_id=first, is_reply=True)
        make.post(body="to nothing")
        make.post(body="two", in_reply_to_id=post_id, is_reply=True)

        assert bodies(client, f"/posts/{post_id}/replies") == ["one", "two"]

    def test_returns_the_same_representation_as_get_post(self, client: ContractClient, make: Factory) -> None:
        post_id = make.post()
        reply_id = make.post(in_reply_to_id=post_id, is_reply=True)

        response = client.get(f"/posts/{post_id}/replies")

        assert response.json["items"] == [client.get(f"/posts/{reply_id}").json]

    def test_is_not_found_for_an_unknown_post(self, client: ContractClient, make: Factory) -> None:
        response = client.get(f"/posts/{make.post() + 1}/replies")

        assert response.status_code == 404


def chain_of(make: Factory, length: int) -> list[int]:
    """Create posts of which each replies to the previous one; return their ids."""
    ann = make.user()
    ids = [make.post(ann)]
    for _ in range(length - 1):
        ids.append(make.post(ann, in_reply_to_id=ids[-1], is_reply=True))
    return ids


class TestGetThread:
    def test_returns_a_post_without_ancestors_and_replies(
        self, client: ContractClient, make: Factory
    ) -> None:
        post_id = make.post()

        response = client.get(f"/posts/{post_id}/thread")

        assert response.status_code == 200
        assert response.json == {
            "ancestors": [],
            "post": client.get(f"/posts/{post_id}").json,
            "replies": {"items": [], "next_cursor": None, "prev_cursor": None},
        }

    def test_returns_ancestors_and_replies(self, client: ContractClient, make: Factory) -> None:
        first, second, third, fourth = chain_of(make, 4)
        make.post(in_reply_to_id=first, is_reply=True)

        thread: Any = client.get(f"/posts/{third}/thread").json

        one, two, three = (client.get(f"/posts/{post_id}").json for post_id in (first, second, third))
        assert thread["ancestors"] == [one, two]
        assert thread["post"] == three
        assert [reply["id"] for reply in thread["replies"]["items"]] == [fourth]

    @pytest.mark.parametrize(("length", "shown"), [(40, 39), (41, 40), (45, 40)])
    def test_returns_the_nearest_40_ancestors(
        self, client: ContractClient, make: Factory, length: int, shown: int
    ) -> None:
        *ids, last = chain_of(make, length)

        thread: Any = client.get(f"/posts/{last}/thread").json

        assert [post["id"] for post in thread["ancestors"]] == ids[-shown:]
        assert thread["post"]["id"] == last

    def test_begins_after_a_deleted_ancestor(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        first = make.post(ann)
        second = make.post(ann, in_reply_to_id=first, is_reply=True)
        third = make.post(ann, in_reply_to_id=second, is_reply=True)
        client.delete(f"/posts/{first}", headers=ann.signed_in)

        thread: Any = client.get(f"/posts/{third}/thread").json

        assert [post["id"] for post in thread["ancestors"]] == [second]

    def test_has_the_cursor_of_the_list_of_replies(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        ids = [make.post(ann, in_reply_to_id=post_id, is_reply=True) for _ in range(25)]
        path = f"/posts/{post_id}/replies"

        replies: Any = client.get(f"/posts/{post_id}/thread").json["replies"]
        second: Any = client.get(f"{path}?cursor={replies['next_cursor']}").json
        newer: Any = client.get(f"{path}?cursor={second['prev_cursor']}").json

        assert replies == client.get(path).json
        assert [reply["id"] for reply in [*replies["items"], *second["items"]]] == ids
        assert newer["items"] == replies["items"]

    def test_is_not_found_for_an_unknown_post(self, client: ContractClient, make: Factory) -> None:
        response = client.get(f"/posts/{make.post() + 1}/thread")

        assert response.status_code == 404

    def test_refuses_a_cursor(self, client: ContractClient, make: Factory) -> None:
        response = client.get(f"/posts/{make.post()}/thread?limit=1")

        assert response.status_code == 422
        assert response.json["errors"][0]["parameter"] == "limit"


class TestGetPost:
    def test_returns_a_post_without_a_token(self, client: ContractClient, make: Factory) -> None:
        ann = make.user("ann")
        post_id = make.post(ann, "Hello.", timestamp=LONG_AGO)

        response = client.get(f"/posts/{post_id}")

        assert response.status_code == 200
        assert response.json == {
            "id": post_id,
            "body": "Hello.",
            "timestamp": "2020-02-29T23:59:59.999Z",
            "edited_at": None,
            "author": {"id": ann.id, "username": "ann"},
            "is_reply": False,
            "in_reply_to_id": None,
            "entities": [],
            "urls": [],
            "etag": response.json["etag"],
            "counts": None,
            "viewer": None,
        }

    def test_returns_times_in_utc_for_any_time_zone_of_the_database(
        self, app: Flask, client: ContractClient, make: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        post_id = make.post(timestamp=LONG_AGO)
        monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
        with app.app_context():
            db.engine.dispose()

        post = client.get(f"/posts/{post_id}").json
        listed = client.get("/posts").json["items"]

        with app.app_context():
            db.engine.dispose()
        assert post["timestamp"] == "2020-02-29T23:59:59.999Z"
        assert listed == [post]

    def test_returns_404_for_an_unknown_post(self, client: ContractClient, make: Factory) -> None:
        post_id = make.post()

        response = client.get(f"/posts/{post_id + 1}")

        assert response.status_code == 404

    @on_sqlite
    @pytest.mark.parametrize("written", INVALID_IDS)
    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_returns_404_for_an_invalid_id(
        self, client: ContractClient, make: Factory, method: str, written: str
    ) -> None:
        ann = make.user()
        make.post(ann, id=1)

        response = client.open(
            f"/posts/{written}", method=method, json={"body": "Bye."}, headers=ann.signed_in
        )

        assert response.status_code == 404
        assert bodies(client) == ["Hello."]


class TestListPosts:
    def test_returns_the_newest_first(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.post(ann, "one")
        make.post(bob, "two")
        make.post(ann, "three")

        response = client.get("/posts")

        assert [(post["body"], post["author"]["username"]) for post in response.json["items"]] == [
            ("three", "ann"),
            ("two", "bob"),
            ("one", "ann"),
        ]

    def test_returns_the_same_representation_as_get_post(self, client: ContractClient, make: Factory) -> None:
        post_id = make.post(timestamp=LONG_AGO, edited_at=LONG_AGO)

        response = client.get("/posts")

        assert response.json["items"] == [client.get(f"/posts/{post_id}").json]

    def test_is_empty_without_posts(self, client: ContractClient) -> None:
        response = client.get("/posts")

        assert response.json == {"items": [], "next_cursor": None, "prev_cursor": None}

    @pytest.mark.parametrize(
        ("author", "expected"),
        [
            pytest.param("ann", ["three", "one"], id="username"),
            pytest.param("ANN", ["three", "one"], id="username in another case"),
            pytest.param(" ann\N{NO-BREAK SPACE}", ["three", "one"], id="username with white space"),
            pytest.param("an", [], id="a prefix"),
            pytest.param("unknown", [], id="unknown username"),
            pytest.param("%", [], id="a wildcard"),
            pytest.param("ann@example.com", [], id="email address"),
            pytest.param("é", [], id="invalid username"),
        ],
    )
    def test_filters_by_author(
        self, client: ContractClient, make: Factory, author: str, expected: list[str]
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        make.post(ann, "one")
        make.post(bob, "two")
        make.post(ann, "three")

        response = client.get("/posts", query_string={"author": author})

        assert [post["body"] for post in response.json["items"]] == expected

    def test_has_pages_of_the_posts_of_an_author(self, client: ContractClient, make: Factory) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        for number in range(1, 6):
            make.post(ann, f"{number} by ann")
            make.post(bob, f"{number} by bob")
        asked = {"author": "ann", "limit": "2"}

        first = client.get("/posts", query_string=asked).json
        second = client.get("/posts", query_string={**asked, "cursor": first["next_cursor"]}).json
        third = client.get("/posts", query_string={**asked, "cursor": second["next_cursor"]}).json
        back = client.get("/posts", query_string={**asked, "cursor": second["prev_cursor"]}).json

        assert [[post["body"] for post in page["items"]] for page in (first, second, third)] == [
            ["5 by ann", "4 by ann"],
            ["3 by ann", "2 by ann"],
            ["1 by ann"],
        ]
        assert third["next_cursor"] is None
        assert back["items"] == first["items"]

    @on_sqlite
    @pytest.mark.parametrize(
        ("query", "parameter", "code"),
        [
            pytest.param("author=", "author", "blank", id="empty author"),
            pytest.param(f"author={'a' * 65}", "author", "too_long", id="long author"),
            pytest.param("author=a%00b", "author", "control_character", id="NUL in an author"),
            pytest.param("author=ann&author=bob", "author", "repeated", id="two authors"),
            pytest.param("user=ann", "user", "unknown_parameter", id="unknown"),
        ],
    )
    def test_refuses_invalid_input(
        self, client: ContractClient, query: str, parameter: str, code: str
    ) -> None:
        response = client.get(f"/posts?{query}")

        assert_problem(response, 422, "invalid_input", {"parameter": parameter, "code": code})


class TestUpdatePost:
    @pytest.mark.parametrize("media_type", ["application/json", MERGE_PATCH])
    def test_changes_the_text(self, client: ContractClient, make: Factory, media_type: str) -> None:
        ann = make.user()
        post_id = make.post(ann, "Hello.")
        before: Any = client.get(f"/posts/{post_id}").json

        response = client.patch(
            f"/posts/{post_id}", json={"body": "Bye."}, headers=ann.signed_in, content_type=media_type
        )

        assert response.status_code == 200
        assert response.json["edited_at"] >= before["timestamp"]
        changed = {name: response.json[name] for name in ("edited_at", "etag")}
        assert response.json == {**before, "body": "Bye.", **changed}
        assert client.get(f"/posts/{post_id}").json == response.json

    @pytest.mark.parametrize("media_type", ["application/json", MERGE_PATCH])
    def test_changes_nothing_without_members(
        self, client: ContractClient, make: Factory, media_type: str
    ) -> None:
        ann = make.user()
        post_id = make.post(ann)
        before = client.get(f"/posts/{post_id}").json

        response = client.patch(f"/posts/{post_id}", json={}, headers=ann.signed_in, content_type=media_type)

        assert response.status_code == 200
        assert response.json == before
        assert client.get(f"/posts/{post_id}").json == before

    @pytest.mark.parametrize("edited_at", [pytest.param(None, id="never"), pytest.param(LONG_AGO, id="once")])
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param("é\n", id="same"),
            pytest.param(f"{E_ACUTE}\n", id="equivalent"),
            pytest.param("é\r\n", id="other line end"),
        ],
    )
    def test_does_not_set_edited_at_if_the_text_is_unchanged(
        self, client: ContractClient, make: Factory, body: str, edited_at: datetime | None
    ) -> None:
        ann = make.user()
        post_id = make.post(ann, "é\n", edited_at=edited_at)
        before = client.get(f"/posts/{post_id}").json

        response = client.patch(f"/posts/{post_id}", json={"body": body}, headers=ann.signed_in)

        assert response.json == before
        assert client.get(f"/posts/{post_id}").json == before

    def test_does_not_clear_edited_at_when_the_text_changes_back(
        self, client: ContractClient, make: Factory
    ) -> None:
        ann = make.user()
        post_id = make.post(ann, "one", edited_at=LONG_AGO)

        client.patch(f"/posts/{post_id}", json={"body": "two"}, headers=ann.signed_in)
        response = client.patch(f"/posts/{post_id}", json={"body": "one"}, headers=ann.signed_in)

        assert response.json["edited_at"] > "2020-03"

    @pytest.mark.parametrize(("sent", "stored"), ACCEPTED_BODIES)
    def test_stores_the_text_in_nfc(
        self, client: ContractClient, make: Factory, sent: str, stored: str
    ) -> None:
        ann = make.user()
        post_id = make.post(ann)

        response = client.patch(f"/posts/{post_id}", json={"body": sent}, headers=ann.signed_in)

        assert response.status_code == 200
        assert client.get(f"/posts/{post_id}").json["body"] == stored

    @on_sqlite
    @pytest.mark.parametrize(("sent", "pointer", "code"), REFUSED_BODIES)
    def test_refuses_invalid_input(
        self, client: ContractClient, make: Factory, sent: dict[str, Any], pointer: str, code: str
    ) -> None:
        ann = make.user()
        post_id = make.post(ann, "as it was")
        before = client.get(f"/posts/{post_id}").json

        response = client.patch(f"/posts/{post_id}", json=sent, headers=ann.signed_in)

        assert response.status_code == 422
        assert [(error["pointer"], error["code"]) for error in response.json["errors"]] == [(pointer, code)]
        assert client.get(f"/posts/{post_id}").json == before

    @pytest.mark.parametrize("sent", [{"body": "Mine now."}, {}], ids=["body", "nothing"])
    def test_refuses_other_users(self, client: ContractClient, make: Factory, sent: dict[str, str]) -> None:
        post_id = make.post(make.user("ann"))
        before = client.get(f"/posts/{post_id}").json

        response = client.patch(f"/posts/{post_id}", json=sent, headers=make.user("bob").signed_in)

        assert response.status_code == 403
        assert response.json["code"] == "forbidden"
        assert client.get(f"/posts/{post_id}").json == before

    def test_returns_404_for_a_deleted_post(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        response = client.patch(f"/posts/{post_id}", json={"body": "Bye."}, headers=ann.signed_in)

        assert response.status_code == 404
        assert bodies(client) == []

    def test_accepts_all_concurrent_edits(self, app: Flask, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        texts = [f"edit {number}" for number in range(6)]

        def edit(text: str) -> Callable[[], int]:
            return lambda: (
                ContractClient(app)
                .patch(f"/posts/{post_id}", json={"body": text}, headers=ann.signed_in)
                .status_code
            )

        statuses = concurrently(*map(edit, texts))

        assert statuses == [200] * 6
        assert client.get(f"/posts/{post_id}").json["body"] in texts


class TestDeletePost:
    def test_deletes_only_the_post(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        make.post(ann, "one")
        post_id = make.post(ann, "two")
        make.post(ann, "three")

        response = client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        assert response.status_code == 204
        assert client.get(f"/posts/{post_id}").status_code == 404
        assert bodies(client) == ["three", "one"]

    def test_sets_the_parent_of_replies_to_null(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        reply_id = make.post(in_reply_to_id=post_id, is_reply=True)
        before: Any = client.get(f"/posts/{reply_id}").json

        client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        after: Any = client.get(f"/posts/{reply_id}").json
        assert before["in_reply_to_id"] == post_id
        assert after == {**before, "is_reply": True, "in_reply_to_id": None, "etag": after["etag"]}

    def test_returns_404_the_second_time(self, client: ContractClient, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)
        client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        response = client.delete(f"/posts/{post_id}", headers=ann.signed_in)

        assert response.status_code == 404

    def test_refuses_other_users(self, client: ContractClient, make: Factory) -> None:
        post_id = make.post(make.user("ann"))
        before = client.get(f"/posts/{post_id}").json

        response = client.delete(f"/posts/{post_id}", headers=make.user("bob").signed_in)

        assert response.status_code == 403
        assert response.json["code"] == "forbidden"
        assert client.get(f"/posts/{post_id}").json == before

    def test_succeeds_once_for_concurrent_requests(self, app: Flask, make: Factory) -> None:
        ann = make.user()
        post_id = make.post(ann)

        def delete() -> int:
            return ContractClient(app).delete(f"/posts/{post_id}", headers=ann.signed_in).status_code

        statuses = concurrently(*[delete] * 6)

        assert sorted(statuses) == [204] + [404] * 5


class TestListUserPosts:
    @pytest.mark.parametrize("username", ["ann", "ANN"])
    def test_returns_the_posts_of_a_user_newest_first(
        self, client: ContractClient, make: Factory, username: str
    ) -> None:
        ann, bob = make.user("ann"), make.user("bob")
        first = make.post(ann)
        make.post(bob)
        second = make.post(ann)

        response = client.get(f"/users/{username}/posts")

        assert response.status_code == 200
        assert response.json["items"] == [client.get(f"/posts/{post_id}").json for post_id in (second, first)]

    def test_is_empty_for_a_user_without_posts(self, client: ContractClient, make: Factory) -> None:
        make.post(make.user("ann"))
        make.user("bob")

        response = client.get("/users/bob/posts")

        assert response.status_code == 200
        assert response.json["items"] == []

    @pytest.mark.parametrize("username", ["unknown", "an", "a" * 65, "7up", "%00%00%00"])
    def test_returns_404_for_an_unknown_username(
        self, client: ContractClient, make: Factory, username: str
    ) -> None:
        make.post(make.user("ann"))

        response = client.get(f"/users/{username}/posts")

        assert response.status_code == 404

    def test_refuses_the_parameters_of_other_lists(self, client: ContractClient, make: Factory) -> None:
        make.user("ann")

        response = client.get("/users/ann/posts?author=ann")

        assert response.status_code == 422
        assert response.json["errors"][0]["parameter"] == "author"
