"""Error responses as exceptions."""

from __future__ import annotations

import requests

from .operations import InputError, Problem

CLASSES: dict[int, type[ProblemError]] = {}  # By status.


class ProblemError(Exception):
    """An error response: a problem document (RFC 9457).

    Programs compare `code`, which is stable. Each of `errors` locates one invalid value by `pointer`,
    `parameter` or `header`.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        self.errors: list[InputError] = problem.get("errors", [])
        super().__init__(" ".join([problem["detail"], *(error["detail"] for error in self.errors)]))
        self.problem, self.status, self.code = problem, problem["status"], problem["code"]
        self.etag = problem.get("etag")
        self.retry_after = retry_after

    def __init_subclass__(cls, status: int | None = None) -> None:
        if status:
            CLASSES[status] = cls


class UnauthorizedError(ProblemError, status=401):
    """The name or the password is wrong, or the caller is not signed in."""


class SessionEndedError(UnauthorizedError):
    """The session has expired or was ended elsewhere. The user has to sign in again."""


class ForbiddenError(ProblemError, status=403):
    """The caller may not do this, or the current password is wrong."""


class NotFoundError(ProblemError, status=404):
    """There is no such resource."""


class ConflictError(ProblemError, status=409):
    """Another user has this value (`already_taken`), or a concurrent change conflicts."""


class GoneError(ProblemError, status=410):
    """The request was processed before, and what it created was deleted since."""


class PreconditionFailedError(ProblemError, status=412):
    """The resource has changed since the caller read it. `etag` is its current tag."""


class InvalidInputError(ProblemError, status=422):
    """Some values are invalid."""


class TooManyRequestsError(ProblemError, status=429):
    """The rate limit stays reached for `retry_after` seconds, which is longer than the client waits."""


class ServerError(ProblemError, status=500):
    """The service failed, or is not available: any status from 500."""


def problem_of(response: requests.Response) -> ProblemError:
    """Return the exception for an error response."""
    status = response.status_code
    if response.headers.get("Content-Type") == "application/problem+json":
        problem: Problem = response.json()
    else:  # A proxy in front of the service has responded.
        detail = f"The response is {status} {response.reason}."
        problem = Problem(
            type="about:blank", title=detail, status=status, detail=detail, code="", request_id=""
        )
    retry_after = response.headers.get("Retry-After", "")  # A proxy may send a date.
    error = CLASSES.get(min(status, 500), ProblemError)
    return error(problem, float(retry_after) if retry_after.isdecimal() else None)
