"""The types of problems (RFC 9457), and the codes of invalid input. Both are published, and stable."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

# Phrases that RFC 9110 changed; Python has them since 3.13.
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}


def phrase(status: int) -> str:
    """Return the name of an HTTP status (RFC 9110, section 15)."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


class ProblemType(NamedTuple):
    """A kind of problem: its stable code, its HTTP status, its default detail, and advice to developers."""

    code: str
    status: int
    detail: str
    advice: str

    def uri(self, base: str = "") -> str:
        """Return the URL of the page on this type; `about:blank` if it is only a status (section 4.2.1)."""
        return f"{base}/problems/{self.code}" if self.code in PROBLEM_TYPES else "about:blank"

    @property
    def title(self) -> str:
        """The name of the status."""
        return phrase(self.status)

    def document(self, request_id: str, base: str = "") -> dict[str, object]:
        """Return the members that every problem document of this type has."""
        return {
            "type": self.uri(base),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }


PROBLEM_TYPES = {
    code: ProblemType(code, status, detail, advice)
    for code, status, detail, advice in (
        (
            "bad_request",
            400,
            "The request is malformed.",
            "The server could not parse the request. Check how the client writes its headers and its URL.",
        ),
        (
            "malformed_json",
            400,
            "The body is not JSON, has duplicate names, or has too many members.",
            "Send one JSON object in UTF-8 with at most 32 members, each name once. `NaN`, `Infinity`, lone "
            "surrogates and deep nesting are not JSON here.",
        ),
        (
            "incomplete_body",
            400,
            "The body is shorter than its Content-Length, or its chunks are malformed.",
            "Nothing was changed. Send the request again, and check that the client or a proxy does not "
            "close the connection early.",
        ),
        (
            "invalid_cursor",
            400,
            "The cursor does not belong to this list.",
            "Cursors are opaque: use `next_cursor` or `prev_cursor` of the same list with the same filters. "
            "Without `cursor`, the list begins at its first page.",
        ),
        (
            "authentication_required",
            401,
            "Authentication is required; see WWW-Authenticate.",
            "Sign in with `POST /tokens`, then send `Authorization: Bearer` and the access token.",
        ),
        (
            "invalid_credentials",
            401,
            "There is no account with this username and password.",
            "Ask the user for the password again. The response is the same for an unknown username and for a "
            "wrong password.",
        ),
        (
            "invalid_token",
            401,
            "The token is invalid, expired or revoked.",
            "If it is an access token, get a new one with `POST /tokens/refresh` and repeat the request "
            "once. If it is a refresh token, ask the user to sign in again.",
        ),
        (
            "forbidden",
            403,
            "Only the author is allowed to do this.",
            "Do not retry. Offer this action only on the caller's own posts.",
        ),
        (
            "account_suspended",
            403,
            "The operator of the service has suspended this account.",
            "Do not retry. Tell the user to write to the operator, who can restore the account. The response "
            "is given only to the right password.",
        ),
        (
            "wrong_password",
            403,
            "This is not your current password.",
            "Ask the user for the current password again.",
        ),
        (
            "wrong_token",
            403,
            "The token was used, has expired, or a newer one was sent.",
            "Offer to send the email again; the token in the newest email is the valid one.",
        ),
        (
            "origin_not_allowed",
            403,
            "Pages of this origin are not allowed to use the token cookie.",
            "The operator of the service adds the origin of the page to `CORS_ORIGINS`.",
        ),
        (
            "not_found",
            404,
            "There is no such resource.",
            "The path is misspelled, or the resource was deleted. URLs have no trailing slash.",
        ),
        (
            "method_not_allowed",
            405,
            "The resource does not support this method; see Allow.",
            "Use one of the methods in the header `Allow`.",
        ),
        (
            "request_timeout",
            408,
            "The body took too long to arrive.",
            "Nothing was changed. Send the request again over a better connection.",
        ),
        (
            "already_taken",
            409,
            "Another user has this already.",
            "`errors` names the member. Ask the user for another value.",
        ),
        (
            "conflict",
            409,
            "A concurrent change conflicts with this one. Read the resource again, then retry.",
            "Read the resource again, apply the change to it, and send the request again.",
        ),
        (
            "in_progress",
            409,
            "A request with this Idempotency-Key is still running. Retry later.",
            "Wait as many seconds as `Retry-After` says, then send the same request with the same key.",
        ),
        (
            "gone",
            410,
            "The request was processed before, and what it created was deleted since.",
            "Do not retry. To create it again, send the request with a new `Idempotency-Key`.",
        ),
        (
            "precondition_failed",
            412,
            "The current entity tag of the resource is not in If-Match.",
            "The resource was changed after the client read it. Read it again, show the user both versions, "
            "and send the change with the new tag, which is also the member `etag` of the problem.",
        ),
        (
            "body_too_large",
            413,
            "The body is larger than 64 KiB.",
            "No valid request is that large. Check what the client sends.",
        ),
        (
            "unsupported_media_type",
            415,
            "Send application/json, in UTF-8, uncompressed.",
            "Set `Content-Type: application/json`, or `application/merge-patch+json` for PATCH, and do not "
            "compress the body.",
        ),
        (
            "invalid_input",
            422,
            "Some of the input is invalid; see errors.",
            "Each of `errors` locates one value by `pointer`, `parameter` or `header`, and has a `code` for "
            "programs and a `detail` for people. Show the details at their fields.",
        ),
        (
            "idempotency_key_reused",
            422,
            "This Idempotency-Key was used for another request.",
            "Use a new key for each new request, and the same key only to repeat a request unchanged.",
        ),
        (
            "too_many_requests",
            429,
            "Too many requests. Retry after Retry-After seconds.",
            "Wait as many seconds as `Retry-After` says. `RateLimit` in each response says how many requests "
            "remain.",
        ),
        (
            "internal_error",
            500,
            "An internal error occurred. It was logged.",
            "Report the `request_id` to the operator of the service.",
        ),
        (
            "unavailable",
            503,
            "The service is temporarily unavailable. Retry later.",
            "Wait as many seconds as `Retry-After` says, then send the request again; for a POST, with the "
            "same `Idempotency-Key`.",
        ),
    )
}

# The codes of `errors` in an `invalid_input` problem, and of others that locate a value.
INPUT_ERRORS: Mapping[str, str] = {
    "already_taken": "Another user has this value.",
    "blank": "The text has no visible character.",
    "control_character": "The text contains control characters other than tab and line feed.",
    "not_an_object": "The body is JSON, but not an object.",
    "not_found": "The resource that the value refers to does not exist.",
    "null_not_allowed": "The value is null.",
    "out_of_range": "The number is too small or too large.",
    "repeated": "The parameter is in the query string more than once.",
    "required": "The value is missing.",
    "reserved": "The service reserves this username.",
    "reused": "The key was used for another request.",
    "same_as_name": "The password equals the username or the email address.",
    "too_common": "The password is one of the most common ones.",
    "too_long": "The text has too many code points.",
    "too_short": "The text has too few code points.",
    "unknown_member": "The body has a member that the operation does not accept.",
    "unknown_parameter": "The query string has a parameter that the operation does not accept.",
    "unknown_part": "`expand` names a part that the representation does not have.",
    "wrong_format": "The text does not have the required format.",
    "wrong_password": "This is not the current password.",
    "wrong_token": "The token was used, has expired, or a newer one was sent.",
    "wrong_type": "The JSON value has another type.",
    "yourself": "Users cannot follow themselves.",
}
