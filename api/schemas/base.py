"""The base classes of all schemas."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from marshmallow import EXCLUDE, RAISE, Schema, fields, validate
from marshmallow_sqlalchemy import SQLAlchemySchema

from api.schemas.fields import Integer, Text, UTCDateTimeField
from api.schemas.messages import Message, with_codes


class BaseSchema(SQLAlchemySchema[Any]):
    """A schema that maps columns to the fields of `api.schemas.fields`, and whose errors have codes."""

    TYPE_MAPPING = {**Schema.TYPE_MAPPING, str: Text, int: Integer, datetime: UTCDateTimeField}

    # If true, no cache may store the representation, not even the caller's own.
    IS_CONFIDENTIAL = False

    # Response headers that repeat members of the body, for the contract: name to description.
    HEADERS: Mapping[str, str] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.error_messages = with_codes(self.error_messages)

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Load to a dictionary.

        SQLAlchemySchema.load stores the session and the instance in the schema, which all threads share, and
        looks up marshmallow's version in the file system on each call.
        """
        return Schema.load(self, data, **kwargs)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Add codes to the errors of a field and of its validators, and a pattern to text."""
        super().on_bind_field(field_name, field_obj)
        field_obj.error_messages = with_codes(field_obj.error_messages)
        for rule in field_obj.validators:
            if isinstance(rule, validate.Range):
                rule.error = Message("out_of_range", "Must be from {min} to {max}.")
        if self.unknown == RAISE and isinstance(field_obj, Text):  # Only input has patterns.
            pattern = field_obj.metadata.get("pattern", field_obj.pattern)
            field_obj.metadata = {**field_obj.metadata, "pattern": pattern}


class RepresentationSchema(BaseSchema):
    """The schema of a response. The contract allows further members, so that responses can grow."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(unknown=EXCLUDE, **kwargs)


class QuerySchema(BaseSchema):
    """The parameters of a query string."""

    error_messages = {"unknown": Message("unknown_parameter", "Unknown parameter.")}
