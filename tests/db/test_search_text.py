"""The words, search terms and tags of a text."""

import unicodedata
from typing import Any

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api.db.search_text import Term, fold, tag_of, terms_of, words_of

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

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
            pytest.param("Việt", "viet", id="two accents on one letter"),
            pytest.param("ﬃ", "ffi", id="ligature"),
            pytest.param("\uff33\uff4e\uff4f\uff57", "snow", id="fullwidth"),
            pytest.param("ﾊﾟ", "パ", id="halfwidth"),
            pytest.param("²", "2", id="superscript"),
            pytest.param("Łódź ŁÓDŹ", "lodz lodz", id="l with stroke"),
            pytest.param(
                "smørrebrød ĐẶNG ħ ŧ ƀ ɖ", "smorrebrod dang h t b d", id="other letters with strokes"
            ),
            pytest.param("Ærø œuvre", "aero oeuvre", id="ligatures that are letters"),
            pytest.param("Þórður ĸ ẞ", "thordur q ss", id="Nordic and Germanic letters"),
            pytest.param("ŋ Ŋ", "n n", id="eng"),
            pytest.param("\N{LATIN SMALL LETTER DOTLESS I}sparta ISPARTA", "isparta isparta", id="dotless i"),
            pytest.param("Əliyev ɛ ɔ ɓ ɗ", "eliyev e o b d", id="letters of Azerbaijani and of Africa"),
            pytest.param("ẜ ꝁ ꝧ", "s k th", id="letters with strokes in their names only"),
            pytest.param("ƛ", "l", id="stroke on a letter that does not exist without it"),
            pytest.param(
                "\u0294 \ua78c", "\u0294 \ua78c", id="Latin letters without a Latin transliteration"
            ),
            pytest.param("a\u1dc4\u1ab0\ufe20 e\u0483\u2de0", "a e", id="rare accents"),
            pytest.param("Қазақ ґанок Ёлка ҋ", "казак ганок елка и", id="Cyrillic letters with marks"),
            pytest.param("љ ћ ө", "љ ћ ө", id="Cyrillic letters that have no plainer form"),
            pytest.param("العَرَبِيَّة ٱللّٰه", "العربيه الله", id="Arabic vowel points"),
            pytest.param("أحمد إيمان آمن مؤمن سئل", "احمد ايمان امن مومن سيل", id="forms of hamza"),
            pytest.param("مـــرحبا", "مرحبا", id="tatweel"),
            pytest.param("على کتاب علی", "علي كتاب علي", id="Arabic and Persian yeh and kaf"),
            pytest.param("خانهٔ خانۀ خانہ", "خانه خانه خانه", id="forms of heh"),
            pytest.param("ݣ ڤ چ", "ݣ ڤ چ", id="Arabic letters with dots"),
            pytest.param("שָׁלוֹם שּׁ מלך", "שלומ ש מלכ", id="Hebrew points and final forms"),
            pytest.param("ܫܠܳܡܳܐ", "ܫܠܡܐ", id="Syriac points"),
            pytest.param("क्षि", "क्षि", id="combining marks other than accents"),
            pytest.param("か\u3099 か\u309a", "が か\u309a", id="combining marks of kana"),
            pytest.param("ぱ", "ぱ", id="composed kana"),
            pytest.param("\u1112\u1161\u11ab", "한", id="conjoining jamo"),
            pytest.param(
                "\N{SNOWMAN}\N{VARIATION SELECTOR-16}", "\N{SNOWMAN}", id="variation selector after an emoji"
            ),
        ],
    )
    def test_removes_differences_that_a_search_ignores(self, text: str, folded: str) -> None:
        assert fold(text) == folded

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_is_idempotent(self, text: str) -> None:
        assert fold(fold(text)) == fold(text)

    @given(ANY_TEXT, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
    @settings(deadline=None)
    def test_does_not_depend_on_the_normalization_form(self, text: str, form: Any) -> None:
        assert fold(unicodedata.normalize(form, text)) == fold(text)


class TestWordsOf:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            pytest.param("The first snow-drops, are_out!", "the first snow drops are out", id="punctuation"),
            pytest.param("#Garden @Ann", "garden ann", id="hashtag and mention"),
            pytest.param("it's", "it s", id="apostrophe"),
            pytest.param("snow snow", "snow snow", id="repeated word"),
            pytest.param("12 3,5 ½", "12 3 5 1 2", id="digits"),
            pytest.param("\u0660\u0661", "\u0660\u0661", id="Arabic digits"),
            pytest.param("東京タワーへ行く", "東 京 タ ワ ー へ 行 く", id="scripts without spaces"),
            pytest.param("スーパーmarket", "ス ー パ ー market", id="prolonged sound mark before Latin"),
            pytest.param("2026年", "2026 年", id="digits before a script without spaces"),
            pytest.param("佐々木 〻ゝヽ", "佐 々 木 〻 ゝ ヽ", id="iteration marks"),
            pytest.param("สวัสดีชาวโลก", "ส วั ส ดี ช า ว โ ล ก", id="Thai"),
            pytest.param("ปี๒๕๖๙ 2026ปี", "ปี ๒๕๖๙ 2026 ปี", id="Thai and digits"),
            pytest.param("ຂ້ອຍຮັກລາວ", "ຂ້ ອ ຍ ຮັ ກ ລ າ ວ", id="Lao"),
            pytest.param("ខ្មែរ", "ខ\u17d2 មែ រ", id="Khmer"),
            pytest.param("ខ\N{ZERO WIDTH SPACE}ម", "ខ ម", id="zero-width space"),
            pytest.param("မြန်မာစာပေ", "မြ န် မာ စာ ပေ", id="Burmese"),
            pytest.param("ꦲꦏ꧀ꦱꦫꦗꦮ", "ꦲ ꦏ꧀ ꦱ ꦫ ꦗ ꦮ", id="Javanese"),
            pytest.param("ᬅᬓ᭄ᬱᬭᬩᬮᬶ", "ᬅ ᬓ᭄ ᬱ ᬭ ᬩ ᬮᬶ", id="Balinese"),
            pytest.param("ᨾᩮᩬᩥᨦ", "ᨾᩮᩬᩥ ᨦ", id="Tai Tham"),
            pytest.param("ᦎᦱᧉ ᥖᥭ ꪼꪕ", "ᦎ ᦱ ᧉ ᥖ ᥭ ꪼ ꪕ", id="New Tai Lue, Tai Le and Tai Viet"),
            pytest.param("ꆈꌠ ㄅㄆ", "ꆈ ꌠ ㄅ ㄆ", id="Yi and Bopomofo"),
            pytest.param("བོད་སྐད", "བོད སྐད", id="Tibetan, whose syllables are separated"),
            pytest.param("葛\U000e0100城", "葛 城", id="ideographic variation selector"),
            pytest.param("한국어 시험", "한국어 시험", id="Korean"),
            pytest.param("क्षि नमस्ते", "क्षि नमस्ते", id="combining marks within words"),
            pytest.param("\N{ARABIC LIGATURE JALLAJALALOUHOU}", "جل جلاله", id="ligature of two words"),
            pytest.param("snow\N{SOFT HYPHEN}drop", "snowdrop", id="soft hyphen"),
            pytest.param("مى\N{ZERO WIDTH NON-JOINER}خواهم", "ميخواهم", id="zero-width non-joiner"),
            pytest.param("\N{OWL}owl\N{OWL}", "owl", id="emoji beside a word"),
            pytest.param(f"1{KEYCAP} go", "1 go", id="keycap"),
            pytest.param(HEART, "", id="emoji with a variation selector"),
            pytest.param(FAMILY, "", id="emoji sequence"),
            pytest.param(
                "a \N{COMBINING ENCLOSING KEYCAP}\u093c b", "a b", id="combining marks without a letter"
            ),
            pytest.param("\N{CJK RADICAL REPEAT}", "", id="symbol of a script without spaces"),
            pytest.param(" -!?\n", "", id="no words"),
        ],
    )
    def test_returns_folded_words(self, text: str, words: str) -> None:
        assert words_of(text) == words.split()

    @given(st.text(st.characters(max_codepoint=127)))
    def test_words_of_ascii_text_are_the_same_beside_other_text(self, text: str) -> None:
        assert words_of(f"{text} ж") == [*words_of(text), "ж"]

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_returns_only_letters_combining_marks_and_digits(self, text: str) -> None:
        assert all(regex.fullmatch(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*", word) for word in words_of(text))

    @given(st.lists(ANY_TEXT))
    @settings(deadline=None)
    def test_splits_joined_texts_like_each_text(self, texts: list[str]) -> None:
        assert words_of(" ".join(texts)) == [word for text in texts for word in words_of(text)]

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_returns_the_same_words_for_its_own_result(self, text: str) -> None:
        assert words_of(" ".join(words_of(text))) == words_of(text)


class TestTermsOf:
    @pytest.mark.parametrize(
        ("query", "terms"),
        [
            pytest.param("Snow is", [(["snow"], False), (["is"], False)], id="words"),
            pytest.param('"Snow is" out', [(["snow", "is"], False), (["out"], False)], id="phrase"),
            pytest.param("snow*", [(["snow"], True)], id="prefix"),
            pytest.param('"is sno"*', [(["is", "sno"], True)], id="prefix at the end of a phrase"),
            pytest.param("it's*", [(["it", "s"], True)], id="prefix of the last of two words"),
            pytest.param("東京", [(["東", "京"], False)], id="script without spaces"),
            pytest.param('"snow is', [(["snow", "is"], False)], id="unclosed quote"),
            pytest.param(
                'a"b"c', [(["a"], False), (["b"], False), (["c"], False)], id="quotes within a word"
            ),
            pytest.param("sn*w", [(["sn"], False), (["w"], False)], id="star within a word"),
            pytest.param('"sn* w"', [(["sn", "w"], False)], id="star within quotes"),
            pytest.param("snow *", [(["snow"], False)], id="star alone"),
            pytest.param("*snow", [(["snow"], False)], id="star before a word"),
            pytest.param("snow**", [(["snow"], True)], id="two stars"),
            pytest.param('snow*"is"', [(["snow"], True), (["is"], False)], id="quote after a star"),
            pytest.param("snow!*", [(["snow"], True)], id="star after punctuation"),
            pytest.param(
                "a OR -b",
                [(["a"], False), (["or"], False), (["b"], False)],
                id="operators of other search engines",
            ),
            pytest.param('"" * - !* "*" "-"*', [], id="punctuation only"),
            pytest.param(f"{HEART} {FAMILY}", [], id="emoji"),
        ],
    )
    def test_returns_the_terms_of_a_query(self, query: str, terms: list[tuple[list[str], bool]]) -> None:
        assert terms_of(query) == [Term(words, is_prefix) for words, is_prefix in terms]

    @given(st.text(st.sampled_from('ab"* -\n') | st.characters()))
    @settings(deadline=None)
    def test_accepts_any_text_and_loses_no_word(self, query: str) -> None:
        terms = terms_of(query)

        assert all(term.words for term in terms)
        assert [word for term in terms for word in term.words] == words_of(regex.sub(r'["*]', " ", query))


class TestTagOf:
    @pytest.mark.parametrize(
        ("text", "tag"),
        [
            pytest.param("Été", "ete", id="folded"),
            pytest.param("\N{ARABIC LIGATURE JALLAJALALOUHOU}" * 70, ("جل جلاله" * 70)[:140], id="truncated"),
        ],
    )
    def test_returns_the_stored_tag(self, text: str, tag: str) -> None:
        assert tag_of(text) == tag

    @given(ANY_TEXT)
    @settings(deadline=None)
    def test_is_idempotent(self, text: str) -> None:
        assume("#" not in fold(text))
        assert tag_of(tag_of(text * 8)) == tag_of(text * 8)
