"""Finds the URLs, hashtags and mentions in the text of a post."""

from collections.abc import Iterator, Mapping
from typing import Any

import regex

from api.db.folding import folded
from api.db.search_text import LETTERS, TAG_JOINTS, tag_of, words_of
from api.posts.links import UNSPACED_WITHOUT_WIDE_FORMS, links_in

SIGNS = r"\#\uff03@\uff20&/"
# No hashtag begins directly after a letter or digit of a script with spaces, or after _ or another sign.
HASHTAG_BOUNDARY = rf"(?<![[[\p{{L}}\p{{N}}]--{UNSPACED_WITHOUT_WIDE_FORMS}]_{SIGNS}]\p{{M}}*)"
# U+309B and U+309C are the voiced sound marks of kana.
TAG_CHARACTER = rf"[{LETTERS}_\u309b\u309c]"
# Joiners (U+200C, U+200D) are part of a word, and at its end too if they follow a virama.
JOINERS = r"[\u200c\u200d]"
JOINT = rf"(?:[\u301c\uff5e]+|[{TAG_JOINTS}]|{JOINERS}+)(?={TAG_CHARACTER})|(?<=\p{{ccc=9}}){JOINERS}"
HASHTAG = regex.compile(
    rf"""
    {HASHTAG_BOUNDARY} [\#\uff03\ufe5f] (?!\p{{M}})(?={TAG_CHARACTER})
    ( (?:[{TAG_CHARACTER}--\p{{L}}]|{JOINT})*+ \p{{L}} (?:{TAG_CHARACTER}|{JOINT})*+ )
    """,
    regex.VERSION1 | regex.VERBOSE,
)
# Usernames are ASCII: a letter of another script than Latin ends them, as in @annさん.
MENTION = regex.compile(
    rf"""
    (?<![\p{{Latin}}\p{{N}}_{SIGNS}]\p{{M}}*) [@\uff20\ufe6b]
    ([A-Za-z][A-Za-z0-9_.-]{{2,63}}+) (?![\p{{Latin}}\p{{M}}\p{{N}}_@\uff20])
    """,
    regex.VERSION1 | regex.VERBOSE,
)


def usernames_in(text: str) -> set[str]:
    """Return the usernames that may be mentioned in a text, in lower case."""
    return {name for found in MENTION.finditer(_without_links(text)) for name in _candidates(found[1])}


def entities_in(text: str, user_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the columns of the entities in a text, in their order.

    `user_ids` has the ids of existing users, by the names that `usernames_in` returns. If several candidates
    exist because punctuation follows a username, the longest one is mentioned.
    """
    found: list[tuple[int, int, str, str | int]] = [
        (link.start, link.end, "url", link.url) for link in links_in(text) if link.url is not None
    ]
    text = _without_links(text)
    found += [
        (*hashtag.span(), "tag", tag_of(hashtag[1]))
        for hashtag in HASHTAG.finditer(text)
        if words_of(hashtag[1])
    ]
    for mention in MENTION.finditer(text):
        username = next((name for name in _candidates(mention[1]) if name in user_ids), None)
        if username is not None:
            start = mention.start()
            found.append((start, start + 1 + len(username), "user_id", user_ids[username]))
    seen: set[tuple[str, str | int]] = set()
    entities = []
    for start, end, kind, target in sorted(found):
        targets = {"tag": None, "user_id": None, "url": None, kind: target}
        is_repeat = (kind, target) in seen
        entities.append({"start": start, "end": end, **targets, "is_repeat": is_repeat})
        seen.add((kind, target))
    return entities


def _without_links(text: str) -> str:
    """Return a text with slashes in place of URLs and email addresses, so that positions are the same."""
    for link in links_in(text):
        text = text[: link.start] + "/" * (link.end - link.start) + text[link.end :]
    return text


def _candidates(text: str) -> Iterator[str]:
    """Yield a possible username, then shorter ones without the punctuation at its end."""
    name = folded(text)
    yield name
    while len(name) > 3 and name[-1] in "_.-":
        name = name[:-1]
        yield name
