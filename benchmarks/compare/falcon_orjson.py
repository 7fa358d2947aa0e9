"""Falcon with orjson, on granian with one thread. The handlers call the database driver.

SQLite or PostgreSQL, by DATABASE_URL.

Run: granian --interface wsgi --workers 1 --blocking-threads 1 benchmarks.compare.falcon_orjson:app
"""

from typing import Any

import falcon
import orjson
from falcon.media import JSONHandler

from benchmarks.compare import driver
from benchmarks.compare.common import LAST_ID, id_of


def user_id_of(request: falcon.Request) -> int:
    """Return the id of the caller."""
    user_id = driver.user_id_of(request.auth or "")
    if user_id is None:
        raise falcon.HTTPUnauthorized
    return user_id


def read_page(request: falcon.Request, statement: str, **values: Any) -> bytes:
    """Return the JSON of a page of posts."""
    limit = request.get_param_as_int("limit", min_value=1, max_value=100, default=20)
    cursor = request.get_param("cursor")
    try:
        before = id_of(cursor) if cursor else LAST_ID
    except ValueError:
        raise falcon.HTTPBadRequest from None
    return driver.read_page(statement, limit, before, **values)


class Posts:
    """All posts."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List posts."""
        if request.auth:
            user_id_of(request)
        response.data = read_page(request, driver.ALL_POSTS)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Publish a post."""
        user_id = user_id_of(request)
        sent = request.get_media()
        body = sent.get("body") if isinstance(sent, dict) else None
        if not isinstance(body, str) or not 1 <= len(body) <= 140:
            raise falcon.HTTPUnprocessableEntity
        response.media = driver.publish(user_id, body)
        response.status = falcon.HTTP_CREATED


class Post:
    """One post."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, post_id: int) -> None:
        """Get a post."""
        response.media = driver.read_post(post_id)
        if response.media is None:
            raise falcon.HTTPNotFound


class UserPosts:
    """The posts of a user."""

    def on_get(self, request: falcon.Request, response: falcon.Response, username: str) -> None:
        """List a user's posts."""
        response.data = read_page(request, driver.USER_POSTS, username=username.lower())


class Feed:
    """The posts of the caller and of the users whom the caller follows."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the feed."""
        response.data = read_page(request, driver.FEED, user_id=user_id_of(request))


app = falcon.App()
json = JSONHandler(dumps=orjson.dumps, loads=orjson.loads)
app.req_options.media_handlers[falcon.MEDIA_JSON] = json
app.resp_options.media_handlers[falcon.MEDIA_JSON] = json
app.add_route("/api/v1/posts", Posts())
app.add_route("/api/v1/posts/{post_id:int}", Post())
app.add_route("/api/v1/users/{username}/posts", UserPosts())
app.add_route("/api/v1/feed", Feed())
