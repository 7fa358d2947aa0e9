"""Signs values that clients send back: tokens and cursors. Each purpose has its own key."""

import hmac
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson
from flask import current_app
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode


def signed(purpose: str, values: Sequence[object]) -> str:
    """Return values as signed text, for one purpose: HMAC-SHA-256 with the application's secret."""
    return _signer(purpose, _secret()).sign(base64_encode(orjson.dumps(values))).decode()


def signed_values(purpose: str, text: str, count: int) -> list[Any] | None:
    """Return the values of a text that was signed for a purpose; None if the signature or count is wrong."""
    try:
        values: list[Any] = orjson.loads(base64_decode(_signer(purpose, _secret()).unsign(text)))
    except (BadData, ValueError):
        return None
    return values if len(values) == count else None


def keyed_hash(purpose: str, *parts: str | bytes) -> bytes:
    """Return a digest of some values, 32 bytes: HMAC-SHA-256 with the application's secret."""
    digest = hmac.new(_secret().encode(), digestmod=sha256)
    for part in (purpose, *parts):
        octets = part.encode() if isinstance(part, str) else part
        digest.update(len(octets).to_bytes(8) + octets)
    return digest.digest()


def _secret() -> str:
    secret: str = current_app.config["SECRET_KEY"]
    return secret


@lru_cache
def _signer(purpose: str, secret: str) -> Signer:
    key = hmac.digest(secret.encode(), purpose.encode(), sha256)  # A key for each purpose, derived once.
    return Signer(key, key_derivation="none", digest_method=sha256)
