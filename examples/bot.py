"""A bot that replies to each mention with the number of its words. It needs Python 3.11 and nothing else.

    BOT_NAME=counter BOT_PASSWORD='7 blue bicycles' python3 examples/bot.py [URL of the API]

It replies to the mentions that appear while it runs, and to those that it missed since it last ran.
"""

import json
import os
import sys
import time
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

POLL_SECONDS = float(os.environ.get("BOT_POLL_SECONDS", "10"))


class ApiError(Exception):
    """An error response: a problem document (RFC 9457)."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.code = problem["code"]


class Client:
    """Sends requests, signs in, refreshes the tokens, and waits as long as the service asks for."""

    def __init__(self, api: str, name: str, password: str) -> None:
        self._api = api
        self._basic = {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}
        self._tokens: dict[str, Any] = {}
        self._expires_at = 0.0

    def call(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        """Send a request with the access token, and return the JSON of the response. Raises ApiError."""
        if time.monotonic() >= self._expires_at:
            self._renew_tokens()
        try:
            return self._send(method, path, body, {**self._bearer(), **(headers or {})})
        except ApiError as error:
            if error.code != "invalid_token":
                raise
        self._renew_tokens()  # The session was ended elsewhere, or the token expired on the way.
        return self._send(method, path, body, {**self._bearer(), **(headers or {})})

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens['access_token']}"}

    def _renew_tokens(self) -> None:
        """Exchange the refresh token, which works once. Without a valid one, sign in."""
        old, self._tokens = self._tokens, {}
        if old:
            with suppress(ApiError):
                body = {"refresh_token": old["refresh_token"]}
                self._tokens = self._send("POST", "/tokens/refresh", body, {})
        self._tokens = self._tokens or self._send("POST", "/tokens", None, self._basic)
        self._expires_at = time.monotonic() + self._tokens["expires_in"]

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        """Send a request, again and again while the service is busy, fails or cannot be reached."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        while True:
            request = Request(self._api + path, content, headers, method=method)  # noqa: S310 -- the user's URL.
            try:
                with urlopen(request, timeout=30) as response:  # noqa: S310
                    return json.load(response)
            except HTTPError as error:
                if error.code != 429 and error.code < 500:
                    raise ApiError(json.load(error)) from None
                seconds = float(error.headers["Retry-After"] or POLL_SECONDS)
            except (OSError, HTTPException):
                seconds = POLL_SECONDS
            time.sleep(seconds)


def reply(client: Client, post: dict[str, Any]) -> None:
    """Reply to a post. The service recognizes a repeated request by its key, and publishes one reply only."""
    words = len(post["body"].split())
    body = {"body": f"@{post['author']['username']} {words} words.", "in_reply_to_id": post["id"]}
    try:
        client.call("POST", "/posts", body, {"Idempotency-Key": f'"reply-to-{post["id"]}"'})
    except ApiError as error:  # For example, the post was deleted meanwhile.
        print(f"No reply to post {post['id']}: {error}", flush=True)


def main() -> None:
    """Poll until interrupted."""
    api = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/api/v1"
    name = os.environ["BOT_NAME"]
    client = Client(api, name, os.environ["BOT_PASSWORD"])
    state = Path(f"{name}.cursor")  # Where the mentions begin that are newer than those that it has seen.
    cursor = state.read_text() if state.exists() else None
    while True:
        query = {"mentions": name, "limit": 100, **({"cursor": cursor} if cursor else {})}
        page = client.call("GET", f"/posts?{urlencode(query)}")
        if cursor is not None:  # It does not reply to mentions before its first run.
            for post in reversed(page["items"]):
                if post["author"]["username"] != name:
                    reply(client, post)
        cursor = page["prev_cursor"] or ""  # There is no cursor before the first mention.
        state.write_text(
            cursor
        )  # After the replies: if it is killed before, it repeats them with the same keys.
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
