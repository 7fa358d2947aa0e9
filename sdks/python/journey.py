"""The journey with openapi-python-client."""

import sys
from base64 import b64encode
from typing import TypeVar, cast

from microblog_client import AuthenticatedClient, Client
from microblog_client.api.follows import create_following, list_feed
from microblog_client.api.likes import create_like
from microblog_client.api.posts import create_post, get_post, list_posts, update_post
from microblog_client.api.tokens import create_token, refresh_token
from microblog_client.api.users import create_user, get_account
from microblog_client.models import (
    ExpandCountsAndViewerPart,
    InputError,
    PostCreate,
    PostUpdate,
    Problem,
    TokenPair,
    TokenRefresh,
    UserCreate,
)
from microblog_client.types import UNSET, Unset

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/api/v1"
PARTS = [ExpandCountsAndViewerPart.COUNTS, ExpandCountsAndViewerPart.VIEWER]

T = TypeVar("T")


def value(response: T | Problem | None) -> T:
    """Return what an operation responds if it succeeds; raise an exception if it does not."""
    if response is None or isinstance(response, Problem):
        raise RuntimeError(response)
    return response


def sign_in(username: str, password: str) -> TokenPair:
    """Return the tokens of a new session."""
    basic = b64encode(f"{username}:{password}".encode()).decode()
    return value(create_token.sync(client=AuthenticatedClient(URL, token=basic, prefix="Basic")))


def error_of(problem: object, status: int, code: str) -> InputError:
    """Return the first error of an expected problem."""
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code) == (status, code)
    assert problem.errors
    return problem.errors[0]


def ids_of_pages(direction: str, cursor: str | Unset) -> tuple[list[list[int]], str | None]:
    """Return the ids of the posts from a page on, in one direction, and the last page's cursor backwards."""
    # Where a token is optional, the types demand a client with one; any client works.
    anyone = cast("AuthenticatedClient", client)
    ids: list[list[int]] = []
    while True:
        page = value(list_posts.sync(client=anyone, limit=2, cursor=cursor))
        if page.items:
            ids.append([post.id for post in page.items])
        following = page.next_cursor if direction == "next" else page.prev_cursor
        if not page.items or following is None:
            return ids, page.prev_cursor
        cursor = following


client = Client(URL)
user = UserCreate(username="ann", email="ann@example.com", password="9 green horses")
assert value(create_user.sync(client=client, body=user)).email == user.email
value(create_user.sync(client=client, body=UserCreate("bob", "bob@example.com", "7 blue bicycles")))
print("- register")

tokens = sign_in("ann", "9 green horses")
ann = AuthenticatedClient(URL, token=tokens.access_token)
post = value(create_post.sync(client=ann, body=PostCreate("The first snowdrops are out.")))
print(f"{post.author.username} published post {post.id}.")
print("- sign in")
assert post.timestamp.tzinfo is not None
assert post.viewer is None
print("- publish")
assert "added_later" in post
assert "added_later" in post.author
assert "added_later" in tokens
print("- unknown members")

for number in range(2, 6):
    value(create_post.sync(client=ann, body=PostCreate(f"Post {number}")))
forwards, prev_cursor = ids_of_pages("next", UNSET)
assert prev_cursor
backwards, _ = ids_of_pages("prev", prev_cursor)
assert [len(ids) for ids in forwards] == [2, 2, 1]
assert [*reversed(backwards)] == forwards[:2]
print("- pages")

edited = value(
    update_post.sync(post.id, client=ann, body=PostUpdate(body="Edited."), if_match=f'"{post.etag}"')
)
assert edited.edited_at
stale = update_post.sync(post.id, client=ann, body=PostUpdate(body="Again."), if_match=f'"{post.etag}"')
assert isinstance(stale, Problem)
assert (stale.status, stale.code, stale.etag) == (412, "precondition_failed", edited.etag)
print("- If-Match")

bobs = sign_in("bob", "7 blue bicycles")
bob = AuthenticatedClient(URL, token=bobs.access_token)
assert create_like.sync_detailed(post.id, client=bob).status_code == 204
print("- like")
assert create_following.sync_detailed("ann", client=bob).status_code == 204
print("- follow")

feed = value(list_feed.sync(client=bob, expand=PARTS))
[seen] = [item for item in feed.items if item.id == post.id]
assert seen.viewer
assert seen.viewer.liked
seen = value(get_post.sync(post.id, client=bob, expand=PARTS))
assert seen.viewer
assert seen.viewer.liked
assert seen.counts
assert seen.counts.like_count == 1
print("- viewer")

renewed = value(refresh_token.sync(client=client, body=TokenRefresh(refresh_token=bobs.refresh_token)))
assert renewed.refresh_token != bobs.refresh_token
assert value(get_account.sync(client=AuthenticatedClient(URL, token=renewed.access_token))).username == "bob"
print("- refresh")

taken = error_of(create_user.sync(client=client, body=user), 409, "already_taken")
assert taken.pointer == "/username"
print("- conflict")
blank = error_of(create_post.sync(client=ann, body=PostCreate(" ")), 422, "invalid_input")
assert (blank.pointer, blank.code) == ("/body", "blank")
print("- invalid input")
