"""Requests of the users of a social network; docs/reliability.md has the reasons for their shares."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple, TypeVar

from api.config import API_PREFIX
from benchmarks.load import Request, request_bytes
from benchmarks.servers import SECRET, Server

T = TypeVar("T")

CALLERS = 20
OTHERS = 80
POSTS = 1000
WORDS = ("snow*", "market", "dessert", "zeppelin")


class Operation(NamedTuple):
    """An operation, its share of all requests in percent, and templates of its path, body and password."""

    name: str
    share: float
    path: str
    status: int = 200
    body: str = ""
    password: str = ""

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.name.startswith("GET")


PAGE, PARTS = "limit=25&expand=counts,viewer", "expand=counts,viewer"
BODY = '"body": "The first snowdrops are out, @%(username)s. #garden"'
OPERATIONS = (
    Operation("GET /feed", 30, f"/feed?{PAGE}"),
    Operation("GET /feed, next page", 6, f"/feed?{PAGE}&cursor=%(cursor)s"),
    Operation("GET /posts/{id}", 10, f"/posts/%(post_id)d?{PARTS}"),
    Operation("GET /posts/{id}/thread", 12, f"/posts/%(post_id)d/thread?{PARTS}"),
    Operation("GET /posts/{id}/likes", 1, f"/posts/%(post_id)d/likes?{PAGE}"),
    Operation("GET /users/{name}", 9, f"/users/%(username)s?{PARTS}"),
    Operation("GET /users/{name}/posts", 10, f"/users/%(username)s/posts?{PAGE}"),
    Operation("GET /users/{name}/followers", 2, f"/users/%(username)s/followers?{PAGE}"),
    Operation("GET /posts", 6, f"/posts?{PAGE}"),
    Operation("GET /posts?q={words}", 2, f"/posts?q=%(word)s&{PAGE}"),
    Operation("GET /me", 2, f"/me?{PARTS}"),
    Operation("PUT /me/likes/{id}", 4.5, "/me/likes/%(post_id)d", 204),
    Operation("DELETE /me/likes/{id}", 1, "/me/likes/%(post_id)d", 204),
    Operation("POST /posts", 1, "/posts", 201, f"{{{BODY}}}"),
    Operation("POST /posts, reply", 1, "/posts", 201, f'{{{BODY}, "in_reply_to_id": %(post_id)d}}'),
    Operation("PUT /me/following/{name}", 1, "/me/following/%(username)s", 204),
    Operation("DELETE /me/following/{name}", 0.5, "/me/following/%(username)s", 204),
    Operation("PATCH /me", 0.5, "/me", 200, '{"about": "Botanist. Reads post %(post_id)d."}'),
    Operation("POST /tokens", 0.3, "/tokens", 200, password="%(password)s"),
    Operation("POST /tokens, wrong password", 0.1, "/tokens", 401, password="wrong"),
    Operation("POST /password-resets", 0.1, "/password-resets", 202, '{"email": "%(caller)s@example.com"}'),
)


class Caller(NamedTuple):
    """A user who is signed in, and the cursor of the second page of their feed."""

    username: str
    token: str
    cursor: str


@dataclass(frozen=True)
class Mix:
    """An endless series of requests, the same in each iteration.

    The first of the posts and usernames are those that are read, liked and followed most often (Zipf's law).
    """

    callers: list[Caller]
    password: str
    usernames: list[str]
    post_ids: list[int]

    def __iter__(self) -> Iterator[Request]:
        random = Random(1)
        shares = list(accumulate(operation.share for operation in OPERATIONS))
        popularity = list(accumulate(1 / rank for rank in range(1, POSTS + 1)))

        def choose(values: list[T]) -> T:
            [chosen] = random.choices(values, cum_weights=popularity[: len(values)])
            return chosen

        while True:
            [operation] = random.choices(OPERATIONS, cum_weights=shares)
            username, token, cursor = random.choice(self.callers)
            values = {
                "caller": username,
                "password": self.password,
                "cursor": cursor,
                "post_id": choose(self.post_ids),
                "username": choose(self.usernames),
                "word": random.choice(WORDS),
            }
            authorization = f"Bearer {token}"
            if operation.password:
                credentials = f"{username}:{operation.password % values}"
                authorization = f"Basic {b64encode(credentials.encode()).decode()}"
            content = request_bytes(
                operation.name.split()[0],
                API_PREFIX + operation.path % values,
                [f"Authorization: {authorization}"],
                (operation.body % values).encode(),
            )
            yield Request(content, operation.status, operation.name)


def make_mix(server: Server) -> Mix:
    """Sign in as some of the users of a seeded database, and return requests by them."""
    users = server.send("GET", f"/users?limit={CALLERS + OTHERS}").json["items"]
    usernames = [user["username"] for user in users]
    callers = []
    for username in usernames[:CALLERS]:
        token = server.sign_in(username)
        page = server.send("GET", "/feed?limit=25", {"Authorization": f"Bearer {token}"}).json
        if page["next_cursor"]:
            callers.append(Caller(username, token, page["next_cursor"]))
    [newest] = server.send("GET", "/posts?limit=1").json["items"]
    post_ids = range(newest["id"], max(0, newest["id"] - POSTS), -1)
    return Mix(callers, SECRET, usernames[CALLERS:], list(post_ids))
