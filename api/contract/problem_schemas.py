"""The schemas of problem documents, for the contract."""

from marshmallow import fields

from api.schemas.base import RepresentationSchema
from api.web.problem_types import INPUT_ERRORS, PROBLEM_TYPES


class InputErrorSchema(RepresentationSchema):
    """One invalid value. Exactly one of `pointer`, `parameter` and `header` locates it."""

    pointer = fields.String(metadata={"description": "JSON Pointer into the body (RFC 6901)."})
    parameter = fields.String(
        metadata={"description": "Name of a parameter, in the query string or in the path."}
    )
    header = fields.String(metadata={"description": "Name of a request header."})
    code = fields.String(
        required=True,
        metadata={
            "description": "Stable code of the error, for programs. New codes may be added.",
            "x-extensible-enum": list(INPUT_ERRORS),
            "example": "too_long",
        },
    )
    detail = fields.String(
        required=True,
        metadata={"description": "An explanation for people.", "example": "Longer than maximum length 140."},
    )


class ProblemSchema(RepresentationSchema):
    """A problem document (RFC 9457)."""

    type = fields.String(
        required=True,
        metadata={
            "format": "uri-reference",
            "description": "Identifies the problem type; the URL of a page that describes it.",
        },
    )
    title = fields.String(required=True, metadata={"description": "Name of the status."})
    status = fields.Integer(
        required=True, metadata={"format": "int32", "description": "The HTTP status code."}
    )
    detail = fields.String(required=True, metadata={"description": "An explanation for people."})
    code = fields.String(
        required=True,
        metadata={
            "description": "Stable code of the problem, for programs. New codes may be added.",
            "x-extensible-enum": list(PROBLEM_TYPES),
        },
    )
    request_id = fields.String(
        required=True, metadata={"description": "Identifies the request in the log of the service."}
    )
    errors = fields.List(
        fields.Nested(InputErrorSchema()),
        metadata={"description": "The invalid values, if there are any."},
    )
    etag = fields.String(
        metadata={
            "description": "The current entity tag of the resource, if it does not match `If-Match` (412)."
        }
    )
