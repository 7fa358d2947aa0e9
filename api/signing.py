"""What the service gives out to be brought back is signed, each kind for its own purpose."""

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


def signed_values(purpose: str, text: str, count: int) -> list[Any] | None:
    """Return the values that were signed for a purpose; None if they were not, or not as many."""
    try:
        values: list[Any] = signer(purpose).loads(text)
    except BadData:
        return None
    return values if len(values) == count else None
