"""Reads request bodies under a size limit, and parses strict JSON."""

import json

import orjson
from flask import Flask
from werkzeug.exceptions import ClientDisconnected

from api.web.problems import Problem
from api.web.wrappers import current_request

SIZE_MAXIMUM = 64 * 1024
MEMBERS_MAXIMUM = 32
JSON_TYPES = frozenset({"application/json", "application/merge-patch+json"})


def init_app(app: Flask) -> None:
    """Read the body of each request before its view runs."""
    app.before_request(_read)


def _read() -> None:
    """Read the body into `request.body`, if the method allows one; never more than the limit.

    Content-Length is not trusted: a chunked body has none, and Werkzeug silently truncates one that is too
    long.
    """
    request = current_request()
    if request.is_safe:
        return
    if (request.content_length or 0) > SIZE_MAXIMUM:
        raise Problem("body_too_large")
    body = b""
    try:
        while piece := request.stream.read(SIZE_MAXIMUM + 1 - len(body)):
            body += piece
    except ClientDisconnected:
        raise Problem("incomplete_body") from None
    if len(body) > SIZE_MAXIMUM:
        raise Problem("body_too_large")
    if len(body) < (request.content_length or 0):
        raise Problem("incomplete_body")
    request.body = body


def json_object() -> dict[str, object]:
    """Return the body: one JSON object without duplicate names (RFC 8259, RFC 7493)."""
    request = current_request()
    charset = request.mimetype_params.get("charset", "utf-8")
    if (
        request.mimetype not in JSON_TYPES
        or charset.lower() != "utf-8"
        or request.content_encoding not in {None, "identity"}
        or (request.mimetype != "application/json" and request.method != "PATCH")
    ):
        raise Problem("unsupported_media_type")
    try:
        orjson.loads(request.body)  # Rejects NaN, lone surrogates and deep nesting, which json accepts.
        parsed = json.loads(request.body, object_pairs_hook=_unique_members)
    except (ValueError, RecursionError):
        raise Problem("malformed_json") from None
    return parsed  # type: ignore[no-any-return]


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs) or len(pairs) > MEMBERS_MAXIMUM:
        raise ValueError
    return members
