"""Two users and what they wrote, of whom each operation of the contract can be asked something."""

from dataclasses import dataclass
from typing import Any

from tests.contract import ContractClient
from tests.factories import Factory, Member

SENT: dict[str, Any] = {
    "createPost": {"body": "Hello."},
    "updatePost": {"body": "Bye."},
    "updateAccount": {"about": "Botanist."},
    "createUser": {"username": "zoe", "email": "zoe@example.com", "password": "7 blue bicycles"},
}


@dataclass(frozen=True)
class Scene:
    """Ann and Bob follow each other; she likes what he wrote, and answered it."""

    ann: Member
    bob: Member
    post_id: int
    reply_id: int


def make_scene(make: Factory) -> Scene:
    """Make two users, a post and a reply."""
    ann, bob = make.user("ann"), make.user("bob")
    post_id = make.post(bob, "one")
    reply_id = make.post(ann, "two", in_reply_to_id=post_id, is_reply=True)
    make.like(ann, post_id)
    make.follow(ann, bob)
    make.follow(bob, ann)
    return Scene(ann, bob, post_id, reply_id)


def make_extras(make: Factory, scene: Scene, number: int) -> None:
    """Make more of everything around Ann, Bob and what he wrote."""
    for _ in range(number):
        make.like(scene.ann, make.post(scene.bob, in_reply_to_id=scene.post_id, is_reply=True))
        member = make.user()
        make.follow(scene.bob, member)
        make.follow(member, scene.bob)
        make.like(member, scene.post_id)


def send(
    client: ContractClient, scene: Scene, case: tuple[str, str, Any], query: str = "", **given: Any
) -> Any:
    """Send a request of Ann's to an operation, about Bob and what he wrote; she edits what is her own."""
    method, path, operation = case
    name = operation["operationId"]
    post_id = scene.reply_id if name in {"updatePost", "deletePost"} else scene.post_id
    path = path.format(username="bob", post_id=post_id, token_id=scene.ann.session_id)
    given = {"headers": scene.ann.signed_in, "json": SENT.get(name)} | given
    return client.open(path + query, method=method, **given)
