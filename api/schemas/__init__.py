"""Base classes, field types and error messages of the schemas."""

from api.schemas.base import BaseSchema, QuerySchema, RepresentationSchema
from api.schemas.context import VIEWER_ID, VIEWER_SESSION_ID, Context
from api.schemas.fields import (
    ETag,
    Expandable,
    Integer,
    MultilineText,
    Text,
    TrimmedText,
    UTCDateTimeField,
    ViewerFlag,
)
from api.schemas.messages import invalid

__all__ = [
    "VIEWER_ID",
    "VIEWER_SESSION_ID",
    "BaseSchema",
    "Context",
    "ETag",
    "Expandable",
    "Integer",
    "MultilineText",
    "QuerySchema",
    "RepresentationSchema",
    "Text",
    "TrimmedText",
    "UTCDateTimeField",
    "ViewerFlag",
    "invalid",
]
