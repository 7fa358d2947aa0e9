"""What the service gives out to be brought back is signed, each kind for its own purpose."""

from hashlib import sha256

from flask import current_app
from itsdangerous import URLSafeSerializer


def signer(purpose: str) -> URLSafeSerializer:
    """Return what signs and reads values for one purpose: HMAC-SHA-256 with the application's secret."""
    return URLSafeSerializer(
        current_app.config["SECRET_KEY"],
        salt=purpose,
        signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
    )
