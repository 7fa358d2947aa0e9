"""Request bodies: bounded, whole, and strict JSON."""

import json
from typing import Any

import orjson
from flask import Flask
from werkzeug.exceptions import ClientDisconnected

from api.errors import Problem
from api.messages import current_request

SIZE_MAXIMUM = 64 * 1024
MEMBERS_MAXIMUM = 32
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
JSON_TYPES = frozenset({"application/json", "application/merge-patch+json"})


def init_app(app: Flask) -> None:
    """Read each request's body before anything else is done for it."""
    app.before_request(_read)


def _read() -> None:
    """Keep the body of a request that may have one in its `body`; never hold more of it than is allowed.

    The length is not trusted: a chunked body has none, and Werkzeug cuts one that is too long in
    silence.
    """
    request = current_request()
    if request.method in BODILESS:
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


def json_object() -> dict[str, Any]:
    """Return the body, which must be one JSON object with no name twice in it (RFC 8259, RFC 7493)."""
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
        orjson.loads(request.body)  # Refuses what the standard library lets through, and deep nesting.
        parsed = json.loads(request.body, object_pairs_hook=_unique_members)
    except (ValueError, RecursionError):
        raise Problem("malformed_json") from None
    return parsed  # type: ignore[no-any-return]


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs) or len(pairs) > MEMBERS_MAXIMUM:
        raise ValueError
    return members
