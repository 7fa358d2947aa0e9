"""A bot that replies to each mention with the number of its words. It uses the Python client.

    pip install ./clients/python
    BOT_NAME=counter BOT_PASSWORD='7 blue bicycles' python3 examples/bot.py [URL of the API]

It replies to the mentions that appear while it runs, and to those that it missed since it last ran.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import requests
from microblog_client import (
    Client,
    GoneError,
    InvalidInputError,
    ServerError,
    SessionEndedError,
    TooManyRequestsError,
)
from microblog_client.operations import Post

POLL_SECONDS = float(os.environ.get("BOT_POLL_SECONDS", "10"))


class Bot:
    """Polls for mentions, and stores in a file where the next ones begin."""

    def __init__(self, api: str, name: str, password: str) -> None:
        self._client = Client(api)
        self._name = name
        self._password = password
        self._state = Path(f"{name}.cursor")

    def run(self) -> None:
        """Poll until interrupted. After an error that may pass, the next poll begins where this one did."""
        is_signed_in = False
        while True:
            try:
                if not is_signed_in:
                    self._client.sign_in(self._name, self._password)
                    is_signed_in = True
                self._poll()
            except SessionEndedError:
                is_signed_in = False
                continue
            except (requests.RequestException, ServerError, TooManyRequestsError) as error:
                print(error, flush=True)
            time.sleep(POLL_SECONDS)

    def _poll(self) -> None:
        """Reply to the mentions since the last poll, the oldest first."""
        cursor = self._state.read_text() if self._state.exists() else None
        mentions = self._client.list_posts(mentions=self._name, limit=100, cursor=cursor or None)
        for page in mentions.pages("prev"):
            if cursor is not None:  # It does not reply to mentions before its first run.
                for post in reversed(page["items"]):
                    self._reply(post)
            cursor = page["prev_cursor"] or ""  # There is no cursor before the first mention.
            self._store(cursor)

    def _store(self, cursor: str) -> None:
        """Replace the file: if the bot is interrupted meanwhile, the old one remains whole."""
        new = self._state.with_suffix(".new")
        new.write_text(cursor)
        new.replace(self._state)

    def _reply(self, post: Post) -> None:
        """Reply to a post.

        The service recognizes a repeated request by its key, and publishes one reply only. The key is not
        random, because the bot may be stopped between the reply and the next line of its file.
        """
        author = post["author"]["username"]
        if author == self._name:
            return
        body = f"@{author} {len(post['body'].split())} words."
        try:
            self._client.create_post(
                body=body, in_reply_to_id=post["id"], idempotency_key=f"reply-to-{post['id']}"
            )
        except (GoneError, InvalidInputError) as error:  # For example, the post was deleted meanwhile.
            print(f"No reply to post {post['id']}: {error}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        api = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/api/v1"
        Bot(api, os.environ["BOT_NAME"], os.environ["BOT_PASSWORD"]).run()
