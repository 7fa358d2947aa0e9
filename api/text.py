"""What stands in a text: words to find it by, hashtags, and names of users."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import regex

LETTERS = r"\p{L}\p{M}\p{N}"
# Scripts that put no space between words: there each letter is a word.
UNSPACED = r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc]&&[\p{L}\p{N}]]"
WORD = regex.compile(rf"{UNSPACED}|[[\p{{L}}\p{{N}}]--{UNSPACED}][[{LETTERS}]--{UNSPACED}]*", regex.VERSION1)
WORDS_MAXIMUM = 256  # PostgreSQL keeps no more places of one word.
TAG_MAXIMUM = 140
OVERLOOKED = regex.compile(r"[\u0300-\u036f\u20d0-\u20ff\p{Default_Ignorable_Code_Point}]")

# Neither the end of an address or a word, nor a part of another mark.
ALONE = r"(?<![\p{L}\p{N}_#@&/]\p{M}*)"
HASHTAG = regex.compile(rf"{ALONE}[#\uff03](?!\p{{M}})([{LETTERS}_]*\p{{L}}[{LETTERS}_]*)")
MENTION = regex.compile(rf"{ALONE}@([A-Za-z][A-Za-z0-9_.-]{{2,63}}+)(?![{LETTERS}_@])")
# "Words in quotes", or anything between spaces; a star after it asks for a beginning.
TERM = regex.compile(r'"(?<text>[^"]*)"?(?<star>\*)?|(?<text>[^\s"*]+)(?<star>\*(?![^\s"*]))?|\*')


class Term(NamedTuple):
    """What a search asks for: words that follow each other, of the last perhaps only the beginning."""

    words: list[str]
    is_prefix: bool


class Mark(NamedTuple):
    """A place in a text, in code points: a hashtag, or the mention of a user.

    It is a repeat if the same tag or user stands earlier in the text.
    """

    start: int
    end: int
    tag: str | None
    user_id: int | None
    is_repeat: bool


def fold(text: str) -> str:
    """Return a text without what a search overlooks: case, accents, forms of the same letter."""
    decomposed = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", OVERLOOKED.sub("", decomposed).casefold())


def tag_of(text: str) -> str:
    """Return a hashtag as it is kept and looked for: folded, without its sign."""
    return fold(text).removeprefix("#")[:TAG_MAXIMUM]


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded; they hold nothing but letters and digits."""
    return [found[0] for found in WORD.finditer(fold(text))][:WORDS_MAXIMUM]


def terms_of(query: str) -> list[Term]:
    """Return what a search asks for. Whatever is typed has a meaning; stray signs count for nothing."""
    terms = [Term(words_of(found["text"] or ""), bool(found["star"])) for found in TERM.finditer(query)]
    return [term for term in terms if term.words]


def names_in(text: str) -> set[str]:
    """Return what may be the names of users who are mentioned in a text, in lower case."""
    return {name for found in MENTION.finditer(text) for name in _names(found[1])}


def marks_in(text: str, user_ids: Mapping[str, int]) -> list[Mark]:
    """Return the hashtags and mentions of a text, in their order.

    `user_ids` has all of `names_in` that are names of users. Punctuation that a sentence puts after a name
    belongs to the name if somebody is called so.
    """
    places: list[tuple[int, int, str | None, int | None]]
    hashtags = (found for found in HASHTAG.finditer(text) if words_of(found[1]))
    places = [(*found.span(), tag_of(found[1]), None) for found in hashtags]
    for found in MENTION.finditer(text):
        known = next((name for name in _names(found[1]) if name in user_ids), None)
        if known is not None:
            start = found.start()
            places.append((start, start + 1 + len(known), None, user_ids[known]))
    seen: set[str | int | None] = set()
    marks = []
    for start, end, tag, user_id in sorted(places):
        marks.append(Mark(start, end, tag, user_id, (tag or user_id) in seen))
        seen.add(tag or user_id)
    return marks


def _names(text: str) -> Iterator[str]:
    """Give a possible name, then what is left of it without each mark of punctuation at its end."""
    name = text.lower()
    yield name
    while len(name) > 3 and name[-1] in "_.-":
        name = name[:-1]
        yield name
