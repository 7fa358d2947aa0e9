"""What the service gives out to be brought back is signed, each kind for its own purpose."""

import hmac
from hashlib import sha256
from typing import Any

from flask import current_app
from itsdangerous import BadData, URLSafeSerializer


def signer(purpose: str) -> URLSafeSerializer:
    """Return what signs and reads values for one purpose: HMAC-SHA-256 with the application's secret."""
    return URLSafeSerializer(
        current_app.config["SECRET_KEY"],
        salt=purpose,
        signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
    )


def keyed_hash(purpose: str, *parts: str | bytes) -> bytes:
    """Return 32 bytes that stand for some values and tell nothing of them: HMAC-SHA-256 with the secret."""
    made = hmac.new(current_app.config["SECRET_KEY"].encode(), digestmod=sha256)
    for part in (purpose, *parts):
        octets = part.encode() if isinstance(part, str) else part
        made.update(len(octets).to_bytes(8) + octets)
    return made.digest()


def signed_values(purpose: str, text: str, count: int) -> list[Any] | None:
    """Return the values that were signed for a purpose; None if they were not, or not as many."""
    try:
        values: list[Any] = signer(purpose).loads(text)
    except BadData:
        return None
    return values if len(values) == count else None
