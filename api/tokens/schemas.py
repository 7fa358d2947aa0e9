"""How tokens and sessions are shown."""

from marshmallow import EXCLUDE, fields, validate
from marshmallow_sqlalchemy import auto_field

from api.models import Session
from api.schema import BaseSchema, Integer, QuerySchema, Text


class TokenPairSchema(BaseSchema):
    """What a client needs to act for its user (RFC 6749, section 5.1)."""

    class Meta:
        unknown = EXCLUDE

    access_token = fields.String(
        required=True,
        metadata={
            "description": "Send it as `Authorization: Bearer …`.",
            "example": "WzEsMTc2Mzg5MjAwMF0.Zt0Zk0uJ3tQ2nJt0Rk1mU0tqT1pEZ2V0d0dWb1p4bXc",
        },
    )
    refresh_token = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Exchange it once, at `POST /tokens/refresh`, for the next pair. Null if it "
            "travels in a cookie.",
            "example": "WzEsMV0.b2t1U0pHV0xwV3VJb0p5c1ZtWUxrSGZtN1pNd0Q",
        },
    )
    token_type = fields.String(
        required=True, metadata={"description": "Always `Bearer`.", "example": "Bearer"}
    )
    expires_in = Integer(
        required=True,
        metadata={
            "format": "int32",
            "description": "For how many seconds the access token is still good.",
            "example": 900,
        },
    )


class TokenQuery(QuerySchema):
    """How tokens are to travel."""

    cookie = fields.Boolean(
        truthy={"true"},
        falsy={"false"},
        load_default=False,
        metadata={
            "description": "Whether to set the refresh token as a cookie that no script can read, for pages "
            "of the service's own origin and of those that it allows."
        },
    )


class TokenRefreshSchema(BaseSchema):
    """What it takes to go on being signed in."""

    refresh_token = Text(
        allow_none=True,
        load_default=None,
        validate=validate.Length(max=500),
        metadata={
            "description": "The refresh token of the newest pair. If null or left out, that in the cookie.",
            "example": "WzEsMV0.b2t1U0pHV0xwV3VJb0p5c1ZtWUxrSGZtN1pNd0Q",
        },
    )


class SessionSchema(BaseSchema):
    """One place where you are signed in."""

    IS_CONFIDENTIAL = True

    class Meta:
        model = Session
        unknown = EXCLUDE

    id = auto_field(
        required=True,
        metadata={"description": "Id to end it with, `DELETE /tokens/{token_id}`.", "example": 3},
    )
    is_current = fields.Boolean(
        required=True,
        metadata={"description": "Whether it is the one that asks.", "example": True},
    )
    user_agent = auto_field(
        required=True,
        metadata={
            "description": "The program that signed in, by its own account.",
            "example": "curl/8.5.0",
        },
    )
    created_at = auto_field(
        required=True,
        metadata={"description": "When you signed in.", "example": "2026-11-22T09:31:00.000Z"},
    )
    refreshed_at = auto_field(
        required=True,
        metadata={
            "description": "When its tokens were last renewed.",
            "example": "2026-11-22T09:45:30.000Z",
        },
    )
    expires_at = auto_field(
        required=True,
        metadata={
            "description": "When it ends, unless its tokens are renewed before.",
            "example": "2026-12-22T09:45:30.000Z",
        },
    )
