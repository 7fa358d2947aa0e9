"""Full-text search: it finds the same posts on both databases, for any text and any query."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from api.db import db
from api.db.search_text import Term, terms_of, words_of
from api.models import Post
from api.rendering.pagination import SCANNED
from tests.support.contract import ContractClient
from tests.support.databases import disable_triggers, no_sql
from tests.support.factories import Account, Factory
from tests.support.pagination import items, read_both_ways
from tests.support.problems import assert_problem
from tests.support.renderers import needs_sql_json
from tests.support.statements import recorded_statements

MANY = settings(
    max_examples=75,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
E_ACUTE = "e\N{COMBINING ACUTE ACCENT}"  # Two code points, one after NFC.
SALLALLAHOU = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"  # Folds to eighteen code points.
TIBETAN = "\N{TIBETAN LETTER KA}" + "\N{TIBETAN VOWEL SIGN VOCALIC RR}" * 139  # 420 bytes, 1,254 when folded.
ACRE = "\N{SQUARE EEKAA}"  # Folds to four words, one of them twice.

# Characters that both databases can store and a request may contain.
TEXT = st.characters(exclude_categories=["Cs", "Cc"])
# Few words and parts of words, so that queries often match texts.
PIECE = st.sampled_from(
    [
        *(
            "snow",
            "Sno",
            "snö",
            "s",
            "ß",
            "ﬃ",
            "ffi",
            "é",
            E_ACUTE,
            "7",
            "½",
            "क्षि",
            "한",
            "한국",
            "東",
            "京",
            "ー",
        ),
        *("ø", "æ", "ł", "ก", "น้ำ", "โลก", "ខ្មែ", "ကို", "ꦏ꧀ꦱ", "أ", "\N{ARABIC LETTER ALEF}", "عَ", "שָׁ", "ם"),
        *(
            SALLALLAHOU,
            "#",
            "@",
            "'",
            "-",
            ".",
            "_",
            "\N{OWL}",
            "\N{VARIATION SELECTOR-16}",
            " ",
            " ",
            " ",
            "\n",
        ),
    ]
)
BODY = st.lists(PIECE, min_size=1, max_size=8).map("".join) | st.text(TEXT, min_size=1, max_size=20)
TYPED = st.lists(PIECE | st.sampled_from('**""'), min_size=1, max_size=6).map("".join)

NASTY = [
    *(
        '"',
        '""',
        '"*"',
        "*",
        "**",
        "' OR 1=1 --",
        "\\",
        "\\'",
        "%",
        "_",
        ";",
        "!",
        "&",
        "|",
        "()",
        "<->",
        ":*",
    ),
    *(
        "AND",
        "OR",
        "NOT",
        "NEAR",
        "NEAR(",
        "NEAR(snow drops, 2)",
        "snow AND",
        "OR snow",
        "NOT snow",
        "snow NOT",
    ),
    *(
        "-snow",
        "+snow",
        "^snow",
        "!snow",
        "!!snow",
        "snow:",
        "words:snow",
        "snow:A",
        "snow:*",
        "snow <-> drops",
    ),
    *("snow <2> drops", "snow & | drops", "(snow", "snow)", "{words}: snow", "- words : snow", "snow.drops"),
    *(
        "snow'",
        "'snow",
        "''snow''",
        "snow\\",
        "\\snow",
        "snow/*",
        "/* snow */",
        "snow -- drops",
        "snow; drops",
    ),
    *(
        '"snow',
        'snow"',
        '"snow" "',
        '"snow"*"',
        "snow**",
        "*snow*",
        "snow + drops",
        "snow, drops",
        "$1",
        ":q",
    ),
    *(
        "%s",
        "%(q)s",
        "{0}",
        "<b>snow</b>",
        "\N{OWL}",
        "\t",
        "a" * 140,
        "a " * 70,
        "* " * 70,
        '"' * 140,
        "(" * 140,
    ),
    *(SALLALLAHOU * 140, TIBETAN, ACRE * 140, f'"{ACRE * 130}"*', '"ねー"'),
]


def found(client: ContractClient, q: str, **query: str) -> list[str]:
    """Return the bodies of the posts on the first page of a search."""
    response = client.get("/posts", query_string={"q": q, "limit": "100", **query})
    assert response.status_code == 200, response.text
    return [post["body"] for post in response.json["items"]]


def begins(words: list[str], term: Term) -> bool:
    """Return whether a term matches at the beginning of some words."""
    place = len(term.words) - 1
    if words[:place] != term.words[:place] or len(words) <= place:
        return False
    return words[place] == term.words[place] or (
        term.is_prefix and words[place].startswith(term.words[place])
    )


def is_found(body: str, q: str) -> bool:
    """Return whether a search must find a text: it has terms, and the text contains all of them."""
    words, terms = words_of(body), terms_of(q)
    return bool(terms) and all(
        any(begins(words[place:], term) for place in range(len(words))) for term in terms
    )


@pytest.fixture
def ann(make: Factory) -> Account:
    """The author of the posts."""
    return make.user("ann")


class TestSearch:
    @pytest.mark.parametrize(
        ("body", "q"),
        [
            pytest.param("Snow is out.", "snow", id="case of the text"),
            pytest.param("snow is out.", "SNOW", id="case of the query"),
            pytest.param("Die Straße", "STRASSE", id="sharp s"),
            pytest.param("Crème brûlée", "creme brulee", id="accents of the text"),
            pytest.param("creme brulee", "crème brûlée", id="accents of the query"),
            pytest.param(f"caf{E_ACUTE}", "café", id="decomposed text"),
            pytest.param("café", f"caf{E_ACUTE}", id="decomposed query"),
            pytest.param("ὈΔΥΣΣΕΎΣ", "οδυσσευς", id="Greek"),
            pytest.param("Ёлка", "ёЛКА", id="Cyrillic"),
            pytest.param("the eﬃcient", "efficient", id="ligature"),
            pytest.param("Łódź", "lodz", id="l with stroke"),
            pytest.param("Lodz", "Łódź", id="l with stroke in the query"),
            pytest.param("Rødgrød i Ærø", "rodgrod aero", id="Danish"),
            pytest.param("Þingvellir", "thing*", id="prefix of a letter that is two when folded"),
            pytest.param("DIYARBAKIR", "diyarbak\N{LATIN SMALL LETTER DOTLESS I}r", id="Turkish"),
            pytest.param("Қазақстан", "казакстан", id="Kazakh"),
            pytest.param("مُحَمَّد", "محمد", id="Arabic vowel points"),
            pytest.param("الى الأمام", "إلي الام*", id="forms of hamza"),
            pytest.param("کتاب علی", "كتاب علي", id="Persian by an Arabic keyboard"),
            pytest.param("שָׁלוֹם", "שלום", id="Hebrew points"),
            pytest.param("מלכים", "מלך*", id="Hebrew final letter in a prefix"),
            pytest.param("今日は東京へ行く", "東京", id="Japanese"),
            pytest.param("今日は東京へ行く", "東京*", id="prefix in Japanese"),
            pytest.param("สวัสดีชาวโลก", "โลก", id="Thai"),
            pytest.param("สวัสดีชาวโลก", "สวัสดีชาวโลก", id="whole sentence in Thai"),
            pytest.param("สวัสดีชาวโลก", "ชา*", id="prefix in Thai"),
            pytest.param("สวัสดี ชาวโลก", '"สวัสดี ชาว"', id="phrase in Thai"),
            pytest.param("hello ชาวโลก", '"hello ชาว"', id="phrase in two scripts"),
            pytest.param("#สวัสดีชาวโลก", "ชาว", id="Thai in a hashtag"),
            pytest.param("ผมดื่มน้ำเย็น", "น้ำ", id="Thai vowel of two parts"),
            pytest.param("ຂ້ອຍຮັກລາວ", "ລາວ", id="Lao"),
            pytest.param("ខ្ញុំស្រឡាញ់ខ្មែរ", "ខ្មែរ", id="Khmer"),
            pytest.param("ខ្ញុំ\N{ZERO WIDTH SPACE}ស្រឡាញ់", "ខ្ញុំស្រឡាញ់", id="zero-width space"),
            pytest.param("မြန်မာစာပေ", "စာပေ", id="Burmese"),
            pytest.param("ꦲꦏ꧀ꦱꦫꦗꦮ", "ꦗꦮ", id="Javanese"),
            pytest.param("ꦩꦔꦤ꧀ꦱꦼꦒ", "ꦱꦼꦒ", id="Javanese word that is joined to the one before"),
            pytest.param("ᬅᬓ᭄ᬱᬭᬩᬮᬶ", "ᬩᬮᬶ", id="Balinese"),
            pytest.param("ᨲ᩠ᩅᩫᨾᩮᩬᩥᨦ", "ᨾᩮᩬᩥᨦ", id="Tai Tham"),
            pytest.param("ᦎᦱᧉᦟᦹᧉ", "ᦟᦹᧉ", id="New Tai Lue"),
            pytest.param("佐々木さん", "々木", id="iteration mark"),
            pytest.param("한국어 시험", "시험", id="Korean"),
            pytest.param("नमस्ते दुनिया", "दुनिया", id="Hindi"),
            pytest.param("one snow two", "two one", id="words in another order"),
            pytest.param("one snow two", "one two*", id="word and prefix"),
            pytest.param("one snow two", '"one snow"', id="phrase"),
            pytest.param("one, snow\ntwo", '"ONE snow two"', id="phrase across punctuation"),
            pytest.param("one one two", '"one two"', id="phrase that begins twice"),
            pytest.param("one snow two", '"one sno"*', id="prefix at the end of a phrase"),
            pytest.param("one snow two", '"one snow', id="unclosed quotes"),
            pytest.param("snowdrops", "snow*", id="prefix"),
            pytest.param("snow", "snow*", id="prefix that is the whole word"),
            pytest.param("it's", "it's", id="apostrophe"),
            pytest.param("its s", "its -s", id="no operator"),
            pytest.param("#Garden @ann", "garden ann", id="hashtag and mention"),
            pytest.param("7 of 12", "12 7", id="digits"),
            pytest.param("and or not near", "OR NOT AND NEAR", id="operators of other search engines"),
            pytest.param("the of a", "the", id="stop word"),
            pytest.param("a" * 140, "a" * 140, id="very long word"),
            pytest.param("a" * 140, f"{'a' * 100}*", id="prefix of a very long word"),
            pytest.param("a " * 69 + "ab", "ab", id="70 words"),
            pytest.param("a " * 69 + "b", '"a b"', id="phrase after 69 words"),
            pytest.param(SALLALLAHOU * 140, f"{SALLALLAHOU}*", id="text that folds to 2,520"),
            pytest.param(SALLALLAHOU * 140, SALLALLAHOU * 140, id="query that folds to 2,520"),
            pytest.param(TIBETAN, TIBETAN, id="word that folds to 1,254 bytes"),
            pytest.param(TIBETAN, f"{TIBETAN[:-2]}*", id="prefix that folds to more bytes"),
            pytest.param("ﬃ" * 140, "ffi" * 46 + "*", id="ligatures that fold to 420"),
        ],
    )
    def test_finds(self, client: ContractClient, make: Factory, ann: Account, body: str, q: str) -> None:
        make.post(ann, "Something else.")
        make.post(ann, body)

        assert found(client, q) == [body]

    @pytest.mark.parametrize(
        ("body", "q"),
        [
            pytest.param("snowdrops", "snow", id="prefix without a star"),
            pytest.param("snowdrops", "drops*", id="suffix"),
            pytest.param("snowdrops", "*drops", id="star before a word"),
            pytest.param("one snow two", "one three", id="one word of two"),
            pytest.param("one snow two", "three OR one", id="no OR operator"),
            pytest.param("one snow two", '"one two"', id="phrase with a word between"),
            pytest.param("one snow two", '"snow one"', id="phrase in another order"),
            pytest.param("one snow two", '"one" "three"', id="one phrase of two"),
            pytest.param("one snow two", '"on snow"*', id="prefix within a phrase"),
            pytest.param("東へ京", "東京", id="characters apart"),
            pytest.param("โลกสวย", "สวยโลก", id="words in another order in Thai"),
            pytest.param("ปู่", "ปู", id="letter without its tone mark in Thai"),
            pytest.param("Москва", "moskva", id="other script"),
            pytest.param("run", "running", id="another form of the word"),
            pytest.param("a" * 140, "a" * 139, id="very long word without its last letter"),
            pytest.param("\N{OWL} owl", "\N{OWL}", id="emoji"),
            pytest.param(
                "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16} love",
                "\N{SNOWMAN}\N{VARIATION SELECTOR-16}",
                id="emoji with a variation selector",
            ),
            pytest.param("- - -", '-"-"*', id="punctuation"),
        ],
    )
    def test_does_not_find(
        self, client: ContractClient, make: Factory, ann: Account, body: str, q: str
    ) -> None:
        make.post(ann, body)

        response = client.get("/posts", query_string={"q": q})

        assert response.status_code == 200
        assert response.json == {"items": [], "next_cursor": None, "prev_cursor": None}

    def test_returns_the_same_representation_as_get_post(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        post_id = make.post(ann, "Snow, #snow and @ann.")

        response = client.get("/posts?q=snow")

        assert response.json["items"] == [client.get(f"/posts/{post_id}").json]

    @pytest.mark.parametrize("limit", [1, 3, 7])
    def test_has_pages_newest_first_in_both_directions(
        self, client: ContractClient, make: Factory, ann: Account, limit: int
    ) -> None:
        found_ids = [make.post(ann, f"snow {make.post(ann, 'rain')}") for _ in range(7)]

        forth, back = read_both_ways(client, "/posts", limit, {}, q="sno*")

        assert items(forth, "id") == found_ids[::-1]
        assert items(back[::-1], "id") == items(forth, "id")

    def test_returns_new_posts_by_the_cursor_of_the_first_page(
        self, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        make.post(ann, "Old snow.")
        page: Any = client.get("/posts?q=snow").json
        make.post(ann, "New snow.")
        make.post(ann, "New rain.")

        assert found(client, "snow", cursor=page["prev_cursor"]) == ["New snow."]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            pytest.param({"author": "ANN"}, ["snow #out @bob", "snow @bob", "snow #out"], id="author"),
            pytest.param({"tag": "out"}, ["snow #out @bob", "snow #out"], id="tag"),
            pytest.param({"mentions": "bob"}, ["snow #out @bob", "snow @bob"], id="mentions"),
            pytest.param({"tag": "out", "mentions": "bob"}, ["snow #out @bob"], id="tag and mentions"),
            pytest.param(
                {"author": "ann", "tag": "out", "mentions": "bob"}, ["snow #out @bob"], id="all filters"
            ),
            pytest.param({"author": "bob", "tag": "out"}, [], id="no match"),
        ],
    )
    @pytest.mark.parametrize("limit", [1, 2])
    def test_combines_all_filters_on_every_page(
        self,
        client: ContractClient,
        make: Factory,
        ann: Account,
        query: dict[str, str],
        expected: list[str],
        limit: int,
    ) -> None:
        bob = make.user("bob")
        for body in ("snow #out", "rain #out @bob", "snow @bob", "rain", "snow #out @bob"):
            client.post("/posts", json={"body": body}, headers=ann.signed_in)
        client.post("/posts", json={"body": "snow"}, headers=bob.signed_in)

        forth, back = read_both_ways(client, "/posts", limit, {}, q="snow", **query)

        assert items(forth, "body") == expected
        assert items(back[::-1], "body") == expected

    def test_reflects_every_change(self, client: ContractClient, make: Factory, ann: Account) -> None:
        bob = make.user("bob")
        remaining = client.post("/posts", json={"body": "snow"}, headers=ann.signed_in).json["id"]
        gone = client.post("/posts", json={"body": "snow gone"}, headers=ann.signed_in).json["id"]
        client.post("/posts", json={"body": "snow by bob"}, headers=bob.signed_in)
        created = found(client, "snow")
        client.patch(f"/posts/{remaining}", json={"body": "rain"}, headers=ann.signed_in)
        edited = found(client, "snow"), found(client, "rain")
        client.delete(f"/posts/{gone}", headers=ann.signed_in)
        deleted = found(client, "snow")
        client.delete("/me", json={"password": bob.password}, headers=bob.signed_in)
        left = found(client, "snow"), found(client, "rain")

        assert created == ["snow by bob", "snow gone", "snow"]
        assert edited == (["snow by bob", "snow gone"], ["rain"])
        assert deleted == ["snow by bob"]
        assert left == ([], ["rain"])

    # On PostgreSQL the index belongs to the table.
    @pytest.mark.parametrize("migrated_app", ["sqlite"], indirect=True)
    def test_removes_deleted_posts_from_the_index(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        bob = make.user("bob")
        post_ids = [make.post(author, f"snow by {author.username}") for author in (ann, ann, bob)]
        client.patch(f"/posts/{post_ids[0]}", json={"body": "Rain, rain!"}, headers=ann.signed_in)
        client.patch(f"/posts/{post_ids[0]}", json={"body": "RAIN rain"}, headers=ann.signed_in)
        client.delete(f"/posts/{post_ids[1]}", headers=ann.signed_in)
        client.delete("/me", json={"password": bob.password}, headers=bob.signed_in)

        with app.app_context():
            check = "INSERT INTO posts_search(posts_search, rank) VALUES ('integrity-check', 1)"
            db.session.execute(text(check))

    @pytest.mark.parametrize("q", NASTY)
    def test_accepts_any_text(self, client: ContractClient, make: Factory, ann: Account, q: str) -> None:
        texts = ["snow", "drops", "snow drops", "a", "words snow", "1 q s b", f"{ACRE * 130}ねー"]
        make.insert(Post, [{"user_id": ann.id, "body": body} for body in texts])
        blank = not q.strip()

        response = client.get("/posts", query_string={"q": q if not blank else f"{q}."})

        assert response.status_code == 200
        assert [post["body"] for post in response.json["items"]] == [
            body for body in reversed(texts) if is_found(body, q)
        ]

    @given(st.text(min_size=1, max_size=140) | TYPED)
    @MANY
    def test_never_fails(self, client: ContractClient, q: str) -> None:
        response = client.get("/posts", query_string={"q": q})

        assert response.status_code in {200, 422}

    @no_sql
    @pytest.mark.parametrize(
        ("query", "code"),
        [
            pytest.param("q=", "blank", id="empty"),
            pytest.param("q=%20%09%C2%A0", "blank", id="blank"),
            pytest.param("q=%E3%85%A4%E2%A0%80", "blank", id="nothing visible"),
            pytest.param(f"q={'a' * 141}", "too_long", id="141"),
            pytest.param("q=a%00b", "control_character", id="NUL"),
            pytest.param("q=%00", "control_character", id="NUL alone"),
            pytest.param("q=a%1b", "control_character", id="escape"),
            pytest.param("q=a&q=b", "repeated", id="repeated parameter"),
        ],
    )
    def test_refuses_invalid_queries(self, client: ContractClient, query: str, code: str) -> None:
        response = client.get(f"/posts?{query}")

        assert_problem(response, 422, "invalid_input", {"parameter": "q", "code": code})

    @given(st.data())
    @MANY
    def test_finds_the_same_on_both_databases(
        self, app: Flask, client: ContractClient, ann: Account, data: st.DataObject
    ) -> None:
        texts = data.draw(st.lists(BODY, min_size=1, max_size=5), label="texts")
        with app.app_context():
            db.session.execute(delete(Post))
            db.session.add_all(Post(user_id=ann.id, body=body) for body in texts)
            db.session.commit()

        for _ in range(5):
            body = data.draw(st.sampled_from(texts))
            start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(body))] * 2)))
            piece = body[start:end]
            q = data.draw(
                TYPED | st.sampled_from([piece, f"{piece}*", f'"{piece}"', f'"{piece}"*']), label="q"
            )
            response = client.get("/posts", query_string={"q": q})
            if response.status_code == 200:
                expected = [body for body in reversed(texts) if is_found(body, q)]
                assert [post["body"] for post in response.json["items"]] == expected


@needs_sql_json
def test_postgresql_plans_only_searches_at_each_execution(new_migrated_app: Callable[..., Flask]) -> None:
    app = new_migrated_app("postgresql", THREADS=1)
    client = ContractClient(app)

    # After five executions, psycopg prepares a statement.
    for _ in range(20):
        client.get("/posts?q=snow")
        client.get("/posts")

    prepared = text("SELECT statement LIKE '%@@%', generic_plans, custom_plans FROM pg_prepared_statements")
    with app.app_context():
        [posts] = [tuple(row) for row in db.session.execute(prepared) if row.generic_plans]
    assert posts == (False, 15, 0)


@needs_sql_json
def test_postgresql_finds_rare_and_common_words_without_reading_all_posts(
    new_migrated_app: Callable[..., Flask],
) -> None:
    app = new_migrated_app("postgresql")
    client, ann = ContractClient(app), Factory(app).user("ann")
    count = 4 * SCANNED
    rare = [count // 2, 3, 2, 1]
    with app.app_context():
        disable_triggers()
        posts = """
            INSERT INTO posts (id, body, words, timestamp, user_id, version)
            SELECT n, 'Snow.',
                CAST(CASE WHEN n = ANY(:rare) THEN 'snow zeppelin' ELSE 'snow' END AS tsvector),
                now(), :user_id, 1
            FROM generate_series(1, :count) n
        """
        db.session.execute(text(posts), {"rare": rare, "user_id": ann.id, "count": count})
        db.session.commit()
        db.session.execute(text("ANALYZE posts"))
        db.session.commit()

    forth, back = read_both_ways(client, "/posts", 2, {}, q="zeppelin")
    with recorded_statements(app) as statements:
        client.get("/posts?q=zeppelin")
        client.get("/posts?q=snow")
        client.get(f"/posts?q=snow&cursor={client.get('/posts?q=snow').json['prev_cursor']}")

    assert items(forth) == rare
    assert items(back[::-1]) == rare
    searches = [statement for statement in statements if "@@" in statement.text]
    assert len(searches) == 4
    for statement in searches:
        assert posts_read(app, *statement) < SCANNED + 1_000


def posts_read(app: Flask, statement: str, parameters: Any) -> float:
    """Return how many posts PostgreSQL reads for a statement."""
    with app.app_context(), db.engine.connect() as connection:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        nodes = [connection.exec_driver_sql(explain, parameters).scalar_one()[0]["Plan"]]
        for node in nodes:
            nodes += node.get("Plans", [])
        reading = [node for node in nodes if node.get("Relation Name") == "posts"]
        read = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in reading]
        return float(sum(rows * node["Actual Loops"] for rows, node in zip(read, reading, strict=True)))
