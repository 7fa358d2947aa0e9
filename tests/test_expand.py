"""What `expand` adds to representations: counts, and what a row and the caller are to each other."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.contract import ContractClient, operations
from tests.factories import Factory, Member
from tests.problems import assert_problem
from tests.races import meanwhile
from tests.scene import SENT, Scene, make_extras, make_scene, send
from tests.statements import Statement

NULL = {"counts": None, "viewer": None}


@pytest.fixture
def scene(make: Factory) -> Scene:
    """Two users, a post and a reply."""
    return make_scene(make)


EXPANDABLE = [
    pytest.param(method, path, operation, id=operation["operationId"])
    for method, path, operation in operations()
    if any(parameter["name"] == "expand" for parameter in operation["parameters"])
]


def expandables(answer: Any) -> Iterator[dict[str, Any]]:
    """Give every object within an answer that has parts to expand."""
    if isinstance(answer, list):
        for item in answer:
            yield from expandables(item)
    if isinstance(answer, dict):
        yield from [answer] if "viewer" in answer else []
        yield from expandables(list(answer.values()))


def parts(answer: Any) -> list[dict[str, Any]]:
    """Return the parts of every such object."""
    return [{"counts": found["counts"], "viewer": found["viewer"]} for found in expandables(answer)]


@pytest.mark.parametrize(("method", "path", "operation"), EXPANDABLE)
class TestEveryOperation:
    def test_adds_nothing_unasked(
        self, client: ContractClient, scene: Scene, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        response = send(client, scene, (method, path, operation), "")

        found = parts(response.json)
        assert found == [NULL] * len(found)
        assert found

    def test_adds_what_is_asked_for(
        self, client: ContractClient, scene: Scene, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        response = send(client, scene, (method, path, operation), "?expand=counts,viewer")

        assert response.status_code in {200, 201}
        found = parts(response.json)
        assert all(isinstance(part["counts"], dict) for part in found)
        # Who registers is nobody yet.
        nobody = operation["operationId"] == "createUser"
        assert all(part["viewer"] is None if nobody else isinstance(part["viewer"], dict) for part in found)
        assert found

    @pytest.mark.parametrize(("asked", "other"), [("counts", "viewer"), ("viewer", "counts")])
    def test_adds_one_without_the_other(
        self,
        client: ContractClient,
        scene: Scene,
        method: str,
        path: str,
        operation: dict[str, Any],
        asked: str,
        other: str,
    ) -> None:
        response = send(client, scene, (method, path, operation), f"?expand={asked}")

        found = parts(response.json)
        assert all(part[other] is None for part in found)
        shown = not (asked == "viewer" and operation["operationId"] == "createUser")
        assert all((part[asked] is not None) is shown for part in found)
        assert found

    def test_adds_nothing_about_the_caller_for_who_is_not_signed_in(
        self, client: ContractClient, scene: Scene, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        response = send(client, scene, (method, path, operation), "?expand=counts,viewer", headers={})

        found = parts(response.json)
        public_status = 201 if method == "POST" else 200
        assert response.status_code == (401 if operation["security"] else public_status)
        assert bool(found) is not bool(operation["security"])
        assert all(part["viewer"] is None and part["counts"] for part in found)

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            pytest.param("expand=author", "unknown_part", id="unknown"),
            pytest.param("expand=counts,likes", "unknown_part", id="one known"),
            pytest.param("expand=Counts", "unknown_part", id="another case"),
            pytest.param("expand=counts,%20viewer", "too_long", id="a space too many"),
            pytest.param("expand=%20counts", "unknown_part", id="a space"),
            pytest.param("expand=counts,", "unknown_part", id="a comma too many"),
            pytest.param("expand=,", "unknown_part", id="a comma"),
            pytest.param("expand=", "blank", id="empty"),
            pytest.param("expand=%20", "blank", id="blank"),
            pytest.param("expand=a%00", "control_character", id="NUL"),
            pytest.param(f"expand={'a' * 5_000}", "too_long", id="long"),
            pytest.param("expand=counts&expand=viewer", "repeated", id="repeated"),
        ],
    )
    def test_refuses_what_is_not_valid(
        self,
        client: ContractClient,
        scene: Scene,
        method: str,
        path: str,
        operation: dict[str, Any],
        query: str,
        code: str,
    ) -> None:
        response = send(client, scene, (method, path, operation), f"?{query}")

        assert response.status_code == 422
        assert [(error["parameter"], error["code"]) for error in response.json["errors"]] == [
            ("expand", code)
        ]

    def test_refuses_a_bad_token(
        self, client: ContractClient, scene: Scene, method: str, path: str, operation: dict[str, Any]
    ) -> None:
        response = send(
            client,
            scene,
            (method, path, operation),
            "?expand=viewer",
            headers={"Authorization": "Bearer nonsense"},
        )

        # Who registers has no token yet, so none is looked at.
        assert response.status_code == (201 if operation["operationId"] == "createUser" else 401)


LISTS = [case for case in EXPANDABLE if str(case.id).startswith("list")]


class TestCost:
    @pytest.mark.parametrize(("method", "path", "operation"), LISTS)
    def test_of_a_list_is_as_many_statements_as_without(
        self,
        client: ContractClient,
        make: Factory,
        scene: Scene,
        statements: list[Statement],
        method: str,
        path: str,
        operation: dict[str, Any],
    ) -> None:
        make_extras(make, scene, 5)
        statements.clear()

        send(client, scene, (method, path, operation), "")
        without = len(statements)
        response = send(client, scene, (method, path, operation), "?expand=counts,viewer")

        assert len(response.json["items"]) > 5
        assert len(statements) == 2 * without


class TestPost:
    @pytest.mark.parametrize("path", ["/posts/{post_id}", "/posts?author=bob", "/posts/{post_id}/thread"])
    def test_tells_each_caller_whether_they_like_it(
        self, client: ContractClient, scene: Scene, path: str
    ) -> None:
        path = path.format(post_id=scene.post_id)
        separator = "&" if "?" in path else "?"

        anns, bobs = (
            parts(client.get(f"{path}{separator}expand=counts,viewer", headers=member.signed_in).json)
            for member in (scene.ann, scene.bob)
        )

        counts = {"like_count": 1, "reply_count": 1}
        assert anns[0] == {"counts": counts, "viewer": {"liked": True}}
        assert bobs[0] == {"counts": counts, "viewer": {"liked": False}}

    def test_is_new_to_everybody(self, client: ContractClient, scene: Scene) -> None:
        response = client.post(
            "/posts?expand=viewer,counts", json={"body": "Hello."}, headers=scene.ann.signed_in
        )

        assert parts(response.json) == [
            {"counts": {"like_count": 0, "reply_count": 0}, "viewer": {"liked": False}}
        ]

    def test_keeps_its_counts_when_edited(self, client: ContractClient, make: Factory, scene: Scene) -> None:
        make.like(scene.bob, scene.post_id)

        response = client.patch(
            f"/posts/{scene.post_id}?expand=viewer,counts",
            json={"body": "Bye."},
            headers=scene.bob.signed_in,
        )

        assert parts(response.json) == [
            {"counts": {"like_count": 2, "reply_count": 1}, "viewer": {"liked": True}}
        ]

    def test_that_is_deleted_as_it_is_edited_is_not_found(
        self, app: Flask, client: ContractClient, make: Factory, scene: Scene
    ) -> None:
        delete = partial(ContractClient(app).delete, f"/posts/{scene.post_id}", headers=scene.bob.signed_in)

        with meanwhile(app, delete):
            response = client.patch(
                f"/posts/{scene.post_id}?expand=viewer",
                json={"body": "Edited."},
                headers=scene.bob.signed_in,
            )

        assert_problem(response, 404, "not_found")

    def test_is_the_same_for_everybody_where_nothing_is_asked_for(
        self, client: ContractClient, scene: Scene
    ) -> None:
        path = f"/posts/{scene.post_id}"

        texts = {
            client.get(path, headers=headers).text
            for headers in (scene.ann.signed_in, scene.bob.signed_in, {})
        }

        assert len(texts) == 1


class TestUser:
    @pytest.mark.parametrize("path", ["/users/{}", "/users?q={}"])
    def test_tells_each_caller_who_follows_whom(
        self, client: ContractClient, make: Factory, scene: Scene, path: str
    ) -> None:
        zoe = make.user("zoe")
        make.follow(zoe, scene.ann)
        separator = "&" if "?" in path else "?"

        def seen(name: str, member: Member) -> Any:
            asked = f"{path.format(name)}{separator}expand=viewer"
            return parts(client.get(asked, headers=member.signed_in).json)[0]["viewer"]

        assert seen("ann", scene.bob) == {"following": True, "followed_by": True}
        assert seen("ann", zoe) == {"following": True, "followed_by": False}
        assert seen("zoe", scene.ann) == {"following": False, "followed_by": True}
        assert seen("zoe", scene.bob) == {"following": False, "followed_by": False}
        assert seen("zoe", zoe) == {"following": False, "followed_by": False}

    def test_has_counts_in_the_answer_to_a_change(self, client: ContractClient, scene: Scene) -> None:
        response = client.patch(
            "/me?expand=counts,viewer", json={"about": "Botanist."}, headers=scene.ann.signed_in
        )

        assert parts(response.json) == [
            {
                "counts": {"posts": 1, "followers": 1, "following": 1},
                "viewer": {"following": False, "followed_by": False},
            }
        ]

    def test_is_new_to_everybody(self, client: ContractClient) -> None:
        response = client.post("/users?expand=counts,viewer", json=SENT["createUser"])

        assert parts(response.json) == [
            {"counts": {"posts": 0, "followers": 0, "following": 0}, "viewer": None}
        ]
