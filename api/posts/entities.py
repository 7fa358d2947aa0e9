"""Finds the hashtags and mentions in the text of a post."""

from collections.abc import Iterator, Mapping
from typing import Any

import regex

from api.db.search_text import LETTERS, tag_of, words_of

# Not directly after a word, an address or another hashtag or mention.
BOUNDARY = r"(?<![\p{L}\p{N}_#@&/]\p{M}*)"
HASHTAG = regex.compile(rf"{BOUNDARY}[#\uff03](?!\p{{M}})([{LETTERS}_]*\p{{L}}[{LETTERS}_]*)")
MENTION = regex.compile(rf"{BOUNDARY}@([A-Za-z][A-Za-z0-9_.-]{{2,63}}+)(?![{LETTERS}_@])")


def usernames_in(text: str) -> set[str]:
    """Return the usernames that may be mentioned in a text, in lower case."""
    return {name for found in MENTION.finditer(text) for name in _candidates(found[1])}


def entities_in(text: str, user_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the columns of the entities in a text, in their order.

    `user_ids` has the ids of existing users, by the names that `usernames_in` returns. If several candidates
    exist because punctuation follows a username, the longest one is mentioned.
    """
    found: list[tuple[int, int, str | None, int | None]] = [
        (*hashtag.span(), tag_of(hashtag[1]), None)
        for hashtag in HASHTAG.finditer(text)
        if words_of(hashtag[1])
    ]
    for mention in MENTION.finditer(text):
        username = next((name for name in _candidates(mention[1]) if name in user_ids), None)
        if username is not None:
            start = mention.start()
            found.append((start, start + 1 + len(username), None, user_ids[username]))
    seen: set[str | int | None] = set()
    entities = []
    for start, end, tag, user_id in sorted(found):
        is_repeat = (tag or user_id) in seen
        entities.append({"start": start, "end": end, "tag": tag, "user_id": user_id, "is_repeat": is_repeat})
        seen.add(tag or user_id)
    return entities


def _candidates(text: str) -> Iterator[str]:
    """Yield a possible username, then shorter ones without the punctuation at its end."""
    name = text.lower()
    yield name
    while len(name) > 3 and name[-1] in "_.-":
        name = name[:-1]
        yield name
