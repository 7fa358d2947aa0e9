"""The registry of operations: one entry for each operation, read by all guard suites.

The suites test, for each entry, permissions, the number of statements, bad input, lists and their indexes,
the order of locks, and the examples of the contract. An operation of `openapi.yaml` that has no entry here,
or no rows in `tests/support/world.py`, fails `tests/test_operations.py`, which lists all that is missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import Select, select
from werkzeug.test import TestResponse

from api.models import Follow, Like, Post, Session, User
from tests.support.contract import ContractClient, example_path, operations, resolve
from tests.support.factories import PASSWORD
from tests.support.world import LIKED_ID, POST_ID, REPLY_ID, UNLIKED_ID, LargeWorld, World

Json = dict[str, Any]

CONTRACT = {found[2]["operationId"]: found for found in operations()}


class Caller(Enum):
    """The callers that an operation allows."""

    ANYONE = "anyone"
    PASSWORD = "anyone with a username and its password"
    TOKEN = "any user, with a token"
    AUTHOR = "the author, with a token"


ANYONE, TOKEN, AUTHOR = Caller.ANYONE, Caller.TOKEN, Caller.AUTHOR


@dataclass(frozen=True)
class Listing:
    """A list in one of its orders."""

    # Pattern of the index that finds a page: its name or, on SQLite, how a plan describes a primary key.
    index: str
    # The ids of all items in order.
    ids: Callable[[LargeWorld], Select[int]]
    # Parameters that select the items and their order.
    query: str = ""


@dataclass(frozen=True)
class Locks:
    """The rows that a request locks, in order: posts before users, each by their ids."""

    rows: str
    # The body of the request, if it is not that of the operation's other tests.
    body: Json | None = None


@dataclass(frozen=True)
class Operation:
    """An operation as the guard suites test it. Ann (see `World`) is the caller."""

    name: str  # The operationId.
    caller: Caller
    # Statements of a request with a token, BEGIN and COMMIT not counted. One of them checks the token.
    statements: int
    # The body of a request that succeeds.
    body: Callable[[World], Json] | None = None
    # Whether no cache may store the response of a read.
    is_confidential: bool = False
    # Path parameters, where they are not those of `World.path_parameters`.
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    # The orders of a list.
    lists: tuple[Listing, ...] = ()
    # The rows that requests lock; required if the operation is not safe.
    locks: tuple[Locks, ...] | None = None
    # Status of the request that the contract's examples make, if it cannot succeed.
    example_status: int | None = None
    # Username of the caller of that request; None: the database is empty.
    example_caller: str | None = "bob"

    @property
    def method(self) -> str:
        """The HTTP method."""
        return CONTRACT[self.name][0]

    @property
    def path(self) -> str:
        """The template of the path."""
        return CONTRACT[self.name][1]

    @property
    def example_path(self) -> str:
        """The path with the contract's examples of its parameters."""
        return example_path(self.path, self.contract)

    @property
    def contract(self) -> Json:
        """The operation object of the contract."""
        return CONTRACT[self.name][2]

    @property
    def is_public(self) -> bool:
        """Whether requests need no credentials."""
        return self.caller is Caller.ANYONE

    @property
    def is_safe(self) -> bool:
        """Whether the operation only reads (RFC 9110, section 9.2.1)."""
        return self.method == "GET"

    @property
    def has_body(self) -> bool:
        """Whether requests have a body."""
        return "requestBody" in self.contract

    @property
    def is_list(self) -> bool:
        """Whether the operation returns pages of a list."""
        return "limit" in self.names("query")

    @property
    def example(self) -> Json:
        """The contract's example of the body."""
        example: Json = self._json["examples"]["example"]["value"]
        return example

    @property
    def schema(self) -> Json:
        """The contract's schema of the body."""
        return resolve(self._json["schema"])

    @property
    def _json(self) -> Json:
        content: Json = self.contract["requestBody"]["content"]["application/json"]
        return content

    def names(self, place: str) -> set[str]:
        """Return the names of the parameters in a place: `path`, `query` or `header`."""
        return {found["name"] for found in self.contract["parameters"] if found["in"] == place}

    def send(
        self,
        client: ContractClient,
        world: World,
        query: str = "",
        *,
        parameters: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> TestResponse:
        """Send the request of Ann that succeeds, with other parts where they are given."""
        path = self.path.format(**{**world.path_parameters, **self.parameters, **(parameters or {})})
        defaults: Json = {"headers": world.ann.signed_in}
        if self.caller is Caller.PASSWORD:
            defaults = {"auth": (world.ann.username, PASSWORD)}
        if self.body and not request.keys() & {"json", "data", "input_stream"}:
            defaults["json"] = self.body(world)
        return client.open(path + query, **{"method": self.method, **defaults, **request})


_REGISTRY = [
    Operation(
        "createUser",
        ANYONE,
        statements=2,
        body=lambda _: {"username": "zoe", "email": "zoe@example.com", "password": "7 blue bicycles"},
        locks=(),
        example_caller=None,
    ),
    Operation(
        "listUsers",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                r"users USING INTEGER PRIMARY KEY|pk_users",
                lambda _: select(User.id).order_by(User.id.desc()),
            ),
            Listing(
                r"\(folded_username>|uq_users_folded_username",
                lambda _: select(User.id).where(User.username.startswith("u")).order_by(User.folded_username),
                "q=U",
            ),
        ),
    ),
    Operation("getUser", ANYONE, statements=2),
    Operation(
        "listUserPosts",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                "ix_posts_user_id_id",
                lambda world: select(Post.id).where(Post.user_id == world.caller.id).order_by(Post.id.desc()),
            ),
        ),
    ),
    Operation("getAccount", TOKEN, statements=2, is_confidential=True),
    Operation(
        "updateAccount",
        TOKEN,
        statements=4,
        body=lambda _: {"about": "Botanist."},
        locks=(Locks("ann"),),
        example_caller="ann",
    ),
    Operation(
        "deleteAccount",
        TOKEN,
        statements=7,
        body=lambda _: {"password": PASSWORD},
        locks=(Locks("liked post reply answer mention bob ann eve"),),
    ),
    Operation(
        "changePassword",
        TOKEN,
        statements=6,
        body=lambda _: {"current_password": PASSWORD, "new_password": "8 blue bicycles"},
        locks=(Locks("ann"),),
    ),
    Operation(
        "listPosts",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                r"posts USING INTEGER PRIMARY KEY|pk_posts",
                lambda _: select(Post.id).order_by(Post.id.desc()),
            ),
            Listing(
                "ix_posts_user_id_id",
                lambda world: select(Post.id).where(Post.user_id == world.caller.id).order_by(Post.id.desc()),
                "author=USER7",
            ),
        ),
    ),
    Operation("getPost", ANYONE, statements=2),
    Operation(
        "createPost",
        TOKEN,
        statements=6,
        body=lambda _: {"body": "#a #b #c @bob @ann", "in_reply_to_id": POST_ID},
        locks=(
            Locks("bob ann eve", {"body": "@eve @bob"}),
            Locks("post ann eve", {"body": "@eve", "in_reply_to_id": POST_ID}),
        ),
    ),
    Operation(
        "updatePost",
        AUTHOR,
        statements=7,
        body=lambda _: {"body": "#a #b #c @bob @ann"},
        parameters={"post_id": REPLY_ID},
        locks=(Locks("reply bob ann eve", {"body": "@eve @bob"}),),
    ),
    Operation(
        "deletePost",
        AUTHOR,
        statements=4,
        parameters={"post_id": REPLY_ID},
        locks=(Locks("post reply answer ann"),),
    ),
    Operation("createToken", Caller.PASSWORD, statements=5, locks=()),
    Operation(
        "refreshToken",
        ANYONE,
        statements=2,
        body=lambda world: {"refresh_token": world.refresh_token},
        locks=(Locks("session"),),
        example_status=401,
    ),
    Operation(
        "listTokens",
        TOKEN,
        statements=2,
        is_confidential=True,
        lists=(
            Listing(
                "ix_sessions_user_id_id",
                lambda world: (
                    select(Session.id).where(Session.user_id == world.caller.id).order_by(Session.id.desc())
                ),
            ),
        ),
    ),
    Operation("deleteCurrentToken", TOKEN, statements=2, locks=(Locks("session"),)),
    Operation("deleteToken", TOKEN, statements=3, locks=(Locks("session"),)),
    Operation(
        "listReplies",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                "ix_posts_in_reply_to_id_id",
                lambda world: select(Post.id).where(Post.in_reply_to_id == world.post_id).order_by(Post.id),
            ),
        ),
    ),
    Operation("getThread", ANYONE, statements=4),
    Operation(
        "listPostLikes",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                "ix_likes_post_id_id",
                lambda world: (
                    select(Like.user_id).where(Like.post_id == world.post_id).order_by(Like.id.desc())
                ),
            ),
        ),
    ),
    Operation(
        "listLikes",
        TOKEN,
        statements=2,
        lists=(
            Listing(
                "ix_likes_user_id_id",
                lambda world: (
                    select(Like.post_id).where(Like.user_id == world.caller.id).order_by(Like.id.desc())
                ),
            ),
        ),
    ),
    Operation(
        "createLike",
        TOKEN,
        statements=3,
        parameters={"post_id": UNLIKED_ID},
        locks=(Locks("unliked ann"),),
    ),
    Operation(
        "deleteLike",
        TOKEN,
        statements=3,
        parameters={"post_id": LIKED_ID},
        locks=(Locks("liked"),),
    ),
    Operation(
        "listFeed",
        TOKEN,
        statements=2,
        lists=(
            Listing(
                "ix_posts_user_id_id",
                lambda world: (
                    select(Post.id)
                    .where(
                        (Post.user_id == world.caller.id)
                        | Post.user_id.in_(
                            select(Follow.followed_id).where(Follow.follower_id == world.caller.id)
                        )
                    )
                    .order_by(Post.id.desc())
                ),
            ),
        ),
    ),
    Operation(
        "listFollowers",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                "ix_follows_followed_id_id",
                lambda world: (
                    select(Follow.follower_id)
                    .where(Follow.followed_id == world.caller.id)
                    .order_by(Follow.id.desc())
                ),
            ),
        ),
    ),
    Operation(
        "listFollowing",
        ANYONE,
        statements=2,
        lists=(
            Listing(
                "ix_follows_follower_id_id",
                lambda world: (
                    select(Follow.followed_id)
                    .where(Follow.follower_id == world.caller.id)
                    .order_by(Follow.id.desc())
                ),
            ),
        ),
    ),
    Operation("getFollowing", TOKEN, statements=2),
    Operation(
        "createFollowing",
        TOKEN,
        statements=4,
        parameters={"username": "eve"},
        locks=(Locks("ann eve"),),
    ),
    Operation("deleteFollowing", TOKEN, statements=4, locks=(Locks("bob ann"),)),
    Operation(
        "createPasswordReset",
        ANYONE,
        statements=2,
        body=lambda world: {"email": world.bob.email},
        locks=(),
    ),
    Operation(
        "redeemPasswordReset",
        ANYONE,
        statements=5,
        body=lambda world: {"token": world.password_reset_token, "new_password": "8 blue bicycles"},
        locks=(Locks("ann"),),
        example_status=403,
    ),
    Operation("createEmailVerification", TOKEN, statements=4, locks=(Locks("ann"),)),
    Operation(
        "redeemEmailVerification",
        ANYONE,
        statements=3,
        body=lambda world: {"token": world.email_verification_token},
        locks=(Locks("ann"),),
        example_status=403,
    ),
]

REGISTRY = {operation.name: operation for operation in _REGISTRY}
# The suites test the entries whose operation exists; `tests/test_operations.py` reports the others.
OPERATIONS = {name: operation for name, operation in REGISTRY.items() if name in CONTRACT}


def cases(condition: Callable[[Operation], object] = lambda _: True) -> list[Any]:
    """Return the operations that meet a condition, as parameters of tests."""
    return [
        pytest.param(operation, id=operation.name)
        for operation in OPERATIONS.values()
        if condition(operation)
    ]


def list_cases(condition: Callable[[Operation], object] = lambda _: True) -> list[Any]:
    """Return each list in each of its orders, as parameters of tests: the operation and the `Listing`."""
    return [
        pytest.param(operation, listing, id=f"{operation.name}-{listing.query}".strip("-"))
        for operation in OPERATIONS.values()
        for listing in operation.lists
        if condition(operation)
    ]


def lock_cases() -> list[Any]:
    """Return each request that locks rows, as parameters of tests: the operation and its `Locks`."""
    return [
        pytest.param(operation, locks, id=f"{operation.name}: {locks.rows}")
        for operation in OPERATIONS.values()
        for locks in operation.locks or ()
    ]
