"""Representations of tokens and sessions, and the input for refreshing."""

from marshmallow import fields, validate
from marshmallow_sqlalchemy import auto_field

from api.models import Session
from api.schemas.base import BaseSchema, QuerySchema, RepresentationSchema
from api.schemas.context import VIEWER_SESSION_ID
from api.schemas.fields import Integer, Text, ViewerFlag


class TokenPairSchema(RepresentationSchema):
    """An access token and a refresh token (RFC 6749, section 5.1)."""

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
            "description": "Exchange it once, at `POST /tokens/refresh`, for the next pair. Null if it is "
            "set as a cookie.",
            "example": "WzEsMV0.b2t1U0pHV0xwV3VJb0p5c1ZtWUxrSGZtN1pNd0Q",
        },
    )
    token_type = fields.String(
        required=True,
        metadata={
            "description": "How to send the access token.",
            "x-extensible-enum": ["Bearer"],
            "example": "Bearer",
        },
    )
    expires_in = Integer(
        required=True,
        metadata={
            "format": "int32",
            "description": "Seconds until the access token expires.",
            "example": 900,
        },
    )


class TokenQuery(QuerySchema):
    """The query parameters of signing in."""

    cookie = fields.Boolean(
        truthy={"true"},
        falsy={"false"},
        load_default=False,
        metadata={
            "description": "Whether to set the refresh token as a cookie that no script can read, for pages "
            "of the service's own origin and of allowed origins."
        },
    )


class TokenRefreshSchema(BaseSchema):
    """The input for refreshing tokens."""

    refresh_token = Text(
        allow_none=True,
        load_default=None,
        validate=validate.Length(max=500),
        metadata={
            "description": "The refresh token of the latest pair. If null or not sent, the cookie is used.",
            "example": "WzEsMV0.b2t1U0pHV0xwV3VJb0p5c1ZtWUxrSGZtN1pNd0Q",
        },
    )


class SessionSchema(RepresentationSchema):
    """One sign-in."""

    IS_CONFIDENTIAL = True

    class Meta:
        model = Session

    id = auto_field(
        required=True,
        metadata={"description": "Id of the session, for `DELETE /tokens/{token_id}`.", "example": 3},
    )
    is_current = ViewerFlag(
        Session.id == VIEWER_SESSION_ID,
        metadata={"description": "Whether it is the session of this request.", "example": True},
    )
    user_agent = auto_field(
        required=True,
        metadata={
            "description": "The `User-Agent` of the client that signed in.",
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
            "description": "When its tokens were last refreshed.",
            "example": "2026-11-22T09:45:30.000Z",
        },
    )
    expires_at = auto_field(
        required=True,
        metadata={
            "description": "When it expires, unless its tokens are refreshed before.",
            "example": "2026-12-22T09:45:30.000Z",
        },
    )
