"""The URLs, hashtags and mentions that are found in a text."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.db.search_text import tag_of
from api.models.entity import URL_MAXIMUM
from api.posts.entities import entities_in, usernames_in
from api.posts.links import links_in

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# Texts made of parts of entities, and of characters that end or prevent them.
ENTITY_TEXT = st.lists(
    st.sampled_from(["#", "\N{FULLWIDTH NUMBER SIGN}", "@", "ann", "Bob.", "é", "7", "_", "-", ".", " ", "/"])
    | st.sampled_from(["\N{OWL}", "\N{COMBINING ACUTE ACCENT}", "\N{ARABIC LIGATURE JALLAJALALOUHOU}"])
    | st.sampled_from(["https://", "mailto:", "b.com", "(", ")", '"', "?", ":", "あ", "〜", "·", "\u200d"]),
    max_size=20,
).map("".join)
USER_IDS = {"ann": 1, "bob": 2, "bob.": 3}

DECOMPOSED = "cafe\N{COMBINING ACUTE ACCENT}"
HEART = "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}"
KEYCAP = "\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}"


def found_in(text: str) -> list[tuple[str, str | int]]:
    """Return the part of a text that each entity covers, with its tag, user id or URL."""
    entities = entities_in(text, USER_IDS)
    return [
        (text[entity["start"] : entity["end"]], entity["tag"] or entity["user_id"] or entity["url"])
        for entity in entities
    ]


def tags_in(text: str) -> list[str]:
    """Return the hashtags in a text."""
    return [entity["tag"] for entity in entities_in(text, {}) if entity["tag"]]


class TestEntitiesIn:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("@ann likes #snow.", [("@ann", 1), ("#snow", "snow")], id="hashtag and mention"),
            pytest.param("\N{OWL}#snow \N{OWL}@ann", [("#snow", "snow"), ("@ann", 1)], id="after emoji"),
            pytest.param(
                "@Bob. @bob, @bob..",
                [("@Bob.", 3), ("@bob", 2), ("@bob.", 3)],
                id="longest existing username",
            ),
            pytest.param("@unknown", [], id="unknown username"),
            pytest.param("no entity", [], id="none"),
        ],
    )
    def test_returns_positions_in_order(self, text: str, expected: list[tuple[str, str | int]]) -> None:
        assert found_in(text) == expected

    def test_marks_repeats(self) -> None:
        text = "#a @ann #b #A @bob @ANN a.com a.com/b a.com @ann. #a"

        repeats = [
            text[entity["start"] : entity["end"]]
            for entity in entities_in(text, USER_IDS)
            if entity["is_repeat"]
        ]

        assert repeats == ["#A", "@ANN", "a.com", "@ann", "#a"]

    @given(ENTITY_TEXT | ANY_TEXT)
    @example("#a @ann")
    @settings(deadline=None)
    def test_covers_the_sign_and_the_tag_or_username(self, text: str) -> None:
        for entity in entities_in(text, USER_IDS):
            covered = text[entity["start"] : entity["end"]]
            match [entity["tag"], entity["user_id"], entity["url"]]:
                case [str(tag), None, None]:
                    assert covered[0] in "#\N{FULLWIDTH NUMBER SIGN}\N{SMALL NUMBER SIGN}"
                    assert tag == tag_of(covered[1:]) == tag_of(tag)
                case [None, int(user_id), None]:
                    assert covered[0] in "@\N{FULLWIDTH COMMERCIAL AT}\N{SMALL COMMERCIAL AT}"
                    assert user_id == USER_IDS[covered[1:].lower()]
                case [None, None, url]:  # pragma: no branch -- there is no other kind.
                    assert len(url) <= URL_MAXIMUM
                    assert urlsplit(url).scheme in {"http", "https"}
                    assert url.isascii()
                    assert url.endswith(covered) or not covered.isascii() or unquote(url).endswith(covered)

    @given(ENTITY_TEXT | ANY_TEXT)
    @settings(deadline=None)
    def test_returns_entities_that_do_not_overlap(self, text: str) -> None:
        entities = entities_in(text, USER_IDS)

        positions = [entity[name] for entity in entities for name in ("start", "end")]
        assert positions == sorted(positions)
        assert all(entity["start"] < entity["end"] for entity in entities)

    @given(ENTITY_TEXT | ANY_TEXT)
    @settings(deadline=None)
    def test_finds_nothing_within_a_url_or_an_email_address(self, text: str) -> None:
        links = [(link.start, link.end) for link in links_in(text)]

        for entity in entities_in(text, USER_IDS):
            for start, end in links:
                is_outside = entity["end"] <= start or end <= entity["start"]
                assert is_outside or (entity["url"] and (entity["start"], entity["end"]) == (start, end))

    @given(ENTITY_TEXT, ENTITY_TEXT)
    @settings(deadline=None)
    def test_finds_the_entities_of_each_line_separately(self, before: str, after: str) -> None:
        assert found_in(f"{before}\n{after}") == found_in(before) + found_in(after)

    @given(ENTITY_TEXT)
    @settings(deadline=None)
    def test_mentions_only_users_that_usernames_in_returns(self, text: str) -> None:
        usernames = usernames_in(text)

        known = {name: user_id for name, user_id in USER_IDS.items() if name in usernames}
        assert entities_in(text, known) == entities_in(text, USER_IDS)


class TestHashtags:
    @pytest.mark.parametrize(
        ("text", "tags"),
        [
            pytest.param("#Garden", ["garden"], id="letters"),
            pytest.param("#Été", ["ete"], id="accents"),
            pytest.param(f"#{DECOMPOSED}", ["cafe"], id="combining accents"),
            pytest.param("#नमस्ते", ["नमस्ते"], id="combining marks"),
            pytest.param("#東京タワー", ["東京タワー"], id="script without spaces"),
            pytest.param("\N{FULLWIDTH NUMBER SIGN}東京", ["東京"], id="fullwidth sign"),
            pytest.param("#web_2_0", ["web_2_0"], id="underscores and digits"),
            pytest.param("#2026snow", ["2026snow"], id="digits first"),
            pytest.param("#_a", ["_a"], id="underscore first"),
            pytest.param("(#snow), #ice-cream!", ["snow", "ice"], id="punctuation"),
            pytest.param("#snow\n#ice\t#rain", ["snow", "ice", "rain"], id="lines"),
            pytest.param("#snow's", ["snow"], id="apostrophe"),
            pytest.param("\N{OWL}#snow\N{OWL}", ["snow"], id="between emoji"),
            pytest.param(f"{HEART}#snow", ["snow"], id="after an emoji with a variation selector"),
            pytest.param(f"#{KEYCAP}snow", [], id="keycap"),
            pytest.param("#123 #\u0660\u0661 #1_2", [], id="digits only"),
            pytest.param("# #. #_ #\N{OWL}", [], id="no letter"),
            pytest.param("a#b 1#b é#b _#b", [], id="within a word"),
            pytest.param("e\N{COMBINING ACUTE ACCENT}#b", [], id="after a combining accent"),
            pytest.param("##a #a#b", ["a"], id="sign after sign"),
            pytest.param("\N{SMALL NUMBER SIGN}snow", ["snow"], id="small sign"),
            pytest.param("https://example.com/#a example.com/a#b", [], id="URL"),
            pytest.param("a.#b@example.com", [], id="email address"),
            pytest.param("今日は#雪", ["雪"], id="after Han and Hiragana"),
            pytest.param("タワー#雪 ﾀﾜｰ#氷", ["雪", "氷"], id="after Katakana"),
            pytest.param("ฉันรัก#แมว ที่#นี่", ["แมว", "นี่"], id="after Thai"),
            pytest.param("ຂ້ອຍຮັກ#ແມວ", ["ແມວ"], id="after Lao"),
            pytest.param("ខ្ញុំ#ឆ្មា", ["ឆ្មា"], id="after Khmer"),
            pytest.param("ကျွန်တော်#ကြောင်", ["ကြောင်"], id="after Burmese"),
            pytest.param("ㄅ#a ꀀ#b ꦲ#c ᨠ#d", ["a", "b", "c", "d"], id="after other scripts without spaces"),
            pytest.param("привет#a مرحبا#a 한국#a नमस्ते#a ㅋㅋ#a Ａ#a", [], id="after scripts with spaces"),
            pytest.param("#می\u200cخواهم", ["ميخواهم"], id="zero-width non-joiner"),
            pytest.param("#ක්\u200dෂ #ന്\u200d", ["ක්ෂ", "ന്"], id="zero-width joiner"),
            pytest.param(
                "#メ～テレ #メ〜テレ #うぇ〜〜い", ["メ〜テレ", "メ〜テレ", "うぇ〜〜い"], id="wave dash"
            ),
            pytest.param("#楽しい〜 #東京〜#大阪", ["楽しい", "東京", "大阪"], id="wave dash at the end"),
            pytest.param("#paral·lel #ジョン・レノン", ["paral·lel", "ジョン・レノン"], id="middle dots"),
            pytest.param("#雪・#氷 #・雪", ["雪", "氷"], id="middle dot between hashtags"),
            pytest.param("#צה״ל #בית־ספר #བོད་ཡིག་", ["צה״ל", "בית־ספר", "བོད་ཡིག"], id="other joints"),
            pytest.param("#あ゛", ["あ \u3099"], id="voiced sound mark"),
            pytest.param("Caf&#xe9;", [], id="HTML entity"),
            pytest.param("#\N{GREEK YPOGEGRAMMENI}", [], id="empty after folding"),
        ],
    )
    def test_consist_of_a_sign_and_letters(self, text: str, tags: list[str]) -> None:
        assert tags_in(text) == tags

    @pytest.mark.parametrize(
        ("text", "covered"),
        [
            pytest.param("#ന്\u200d.", "#ന്\u200d", id="joiner after a virama"),
            pytest.param("#snow\u200d.", "#snow", id="other joiner at the end"),
            pytest.param("#楽しい〜", "#楽しい", id="wave dash at the end"),
        ],
    )
    def test_cover_only_joiners_that_belong_to_them(self, text: str, covered: str) -> None:
        assert [found for found, _ in found_in(text)] == [covered]

    @given(st.text(st.characters(categories=["L"]), min_size=1, max_size=3))
    @settings(deadline=None, max_examples=500)
    def test_are_never_blank(self, text: str) -> None:
        assert all(tag.strip() for tag in tags_in(f"#{text}"))


class TestUsernamesIn:
    @pytest.mark.parametrize(
        ("text", "usernames"),
        [
            pytest.param("@Ann, @BOB", {"ann", "bob"}, id="any case"),
            pytest.param("@ann.b-c_d", {"ann.b-c_d"}, id="punctuation within a username"),
            pytest.param("@ann.-", {"ann.-", "ann.", "ann"}, id="punctuation at the end"),
            pytest.param("@ab..", {"ab..", "ab."}, id="minimum length"),
            pytest.param("(@ann) '@bob' @cleo's", {"ann", "bob", "cleo"}, id="surrounding punctuation"),
            pytest.param("\N{OWL}@ann\N{OWL}", {"ann"}, id="between emoji"),
            pytest.param(f"{HEART}@ann{HEART}", {"ann"}, id="between emoji with variation selectors"),
            pytest.param(f"@{'a' * 64} @{'b' * 65}", {"a" * 64}, id="maximum length"),
            pytest.param(f"@{'a' * 64}.", {"a" * 64}, id="maximum length before a full stop"),
            pytest.param("@ab @7up @_ann @-ann", set(), id="invalid usernames"),
            pytest.param("ann@example.com 1@ann é@ann", set(), id="email address"),
            pytest.param("@ann@example.com @@ann", set(), id="handle on another server"),
            pytest.param("https://example.com/?u=@ann example.com/~@ann", set(), id="URL"),
            pytest.param("mailto:@ann ftp://@ann localhost:80/?u=@ann", set(), id="other addresses"),
            pytest.param("иван@ann.рф", set(), id="internationalized email address"),
            pytest.param(
                "@anné @anne\N{COMBINING ACUTE ACCENT} @annＡ @ann７",
                set(),
                id="before Latin letters and digits",
            ),
            pytest.param(
                "@annさん @bob님 @cleo, @danу", {"ann", "bob", "cleo", "dan"}, id="before other letters"
            ),
            pytest.param(
                "ありがとう@ann 감사@bob नमस्ते@cleo", {"ann", "bob", "cleo"}, id="after other letters"
            ),
            pytest.param("＠ann ﹫bob", {"ann", "bob"}, id="other signs"),
            pytest.param("ありがとう@ann.bob", {"ann.bob"}, id="full stop, but no email address"),
            pytest.param("#@ann @#ann &@ann", set(), id="next to other signs"),
        ],
    )
    def test_returns_possible_usernames(self, text: str, usernames: set[str]) -> None:
        assert usernames_in(text) == usernames
