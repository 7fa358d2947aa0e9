"""What stands in a text: its words, its hashtags, the names in it."""

import unicodedata
from typing import Any

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.text import Term, fold, marks_in, names_in, tag_of, terms_of, words_of

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# Texts full of what marks are made of, and of what they must not be mistaken for.
MARKED_TEXT = st.lists(
    st.sampled_from(["#", "\N{FULLWIDTH NUMBER SIGN}", "@", "ann", "Bob.", "é", "7", "_", "-", ".", " ", "/"])
    | st.sampled_from(["\N{OWL}", "\N{COMBINING ACUTE ACCENT}", "\N{ARABIC LIGATURE JALLAJALALOUHOU}"]),
    max_size=20,
).map("".join)
USER_IDS = {"ann": 1, "bob": 2, "bob.": 3}

DECOMPOSED = "cafe\N{COMBINING ACUTE ACCENT}"
HEART = "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}"
KEYCAP = "\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}"
FAMILY = "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"


class TestFold:
    @pytest.mark.parametrize(
        ("text", "folded"),
        [
            pytest.param("SNOW", "snow", id="case"),
            pytest.param("Straße", "strasse", id="sharp s"),
            pytest.param("ΣΊΣΥΦΟΣ", "σισυφοσ", id="final sigma"),
            pytest.param("İstanbul", "istanbul", id="dotted capital i"),
            pytest.param("café", "cafe", id="accent"),
            pytest.param(DECOMPOSED, "cafe", id="combining accent"),
            pytest.param("Việt", "viet", id="two accents on a letter"),
            pytest.param("ﬃ", "ffi", id="ligature"),
            pytest.param("\uff33\uff4e\uff4f\uff57", "snow", id="fullwidth"),
            pytest.param("ﾊﾟ", "パ", id="halfwidth"),
            pytest.param("²", "2", id="superscript"),
            pytest.param("क्षि", "क्षि", id="marks that are no accents"),
            pytest.param("ぱ", "ぱ", id="a mark that makes another letter"),
            pytest.param("\u1112\u1161\u11ab", "한", id="letters that make one"),
            pytest.param("\N{SNOWMAN}\N{VARIATION SELECTOR-16}", "\N{SNOWMAN}", id="form of an emoji"),
        ],
    )
    def test_leaves_out_what_a_search_overlooks(self, text: str, folded: str) -> None:
        assert fold(text) == folded

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_changes_nothing_the_second_time(self, text: str) -> None:
        assert fold(fold(text)) == fold(text)

    @given(ANY_TEXT, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
    @settings(deadline=None)
    def test_is_the_same_however_a_text_is_composed(self, text: str, form: Any) -> None:
        assert fold(unicodedata.normalize(form, text)) == fold(text)


class TestWordsOf:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            pytest.param("The first snow-drops, are_out!", "the first snow drops are out", id="signs"),
            pytest.param("#Garden @Ann", "garden ann", id="marks"),
            pytest.param("it's", "it s", id="apostrophe"),
            pytest.param("snow snow", "snow snow", id="twice"),
            pytest.param("12 3,5 ½", "12 3 5 1 2", id="digits"),
            pytest.param("\u0660\u0661", "\u0660\u0661", id="other digits"),
            pytest.param("東京タワーへ行く", "東 京 タ ワ ー へ 行 く", id="scripts without spaces"),
            pytest.param("スーパーmarket", "ス ー パ ー market", id="a long vowel before another script"),
            pytest.param("2026年", "2026 年", id="digits and a script without spaces"),
            pytest.param("葛\U000e0100城", "葛 城", id="form of a letter"),
            pytest.param("한국어 시험", "한국어 시험", id="Korean"),
            pytest.param("क्षि नमस्ते", "क्षि नमस्ते", id="marks within words"),
            pytest.param("\N{ARABIC LIGATURE JALLAJALALOUHOU}", "جل جلاله", id="a letter of two words"),
            pytest.param("snow\N{SOFT HYPHEN}drop", "snowdrop", id="soft hyphen"),
            pytest.param("می\N{ZERO WIDTH NON-JOINER}خواهم", "میخواهم", id="joined by nothing that is seen"),
            pytest.param("\N{OWL}owl\N{OWL}", "owl", id="emoji beside a word"),
            pytest.param(f"1{KEYCAP} go", "1 go", id="keycap"),
            pytest.param(HEART, "", id="emoji with a form"),
            pytest.param(FAMILY, "", id="joined emoji"),
            pytest.param("a \N{COMBINING ENCLOSING KEYCAP}\u093c b", "a b", id="marks of no letter"),
            pytest.param("\N{CJK RADICAL REPEAT}", "", id="sign of a script without spaces"),
            pytest.param(" -!?\n", "", id="none"),
        ],
    )
    def test_gives_the_words_folded(self, text: str, words: str) -> None:
        assert words_of(text) == words.split()

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_gives_nothing_but_letters_with_their_marks_and_digits(self, text: str) -> None:
        assert all(regex.fullmatch(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*", word) for word in words_of(text))

    @given(st.lists(ANY_TEXT))
    @settings(deadline=None)
    def test_splits_a_text_the_same_wherever_it_stands(self, texts: list[str]) -> None:
        assert words_of(" ".join(texts)) == [word for text in texts for word in words_of(text)]

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_gives_words_that_are_themselves(self, text: str) -> None:
        assert words_of(" ".join(words_of(text))) == words_of(text)


class TestTermsOf:
    @pytest.mark.parametrize(
        ("query", "terms"),
        [
            pytest.param("Snow is", [(["snow"], False), (["is"], False)], id="words"),
            pytest.param('"Snow is" out', [(["snow", "is"], False), (["out"], False)], id="phrase"),
            pytest.param("snow*", [(["snow"], True)], id="beginning"),
            pytest.param('"is sno"*', [(["is", "sno"], True)], id="beginning at the end of a phrase"),
            pytest.param("it's*", [(["it", "s"], True)], id="beginning of the last of two words"),
            pytest.param("東京", [(["東", "京"], False)], id="script without spaces"),
            pytest.param('"snow is', [(["snow", "is"], False)], id="quotes that stay open"),
            pytest.param('a"b"c', [(["a"], False), (["b"], False), (["c"], False)], id="quotes in a word"),
            pytest.param("sn*w", [(["sn"], False), (["w"], False)], id="star in a word"),
            pytest.param('"sn* w"', [(["sn", "w"], False)], id="star in quotes"),
            pytest.param("snow *", [(["snow"], False)], id="star alone"),
            pytest.param("*snow", [(["snow"], False)], id="star before a word"),
            pytest.param("snow**", [(["snow"], True)], id="two stars"),
            pytest.param('snow*"is"', [(["snow"], True), (["is"], False)], id="quotes after a star"),
            pytest.param("snow!*", [(["snow"], True)], id="star after a sign"),
            pytest.param("a OR -b", [(["a"], False), (["or"], False), (["b"], False)], id="no operators"),
            pytest.param('"" * - !* "*" "-"*', [], id="stray signs"),
            pytest.param(f"{HEART} {FAMILY}", [], id="emoji"),
        ],
    )
    def test_gives_what_is_asked_for(self, query: str, terms: list[tuple[list[str], bool]]) -> None:
        assert terms_of(query) == [Term(words, is_prefix) for words, is_prefix in terms]

    @given(st.text(st.sampled_from('ab"* -\n') | st.characters()))
    @settings(deadline=None)
    def test_finds_a_meaning_in_whatever_is_typed(self, query: str) -> None:
        terms = terms_of(query)

        assert all(term.words for term in terms)
        assert [word for term in terms for word in term.words] == words_of(regex.sub(r'["*]', " ", query))


class TestTagOf:
    @pytest.mark.parametrize(
        ("text", "tag"),
        [
            pytest.param("Été", "ete", id="folded"),
            pytest.param("\N{ARABIC LIGATURE JALLAJALALOUHOU}" * 70, ("جل جلاله" * 70)[:140], id="cut"),
        ],
    )
    def test_gives_what_is_kept(self, text: str, tag: str) -> None:
        assert tag_of(text) == tag

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_changes_nothing_the_second_time(self, text: str) -> None:
        assert tag_of(tag_of(text * 8)) == tag_of(text * 8)


def shown(text: str) -> list[tuple[str, str | int]]:
    """Return what the marks of a text cover, and what they stand for."""
    marks = marks_in(text, USER_IDS)
    return [(text[mark.start : mark.end], mark.tag or mark.user_id or 0) for mark in marks]


class TestMarksIn:
    @pytest.mark.parametrize(
        ("text", "marks"),
        [
            pytest.param("@ann likes #snow.", [("@ann", 1), ("#snow", "snow")], id="of both kinds"),
            pytest.param("\N{OWL}#snow \N{OWL}@ann", [("#snow", "snow"), ("@ann", 1)], id="after emoji"),
            pytest.param("@Bob. @bob, @bob..", [("@Bob.", 3), ("@bob", 2), ("@bob.", 3)], id="punctuation"),
            pytest.param("@nobody", [], id="nobody's name"),
            pytest.param("no mark", [], id="none"),
        ],
    )
    def test_gives_their_places_in_order(self, text: str, marks: list[tuple[str, str | int]]) -> None:
        assert shown(text) == marks

    def test_says_which_stand_there_again(self) -> None:
        marks = marks_in("#a @ann #b #A @bob @ANN @ann. #a", USER_IDS)

        assert [mark.is_repeat for mark in marks] == [False, False, False, True, False, True, True, True]

    @given(MARKED_TEXT | ANY_TEXT)
    @example("#a @ann")
    @settings(deadline=None)
    def test_covers_what_each_mark_shows(self, text: str) -> None:
        for covered, meaning in shown(text):
            if isinstance(meaning, str):
                assert covered[0] in "#\N{FULLWIDTH NUMBER SIGN}"
                assert meaning == tag_of(covered[1:])
            else:
                assert covered[0] == "@"
                assert meaning == USER_IDS[covered[1:].lower()]

    @given(MARKED_TEXT | ANY_TEXT)
    @settings(deadline=None)
    def test_never_lets_marks_overlap(self, text: str) -> None:
        ends = [0, *(place for mark in marks_in(text, USER_IDS) for place in (mark.start, mark.end))]

        assert ends == sorted(ends)

    @given(MARKED_TEXT, MARKED_TEXT)
    @settings(deadline=None)
    def test_finds_the_same_wherever_a_line_stands(self, before: str, after: str) -> None:
        assert shown(f"{before}\n{after}") == shown(before) + shown(after)

    @given(MARKED_TEXT)
    @settings(deadline=None)
    def test_mentions_only_who_is_asked_for(self, text: str) -> None:
        names = names_in(text)

        known = {name: user_id for name, user_id in USER_IDS.items() if name in names}
        assert marks_in(text, known) == marks_in(text, USER_IDS)


class TestHashtags:
    @pytest.mark.parametrize(
        ("text", "tags"),
        [
            pytest.param("#Garden", ["garden"], id="letters"),
            pytest.param("#Été", ["ete"], id="accents"),
            pytest.param(f"#{DECOMPOSED}", ["cafe"], id="combining accents"),
            pytest.param("#नमस्ते", ["नमस्ते"], id="marks"),
            pytest.param("#東京タワー", ["東京タワー"], id="script without spaces"),
            pytest.param("\N{FULLWIDTH NUMBER SIGN}東京", ["東京"], id="fullwidth sign"),
            pytest.param("#web_2_0", ["web_2_0"], id="underscores and digits"),
            pytest.param("#2026snow", ["2026snow"], id="digits first"),
            pytest.param("#_a", ["_a"], id="underscore first"),
            pytest.param("(#snow), #ice-cream!", ["snow", "ice"], id="punctuation"),
            pytest.param("#snow\n#ice\t#rain", ["snow", "ice", "rain"], id="lines"),
            pytest.param("#snow's", ["snow"], id="apostrophe"),
            pytest.param("\N{OWL}#snow\N{OWL}", ["snow"], id="between emoji"),
            pytest.param(f"{HEART}#snow", ["snow"], id="after an emoji with a form"),
            pytest.param(f"#{KEYCAP}snow", [], id="keycap"),
            pytest.param("#123 #\u0660\u0661 #1_2", [], id="digits only"),
            pytest.param("# #. #_ #\N{OWL}", [], id="no letter"),
            pytest.param("a#b 1#b é#b _#b", [], id="within a word"),
            pytest.param("e\N{COMBINING ACUTE ACCENT}#b", [], id="after a combining accent"),
            pytest.param("##a #a#b", ["a"], id="sign after sign"),
            pytest.param("https://example.com/#a https://example.com/a#b", [], id="address"),
            pytest.param("Caf&#xe9;", [], id="entity of HTML"),
            pytest.param("#\N{GREEK YPOGEGRAMMENI}", [], id="what folds to nothing"),
        ],
    )
    def test_are_letters_after_a_sign(self, text: str, tags: list[str]) -> None:
        assert [mark.tag for mark in marks_in(text, {})] == tags

    @given(st.text(st.characters(categories=["L"]), min_size=1, max_size=3))
    @settings(deadline=None, max_examples=500)
    def test_can_be_asked_for(self, text: str) -> None:
        assert all((mark.tag or "").strip() for mark in marks_in(f"#{text}", {}))


class TestNamesIn:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            pytest.param("@Ann, @BOB", {"ann", "bob"}, id="any case"),
            pytest.param("@ann.b-c_d", {"ann.b-c_d"}, id="signs within a name"),
            pytest.param("@ann.-", {"ann.-", "ann.", "ann"}, id="signs at the end"),
            pytest.param("@ab..", {"ab..", "ab."}, id="not less than three"),
            pytest.param("(@ann) '@bob' @cleo's", {"ann", "bob", "cleo"}, id="punctuation around"),
            pytest.param("\N{OWL}@ann\N{OWL}", {"ann"}, id="between emoji"),
            pytest.param(f"{HEART}@ann{HEART}", {"ann"}, id="between emoji with a form"),
            pytest.param(f"@{'a' * 64} @{'b' * 65}", {"a" * 64}, id="64 and no more"),
            pytest.param(f"@{'a' * 64}.", {"a" * 64}, id="64 and a stop"),
            pytest.param("@ab @7up @_ann @-ann", set(), id="no names"),
            pytest.param("ann@example.com 1@ann é@ann", set(), id="address"),
            pytest.param("@ann@example.com @@ann", set(), id="address elsewhere"),
            pytest.param("https://example.com/@ann", set(), id="part of an address"),
            pytest.param("@anné @anne\N{COMBINING ACUTE ACCENT} @ann東", set(), id="letters after it"),
            pytest.param("#@ann @#ann &@ann", set(), id="beside other signs"),
        ],
    )
    def test_gives_what_may_be_the_names_of_users(self, text: str, names: set[str]) -> None:
        assert names_in(text) == names
