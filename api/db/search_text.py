"""Splits and folds text for the full-text search, the same way on both databases."""

import unicodedata
from typing import NamedTuple

import regex

LETTERS = r"\p{L}\p{M}\p{N}"
# Scripts without spaces between words: each character is a word.
UNSPACED = r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc]&&[\p{L}\p{N}]]"
WORD = regex.compile(rf"{UNSPACED}|[[\p{{L}}\p{{N}}]--{UNSPACED}][[{LETTERS}]--{UNSPACED}]*", regex.VERSION1)
WORDS_MAXIMUM = 256  # PostgreSQL stores at most 256 positions of one word.
TAG_MAXIMUM = 140
# Signs that join the parts of a hashtag: optional medial characters of UAX #31, and those of Hebrew, Tibetan
# and Japanese (maqaf, geresh, tsheg, wave dash with its fullwidth form).
TAG_JOINTS = "\u00b7\u058a\u05be\u05f3\u05f4\u0f0b\u0f0c\u2027\u30a0\u30fb\uff65\u301c\uff5e"
IGNORED = regex.compile(r"[\u0300-\u036f\u20d0-\u20ff\p{Default_Ignorable_Code_Point}]")
# "A phrase in quotes", or a word up to a space; a star after it makes the last word a prefix.
TERM = regex.compile(r'"(?<text>[^"]*)"?(?<star>\*)?|(?<text>[^\s"*]+)(?<star>\*(?![^\s"*]))?|\*')


class Term(NamedTuple):
    """A search term: words that follow each other, the last of which may be a prefix."""

    words: list[str]
    is_prefix: bool


def fold(text: str) -> str:
    """Return a text without the differences that a search ignores: case, accents, compatibility forms."""
    decomposed = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", IGNORED.sub("", decomposed).casefold())


def tag_of(text: str) -> str:
    """Return a hashtag as it is stored and searched: folded, without its sign."""
    # Systems differ in how they type a wave dash; folding turns its fullwidth form into a tilde.
    tag = fold(text).removeprefix("#").replace("~", "\u301c")
    return tag[:TAG_MAXIMUM].rstrip(TAG_JOINTS)


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded; they contain only letters and digits."""
    return [found[0] for found in WORD.finditer(fold(text))][:WORDS_MAXIMUM]


def terms_of(query: str) -> list[Term]:
    """Return the terms of a search. Every text is a valid search; other punctuation is ignored."""
    terms = [Term(words_of(found["text"] or ""), bool(found["star"])) for found in TERM.finditer(query)]
    return [term for term in terms if term.words]
