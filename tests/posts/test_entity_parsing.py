"""The hashtags and mentions that are found in a text."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.db.search_text import tag_of
from api.posts.entities import entities_in, usernames_in

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# Texts made of parts of entities, and of characters that end or prevent them.
ENTITY_TEXT = st.lists(
    st.sampled_from(["#", "\N{FULLWIDTH NUMBER SIGN}", "@", "ann", "Bob.", "é", "7", "_", "-", ".", " ", "/"])
    | st.sampled_from(["\N{OWL}", "\N{COMBINING ACUTE ACCENT}", "\N{ARABIC LIGATURE JALLAJALALOUHOU}"]),
    max_size=20,
).map("".join)
USER_IDS = {"ann": 1, "bob": 2, "bob.": 3}

DECOMPOSED = "cafe\N{COMBINING ACUTE ACCENT}"
HEART = "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}"
KEYCAP = "\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}"


def found_in(text: str) -> list[tuple[str, str | int]]:
    """Return the part of a text that each entity covers, with its tag or user id."""
    entities = entities_in(text, USER_IDS)
    return [
        (text[entity["start"] : entity["end"]], entity["tag"] or entity["user_id"]) for entity in entities
    ]


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
        entities = entities_in("#a @ann #b #A @bob @ANN @ann. #a", USER_IDS)

        assert [entity["is_repeat"] for entity in entities] == [
            False,
            False,
            False,
            True,
            False,
            True,
            True,
            True,
        ]

    @given(ENTITY_TEXT | ANY_TEXT)
    @example("#a @ann")
    @settings(deadline=None)
    def test_covers_the_sign_and_the_tag_or_username(self, text: str) -> None:
        for covered, target in found_in(text):
            if isinstance(target, str):
                assert covered[0] in "#\N{FULLWIDTH NUMBER SIGN}"
                assert target == tag_of(covered[1:])
            else:
                assert covered[0] == "@"
                assert target == USER_IDS[covered[1:].lower()]

    @given(ENTITY_TEXT | ANY_TEXT)
    @settings(deadline=None)
    def test_returns_entities_that_do_not_overlap(self, text: str) -> None:
        entities = entities_in(text, USER_IDS)

        positions = [entity[name] for entity in entities for name in ("start", "end")]
        assert positions == sorted(positions)
        assert all(entity["start"] < entity["end"] for entity in entities)

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
            pytest.param("https://example.com/#a https://example.com/a#b", [], id="URL"),
            pytest.param("Caf&#xe9;", [], id="HTML entity"),
            pytest.param("#\N{GREEK YPOGEGRAMMENI}", [], id="empty after folding"),
        ],
    )
    def test_consist_of_a_sign_and_letters(self, text: str, tags: list[str]) -> None:
        assert [entity["tag"] for entity in entities_in(text, {})] == tags

    @given(st.text(st.characters(categories=["L"]), min_size=1, max_size=3))
    @settings(deadline=None, max_examples=500)
    def test_are_never_blank(self, text: str) -> None:
        assert all(entity["tag"].strip() for entity in entities_in(f"#{text}", {}))


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
            pytest.param("https://example.com/@ann", set(), id="URL"),
            pytest.param(
                "@anné @anne\N{COMBINING ACUTE ACCENT} @ann東", set(), id="before letters outside ASCII"
            ),
            pytest.param("#@ann @#ann &@ann", set(), id="next to other signs"),
        ],
    )
    def test_returns_possible_usernames(self, text: str, usernames: set[str]) -> None:
        assert usernames_in(text) == usernames
