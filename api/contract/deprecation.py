"""Deprecation: announces that an operation, a parameter or a member will be removed.

    @deprecated(since=date(2027, 3, 1), sunset=date(2027, 9, 1))      # an operation

    q = Text(metadata={..., "deprecated": Deprecation(since=..., sunset=...)})   # a parameter or a member

The contract then has `deprecated: true`, and responses to requests that use it have the headers. See
docs/versioning.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache

from marshmallow import Schema
from werkzeug.http import http_date

from api.rendering.renderer import nested_schema
from api.web.json_body import json_object
from api.web.operation import Operation, View, operation_of
from api.web.wrappers import current_request


@dataclass(frozen=True, order=True, slots=True)
class Deprecation:
    """The first day on which a part of the API may be gone, and the day since which it is deprecated."""

    sunset: date
    since: date

    @property
    def headers(self) -> dict[str, str]:
        """The headers `Deprecation` (RFC 9745, section 2) and `Sunset` (RFC 8594, section 3)."""
        return {
            "Deprecation": f"@{int(_midnight(self.since).timestamp())}",
            "Sunset": http_date(_midnight(self.sunset)),
        }


def deprecated(*, since: date, sunset: date) -> Callable[[View], View]:
    """Declare that an operation is deprecated."""

    def decorate(view: View) -> View:
        operation_of(view).deprecated = Deprecation(sunset, since)
        return view

    return decorate


def deprecation_headers(operation: Operation) -> Mapping[str, str]:
    """Return the headers for a response to the current request.

    If it uses several deprecated parts, the headers are those of the part that is removed first.
    """
    used = [operation.deprecated, *deprecations_in(operation.response).values()]
    parameters, members = deprecations_in(operation.query), deprecations_in(operation.body)
    if parameters:
        used += [parameters[name] for name in parameters.keys() & current_request().args.keys()]
    if members:
        used += [members[name] for name in members.keys() & json_object().keys()]
    found = min(filter(None, used), default=None)
    return found.headers if found else {}


def has_deprecations(operation: Operation) -> bool:
    """Whether a response of an operation may have the headers."""
    schemas = (operation.response, operation.query, operation.body)
    return operation.deprecated is not None or any(map(deprecations_in, schemas))


@cache
def deprecations_in(schema: Schema | None) -> dict[str, Deprecation]:
    """Return the deprecated fields of a schema, by name; those of nested schemas included."""
    found: dict[str, Deprecation] = {}
    for name, field in schema.fields.items() if schema else ():
        found |= {name: field.metadata["deprecated"]} if "deprecated" in field.metadata else {}
        found |= deprecations_in(nested_schema(field))
    return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
