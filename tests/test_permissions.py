"""Who may do what: one table, which every operation must be in."""

from typing import Any

import pytest

from tests.contract import ContractClient, example_path, operations
from tests.factories import Factory

# Anybody; whoever knows a password; whoever is signed in; and of those only the author.
ANYBODY, PASSWORD, SIGNED_IN, AUTHOR = "anybody", "password", "signed in", "author"
WHO = {
    "createUser": ANYBODY,
    "listUsers": ANYBODY,
    "getUser": ANYBODY,
    "listUserPosts": ANYBODY,
    "getAccount": SIGNED_IN,
    "updateAccount": SIGNED_IN,
    "deleteAccount": SIGNED_IN,
    "changePassword": SIGNED_IN,
    "listPosts": ANYBODY,
    "getPost": ANYBODY,
    "createPost": SIGNED_IN,
    "updatePost": AUTHOR,
    "deletePost": AUTHOR,
    "createToken": PASSWORD,
    "refreshToken": ANYBODY,
    "listTokens": SIGNED_IN,
    "deleteCurrentToken": SIGNED_IN,
    "deleteToken": SIGNED_IN,
    "listReplies": ANYBODY,
    "getThread": ANYBODY,
    "listPostLikes": ANYBODY,
    "listLikes": SIGNED_IN,
    "createLike": SIGNED_IN,
    "deleteLike": SIGNED_IN,
    "listFeed": SIGNED_IN,
    "listFollowers": ANYBODY,
    "listFollowing": ANYBODY,
    "getFollowing": SIGNED_IN,
    "createFollowing": SIGNED_IN,
    "deleteFollowing": SIGNED_IN,
    "createPasswordReset": ANYBODY,
    "redeemPasswordReset": ANYBODY,
    "createEmailVerification": SIGNED_IN,
    "redeemEmailVerification": ANYBODY,
}
SECURITY: dict[str, list[dict[str, list[str]]]] = {
    ANYBODY: [],
    PASSWORD: [{"basicAuth": []}],
    SIGNED_IN: [{"bearerAuth": []}],
    AUTHOR: [{"bearerAuth": []}],
}


def those(*who: str) -> list[Any]:
    """Return the operations that are for some, as parameters of a test."""
    return [
        pytest.param(method, path, operation, id=operation["operationId"])
        for method, path, operation in operations()
        if WHO.get(operation["operationId"]) in who
    ]


def test_every_operation_is_in_the_table() -> None:
    assert {operation["operationId"] for _, _, operation in operations()} == set(WHO)


def test_the_contract_says_the_same() -> None:
    for _, _, operation in operations():
        assert operation["security"] == SECURITY[WHO[operation["operationId"]]]


@pytest.mark.parametrize(("method", "path", "operation"), those(PASSWORD, SIGNED_IN, AUTHOR))
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"Authorization": "Bearer nonsense"}, id="a token that is none"),
        pytest.param({"Authorization": "Basic bm9ib2R5OnBhc3N3b3Jk"}, id="a password that is nobody's"),
        pytest.param({"Authorization": "Basic \xe9"}, id="credentials that are not ASCII"),
        pytest.param({"Authorization": ""}, id="an empty header"),
    ],
)
def test_others_are_answered_401(
    client: ContractClient,
    method: str,
    path: str,
    operation: dict[str, Any],
    headers: dict[str, str],
) -> None:
    response = client.open(example_path(path, operation), method=method, headers=headers)

    assert response.status_code == 401
    scheme = "Basic" if WHO[operation["operationId"]] == PASSWORD else "Bearer"
    assert response.headers["WWW-Authenticate"].startswith(f'{scheme} realm="microblog"')


@pytest.mark.parametrize("path", ["/posts", "/users/ann", "/feed"])
@pytest.mark.parametrize("credentials", ["Basic \xe9", "Bearer \xe9", "Digest a=\xe9", "\xe9"])
def test_credentials_of_whatever_kind_are_no_token(
    client: ContractClient, make: Factory, path: str, credentials: str
) -> None:
    make.user("ann")

    response = client.get(path, headers={"Authorization": credentials})

    assert response.status_code == 401


@pytest.mark.parametrize(("method", "path", "operation"), those(AUTHOR))
def test_strangers_are_answered_403(
    client: ContractClient, make: Factory, method: str, path: str, operation: dict[str, Any]
) -> None:
    make.post(make.user("ann"), id=42)
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})

    response = client.open(
        example_path(path, operation),
        method=method,
        json=content.get("example"),
        headers=make.user("bob").signed_in,
    )

    assert response.status_code == 403
    assert client.get("/posts/42").json["body"] == "Hello."
