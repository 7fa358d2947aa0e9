"""Splits and folds text for the full-text search, the same way on both databases."""

import re
import unicodedata
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import regex
from anyascii import anyascii

LETTERS = r"\p{L}\p{M}\p{N}"
# Scripts that put no spaces between words, by their rules for line breaks (https://unicode.org/reports/tr14).
# SA is Thai, Lao, Khmer, Burmese and the like; AK, AP and AS are Javanese, Balinese and the like; ID, CJ and
# NS are Chinese and Japanese. Each of their letters, with its marks, is a word.
UNSPACED_CLASSES = "".join(rf"\p{{Line_Break={name}}}" for name in ("SA", "AK", "AP", "AS", "ID", "CJ", "NS"))
UNSPACED = rf"[[{UNSPACED_CLASSES}]&&[\p{{L}}\p{{N}}]]"
WORD = regex.compile(
    rf"{UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}]--{UNSPACED}][[{LETTERS}]--{UNSPACED}]*", regex.VERSION1
)
ASCII_WORD = re.compile("[a-z0-9]+")  # As WORD, for folded text, in a tenth of the time.
WORDS_MAXIMUM = 256  # PostgreSQL stores at most 256 positions of one word.
TAG_MAXIMUM = 140
# Signs that join the parts of a hashtag: optional medial characters of UAX #31, and those of Hebrew, Tibetan
# and Japanese (maqaf, geresh, tsheg, wave dash with its fullwidth form).
TAG_JOINTS = "\u00b7\u058a\u05be\u05f3\u05f4\u0f0b\u0f0c\u2027\u30a0\u30fb\uff65\u301c\uff5e"
# Accents, marks that are optional in their scripts (such as vowel points), and characters without an
# appearance. Of the marks that many scripts use (Inherited), those on kana make other letters.
IGNORED = regex.compile(
    r"[[[\p{Inherited}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Syriac}\p{Samaritan}]&&\p{M}]--[\u3099\u309a]]"
    r"|[\p{Default_Ignorable_Code_Point}\N{ARABIC TATWEEL}]",
    regex.VERSION1,
)
# Letters that people also type as others, beside those whose Unicode names and transliterations tell it:
# in Arabic as in Lucene's ArabicNormalizer and PersianNormalizer, the letter eng as in CLDR's Latin-ASCII.
PLAIN = {
    "\N{ARABIC LETTER ALEF WASLA}": "\N{ARABIC LETTER ALEF}",
    "\N{ARABIC LETTER ALEF WITH WAVY HAMZA ABOVE}": "\N{ARABIC LETTER ALEF}",
    "\N{ARABIC LETTER ALEF WITH WAVY HAMZA BELOW}": "\N{ARABIC LETTER ALEF}",
    "\N{ARABIC LETTER ALEF MAKSURA}": "\N{ARABIC LETTER YEH}",
    "\N{ARABIC LETTER FARSI YEH}": "\N{ARABIC LETTER YEH}",
    "\N{ARABIC LETTER KEHEH}": "\N{ARABIC LETTER KAF}",
    "\N{ARABIC LETTER TEH MARBUTA}": "\N{ARABIC LETTER HEH}",
    "\N{ARABIC LETTER TEH MARBUTA GOAL}": "\N{ARABIC LETTER HEH}",
    "\N{ARABIC LETTER HEH GOAL}": "\N{ARABIC LETTER HEH}",
    "\N{ARABIC LETTER AE}": "\N{ARABIC LETTER HEH}",
    "\N{LATIN SMALL LETTER ENG}": "n",
}
LATIN = regex.compile(r"\p{Latin}")
VARIANT = regex.compile(rf"[[\p{{Latin}}\p{{Cyrillic}}\p{{Hebrew}}{''.join(PLAIN)}]--[a-z]]", regex.VERSION1)
# "A phrase in quotes", or a word up to a space; a star after it makes the last word a prefix.
TERM = regex.compile(r'"(?<text>[^"]*)"?(?<star>\*)?|(?<text>[^\s"*]+)(?<star>\*(?![^\s"*]))?|\*')


class Term(NamedTuple):
    """A search term: words that follow each other, the last of which may be a prefix."""

    words: list[str]
    is_prefix: bool


def fold(text: str) -> str:
    """Return a text without the differences that a search ignores.

    These are case, accents, optional marks, compatibility forms, and letters that are typed as plainer ones.
    """
    if text.isascii():
        return text.lower()
    letters = IGNORED.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return unicodedata.normalize("NFKC", VARIANT.sub(lambda found: _plain(found[0]), letters))


@cache
def _plain(letter: str) -> str:
    """Return a folded letter as it is typed without its own key: `o` for `ø`, `ae` for `æ`."""
    if letter in PLAIN:
        return PLAIN[letter]
    name = unicodedata.name(letter, "")
    base_name = name.replace("LETTER FINAL ", "LETTER ").partition(" WITH ")[0]
    if base_name != name:
        with suppress(KeyError):  # Some bases are no characters of their own.
            return fold(unicodedata.lookup(base_name))
    latin = anyascii(letter).lower() if LATIN.match(letter) else ""
    return latin if latin.isalpha() else letter


def tag_of(text: str) -> str:
    """Return a hashtag as it is stored and searched: folded, without its sign."""
    # Systems differ in how they type a wave dash; folding turns its fullwidth form into a tilde.
    tag = fold(text).removeprefix("#").replace("~", "\u301c")
    return tag[:TAG_MAXIMUM].rstrip(TAG_JOINTS)


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded; they contain only letters and digits."""
    folded = fold(text)
    word = ASCII_WORD if folded.isascii() else WORD
    return word.findall(folded)[:WORDS_MAXIMUM]


def terms_of(query: str) -> list[Term]:
    """Return the terms of a search. Every text is a valid search; other punctuation is ignored."""
    terms = [Term(words_of(found["text"] or ""), bool(found["star"])) for found in TERM.finditer(query)]
    return [term for term in terms if term.words]
