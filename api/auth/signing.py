"""Signs values that clients send back: tokens and cursors. Each purpose has its own key.

The settings are Flask's: `SECRET_KEY` signs, and the keys in `SECRET_KEY_FALLBACKS` are accepted too.
"""

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
    return _signer(purpose, _secrets()).sign(base64_encode(orjson.dumps(values))).decode()


def signed_values(purpose: str, text: str, count: int) -> list[Any] | None:
    """Return the values of a text that was signed for a purpose; None if the signature or count is wrong."""
    try:
        values: list[Any] = orjson.loads(base64_decode(_signer(purpose, _secrets()).unsign(text)))
    except (BadData, ValueError):
        return None
    return values if len(values) == count else None


def keyed_hashes(purpose: str, *parts: str | bytes) -> list[bytes]:
    """Return digests of some values, 32 bytes each: HMAC-SHA-256 with each accepted secret.

    The last one is that with the application's present secret.
    """
    return [_keyed_hash(secret, purpose, *parts) for secret in _secrets()]


def _keyed_hash(secret: str, *parts: str | bytes) -> bytes:
    digest = hmac.new(secret.encode(), digestmod=sha256)
    for part in parts:
        octets = part.encode() if isinstance(part, str) else part
        digest.update(len(octets).to_bytes(8) + octets)
    return digest.digest()


def _secrets() -> tuple[str, ...]:
    """Return the accepted secrets. The last one signs, as in the lists of itsdangerous."""
    config = current_app.config
    return *(config["SECRET_KEY_FALLBACKS"] or ()), config["SECRET_KEY"]


@lru_cache
def _signer(purpose: str, secrets: tuple[str, ...]) -> Signer:
    # A key for each purpose, derived once.
    keys = [hmac.digest(secret.encode(), purpose.encode(), sha256) for secret in secrets]
    return Signer(keys, key_derivation="none", digest_method=sha256)
