"""Entity tags, and requests that depend on them (RFC 9110, sections 8.8.3 and 13)."""

import re
from hashlib import blake2b

from flask import current_app
from marshmallow import Schema

from api.database import only_reads
from api.errors import Problem, header_problem
from api.messages import current_request
from api.schema import Shown

ENTITY_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
LIST_OF_TAGS = re.compile(rf"(?:[ \t,]|{ENTITY_TAG}(?=[ \t]*(?:,|$)))+")


def digest(content: bytes, key: bytes = b"") -> str:
    """Return 24 characters that stand for what is shown."""
    return blake2b(content, digest_size=12, key=key).hexdigest()


def entity_tag(shown: Shown) -> str | None:
    """Return the `ETag` of an answer; None if it has none.

    A representation that has its tag as a member has a strong one. Lists, and answers with more than the
    representation, have weak ones; these are others under another secret, which ends the cursors in them.
    """
    is_read = only_reads()
    if shown.etag and not (is_read and current_request().expand):
        return f'"{shown.etag}"'
    if not is_read:
        return None
    secret: str = current_app.config["SECRET_KEY"]
    return f'W/"{digest(shown.source, secret.encode()[:64])}"'


def ensure_unchanged(row: object, schema: Schema) -> None:
    """Refuse a change unless `If-Match`, where it is sent, has the tag of the row as the schema shows it.

    The row is locked, so that nobody changes it between this and the change. Tags are compared strongly: a
    weak one never matches (RFC 9110, section 13.1.1).
    """
    tags = _tags("If-Match")
    if tags is None or "*" in tags:
        return
    etag = schema.fields["etag"].serialize("etag", row)
    if f'"{etag}"' not in tags:
        raise Problem("precondition_failed", headers={"ETag": f'"{etag}"'}, etag=etag)


def is_known(etag: str) -> bool:
    """Say whether the caller has the answer with this tag already, by `If-None-Match`.

    Tags are compared weakly: whether either is weak does not matter (RFC 9110, section 13.1.2).
    """
    tags = _tags("If-None-Match") or set()
    return "*" in tags or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}


def _tags(header: str) -> set[str] | None:
    """Return the tags that a header lists, or `*`; None if it is not sent."""
    text = current_request().environ.get(f"HTTP_{header.upper().replace('-', '_')}")
    if text is None:
        return None
    if text == "*":
        return {text}
    tags = set(re.findall(ENTITY_TAG, text)) if LIST_OF_TAGS.fullmatch(text) else set()
    if not tags:
        raise header_problem(header, "wrong_format", 'Must be * or tags in quotes: "abc", "def".')
    return tags
