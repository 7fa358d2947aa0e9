"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13)."""

import hmac
import re

from flask import current_app
from marshmallow import Schema

from api.web.problems import Problem, header_problem
from api.web.wrappers import current_request

ENTITY_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
# The values of `If-Match` and `If-None-Match`; elements of a list may be empty (RFC 9110, section 5.6.1.2).
CONDITION = rf"^(?:\*|[ \t,]*{ENTITY_TAG}(?:[ \t]*,[ \t,]*{ENTITY_TAG})*[ \t,]*)$"
# A proxy that compresses a response marks its tag: nginx as weak, Apache and Caddy with a suffix.
MARKS = re.compile(r'^W/|(?:(?:--?|[:;])(?:x-)?(?:gzip|br|zstd|deflate)){1,3}(?="$)')


def response_etag(json: bytes, etag: str | None) -> str | None:
    """Return the `ETag` of a response, given its body and the body's member `etag`; None if it has none.

    Representations with that member have a strong tag. Lists, and representations with expanded parts, have
    weak tags. These are keyed with the secret, because a new secret invalidates the cursors in a list.
    """
    request = current_request()
    if etag and not (request.is_safe and request.expand):
        return f'"{etag}"'
    if not request.is_safe:
        return None
    secret: str = current_app.config["SECRET_KEY"]
    return f'W/"{hmac.digest(secret.encode(), json, "sha256")[:12].hex()}"'


def ensure_unchanged(row: object, schema: Schema) -> None:
    """Raise 412 if `If-Match` is sent and does not list the tag of the row, serialized by the schema.

    The caller has locked the row, so that it cannot change between this check and the update.

    RFC 9110, section 13.1.1, requires the strong comparison, by which a weak tag never matches. A proxy may
    have weakened a strong tag, so its marks are removed first. No weak tag of the service has the opaque part
    of a strong one.
    """
    tags = _tags("If-Match")
    if tags is None or "*" in tags:
        return
    etag: str = schema.fields["etag"].serialize("etag", row)
    if f'"{etag}"' not in tags:
        raise Problem("precondition_failed", headers={"ETag": f'"{etag}"'}, etag=etag)


def is_fresh(etag: str) -> bool:
    """Whether `If-None-Match` lists this tag, so that the caller has a copy of the response.

    Tags are compared weakly: whether either is weak does not matter (RFC 9110, section 13.1.2).
    """
    tags = _tags("If-None-Match") or set()
    return "*" in tags or etag.removeprefix("W/") in tags


def _tags(header: str) -> set[str] | None:
    """Return the tags that a header lists, without marks, or `*`; None if it is not sent."""
    text = current_request().headers.get(header)
    if text is None:
        return None
    if not re.fullmatch(CONDITION, text):
        raise header_problem(header, "wrong_format", 'Must be * or tags in quotes: "abc", "def".')
    return {MARKS.sub("", tag) for tag in re.findall(rf"\*|{ENTITY_TAG}", text)}
