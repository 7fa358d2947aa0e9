"""How much each operation asks of the database: one table, which every operation must be in."""

from hashlib import sha256
from typing import Any

import pytest
from flask import Flask

from api import pagination, prepared, rows
from api.database import db, utc_now
from api.letters import EMAIL_VERIFICATION, PASSWORD_RESET
from api.models import Letter
from api.signing import signed
from api.tokens.routes import REFRESH_TOKEN
from tests.contract import ContractClient, operations
from tests.factories import PASSWORD, Factory
from tests.mailbox import wait_for_mail
from tests.scene import Scene, make_extras, make_scene, send
from tests.statements import Statement

# Of who is signed in, where that makes a difference: one statement then finds whose session it is. Letters
# that are written afterwards count too; what begins and ends transactions does not.
STATEMENTS = {
    "createUser": 6,
    "listUsers": 2,
    "getUser": 2,
    "listUserPosts": 2,
    "getAccount": 2,
    "updateAccount": 4,
    "deleteAccount": 7,
    "changePassword": 5,
    "listPosts": 2,
    "getPost": 2,
    "createPost": 6,
    "updatePost": 8,
    "deletePost": 4,
    "createToken": 4,
    "refreshToken": 2,
    "listTokens": 2,
    "deleteCurrentToken": 2,
    "deleteToken": 3,
    "listReplies": 2,
    "getThread": 3,
    "listPostLikes": 2,
    "listLikes": 2,
    "createLike": 3,
    "deleteLike": 3,
    "listFeed": 2,
    "listFollowers": 2,
    "listFollowing": 2,
    "getFollowing": 3,
    "createFollowing": 4,
    "deleteFollowing": 4,
    "createPasswordReset": 5,
    "redeemPasswordReset": 5,
    "createEmailVerification": 4,
    "redeemEmailVerification": 3,
}

OPERATIONS = [
    pytest.param(method, path, operation, id=operation["operationId"])
    for method, path, operation in operations()
]
TOKEN = "mailed"
CACHES = [prepared._compiled, rows._made_shown, pagination._made_page]


@pytest.fixture
def scene(app: Flask, make: Factory) -> Scene:
    """Two users who follow each other, a post and a reply, and letters with tokens."""
    scene = make_scene(make)
    with app.app_context():
        for kind in (EMAIL_VERIFICATION, PASSWORD_RESET):
            token_hash = sha256(f"{TOKEN} {kind.name}".encode()).hexdigest()
            letter = Letter(
                email=scene.ann.email, kind=kind.name, token_hash=token_hash, user_id=scene.ann.id
            )
            letter.written_at = utc_now()
            db.session.add(letter)
        db.session.commit()
    return scene


def request_of(app: Flask, scene: Scene, name: str) -> dict[str, Any]:
    """Return what an operation wants besides the address and an access token."""
    ann = scene.ann
    with app.app_context():
        refresh_token = signed(REFRESH_TOKEN, [ann.session_id, ann.origin, 1])
    new_password = "8 blue bicycles"
    wanted: dict[str, dict[str, Any]] = {
        "createToken": {"headers": {}, "auth": (ann.username, PASSWORD)},
        "refreshToken": {"json": {"refresh_token": refresh_token}},
        "changePassword": {"json": {"current_password": PASSWORD, "new_password": new_password}},
        "deleteAccount": {"json": {"password": PASSWORD}},
        "createPost": {"json": {"body": "#a #b #c @bob @ann", "in_reply_to_id": scene.post_id}},
        "updatePost": {"json": {"body": "#a #b #c @bob @ann"}},
        "createPasswordReset": {"json": {"email": scene.bob.email}},
        "redeemPasswordReset": {
            "json": {"token": f"{TOKEN} {PASSWORD_RESET.name}", "new_password": new_password}
        },
        "redeemEmailVerification": {"json": {"token": f"{TOKEN} {EMAIL_VERIFICATION.name}"}},
    }
    return wanted.get(name, {})


@pytest.mark.parametrize("others", [0, 30])
@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_an_operation_asks_as_much_whatever_there_is(
    app: Flask,
    client: ContractClient,
    make: Factory,
    scene: Scene,
    statements: list[Statement],
    method: str,
    path: str,
    operation: dict[str, Any],
    others: int,
) -> None:
    name = operation["operationId"]
    make_extras(make, scene, others)
    statements.clear()

    response = send(client, scene, (method, path, operation), **request_of(app, scene, name))

    wait_for_mail()
    assert response.status_code < 300, response.json
    asked = [statement.text for statement in statements if not statement.text.startswith("BEGIN")]
    assert len(asked) == STATEMENTS[name], "\n\n".join(asked)


@pytest.mark.parametrize(
    ("method", "path", "operation"), [case for case in OPERATIONS if case.values[0] == "GET"]
)
def test_a_statement_that_reads_is_made_once(
    client: ContractClient, scene: Scene, method: str, path: str, operation: dict[str, Any]
) -> None:
    send(client, scene, (method, path, operation))
    made = [cache.cache_info().misses for cache in CACHES]

    send(client, scene, (method, path, operation))

    assert [cache.cache_info().misses for cache in CACHES] == made
