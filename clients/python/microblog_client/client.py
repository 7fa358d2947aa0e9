"""The client: sign-in, token refresh and retries."""

from __future__ import annotations

import time
from base64 import b64encode
from contextlib import suppress
from math import inf
from threading import Lock
from typing import Any

import requests

from .operations import Operations, Problem, TokenPair
from .problems import ProblemError, SessionEndedError, UnauthorizedError, problem_of

# The connection failed before or after the service processed the request.
CONNECTION_ERRORS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
TIMEOUT_SECONDS = 30


class Client(Operations):
    """Calls the API for one user, from any number of threads.

    Its methods raise ProblemError for an error response, and requests.RequestException if there is none.
    While the service is busy or cannot be reached, a request is repeated up to `retries` times within
    `retry_seconds`, unless the repetition could have a second effect.
    """

    def __init__(self, url: str, *, retries: int = 5, retry_seconds: float = 60) -> None:
        self.session = requests.Session()  # Its attributes `proxies` and `verify` may be set.
        self._url, self._retries, self._retry_seconds = url.rstrip("/"), retries, retry_seconds
        self._lock = Lock()  # Held while the tokens change.
        self._tokens: TokenPair | None = None
        self._expires_at = 0.0
        self._ended: Problem | None = None  # Why the service refused to refresh the tokens.

    def sign_in(self, name: str, password: str) -> None:
        """Sign in by username or email address."""
        basic = b64encode(f"{name}:{password}".encode()).decode()
        with self._lock:
            self._store(self._send("POST", "/tokens", headers={"Authorization": f"Basic {basic}"}))

    def sign_out(self) -> None:
        """End the session, whose tokens become invalid at once. Following requests are anonymous."""
        with suppress(SessionEndedError):
            if self._tokens:
                self.call("DELETE", "/tokens/current")
        with self._lock:
            self._tokens = self._ended = None

    def call(self, method: str, path: str, **parts: Any) -> Any:
        """Send a request with the access token, if there is one, and return the JSON of the response."""
        token = self._access_token()
        if token:
            with suppress(UnauthorizedError):
                return self._send(method, path, token=token, **parts)
            # The token expired on the way, or the clock of this computer is slow. One more attempt is enough.
            token = self._access_token(rejected=token)
        return self._send(method, path, token=token, **parts)

    def _access_token(self, rejected: str | None = None) -> str | None:
        """Return a valid access token, or None before sign-in.

        The first thread that needs a new token refreshes it, while the others wait for the lock.
        """
        with self._lock:
            if self._tokens is None:
                return None
            is_valid = time.monotonic() < self._expires_at and self._tokens["access_token"] != rejected
            if not is_valid and not self._ended:
                body = {"refresh_token": self._tokens["refresh_token"]}
                try:  # Within ten seconds, the response to the same refresh token is the same.
                    self._store(self._send("POST", "/tokens/refresh", body=body, is_repeatable=True))
                except UnauthorizedError as error:
                    self._ended = error.problem
            if self._ended:
                raise SessionEndedError(self._ended)
            return self._tokens["access_token"]

    def _store(self, tokens: TokenPair) -> None:
        self._tokens, self._ended = tokens, None
        self._expires_at = time.monotonic() + tokens["expires_in"]

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Any = None,
        headers: Any = None,
        body: Any = None,
        token: str | None = None,
        is_repeatable: bool = False,
    ) -> Any:
        """Send a request, and repeat it after an error that may pass."""

        # Not PATCH: if the response was lost, the tag in If-Match is no longer the current one.
        is_repeatable |= method in {"GET", "PUT", "DELETE"} or "Idempotency-Key" in (headers or {})
        options = {"params": query, "json": body, "timeout": TIMEOUT_SECONDS, "allow_redirects": False}
        if token:
            headers = {**(headers or {}), "Authorization": f"Bearer {token}"}
        deadline = time.monotonic() + self._retry_seconds
        attempt = 0
        while True:
            try:
                response = self.session.request(
                    method, self._url + path, headers=headers, auth=as_it_is, **options
                )
                if response.status_code < 300:
                    return response.json() if response.content else None
                raise problem_of(response)
            except (ProblemError, *CONNECTION_ERRORS) as error:
                seconds = seconds_to_wait(error, attempt, is_repeatable=is_repeatable)
                if attempt == self._retries or time.monotonic() + seconds > deadline:
                    raise
            time.sleep(seconds)
            attempt += 1


def as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep the headers: without a function for `auth`, requests sends passwords that it finds in ~/.netrc."""
    return request


def seconds_to_wait(error: Exception, attempt: int, *, is_repeatable: bool) -> float:
    """Return the time before the next attempt, which is infinite if there should be none."""
    seconds = 0.5 * 2**attempt
    if isinstance(error, ProblemError):
        if not error.retry_after and error.status not in {429, 502, 503, 504}:
            return inf
        seconds = error.retry_after or seconds
        is_repeatable |= error.status == 429  # The service has not processed the request.
    return seconds if is_repeatable else inf
