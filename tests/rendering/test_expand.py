"""The parameter `expand`: it adds counts, and the relation between a row and the caller."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.operations import OPERATIONS, Operation, cases
from tests.support.concurrency import during_request
from tests.support.contract import ContractClient
from tests.support.databases import no_sql, on_sqlite
from tests.support.factories import Account, Factory
from tests.support.problems import assert_problem
from tests.support.renderers import needs_sql_json
from tests.support.representations import includes
from tests.support.statements import Statement
from tests.support.world import World, add_related_rows, make_world

NULL = {"counts": None, "viewer": None}


@pytest.fixture
def world(make: Factory) -> World:
    """Two users, a post and a reply."""
    return make_world(make)


EXPANDABLE = cases(lambda operation: "expand" in operation.names("query"))


def expandables(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object with expandable parts within JSON."""
    if isinstance(value, list):
        for item in value:
            yield from expandables(item)
    if isinstance(value, dict):
        yield from [value] if "viewer" in value else []
        yield from expandables(list(value.values()))


def parts(value: Any) -> list[dict[str, Any]]:
    """Return the expandable parts of every object within JSON."""
    return [{"counts": found["counts"], "viewer": found["viewer"]} for found in expandables(value)]


@pytest.mark.parametrize("operation", EXPANDABLE)
class TestEveryOperation:
    def test_adds_nothing_without_the_parameter(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        response = operation.send(client, world, "")

        found = parts(response.json)
        assert found == [NULL] * len(found)
        assert found

    def test_adds_all_requested_parts(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        response = operation.send(client, world, "?expand=counts,viewer")

        assert response.status_code in {200, 201}
        found = parts(response.json)
        assert all(isinstance(part["counts"], dict) for part in found)
        # A caller who registers is anonymous.
        is_anonymous = operation.name == "createUser"
        viewers = [part["viewer"] for part in found]
        assert all(viewer is None if is_anonymous else isinstance(viewer, dict) for viewer in viewers)
        assert found

    @pytest.mark.parametrize(("asked", "other"), [("counts", "viewer"), ("viewer", "counts")])
    def test_adds_only_the_requested_part(
        self,
        client: ContractClient,
        world: World,
        operation: Operation,
        asked: str,
        other: str,
    ) -> None:
        response = operation.send(client, world, f"?expand={asked}")

        found = parts(response.json)
        assert all(part[other] is None for part in found)
        is_expanded = not (asked == "viewer" and operation.name == "createUser")
        assert all((part[asked] is not None) is is_expanded for part in found)
        assert found

    def test_adds_no_relation_to_an_anonymous_caller(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        response = operation.send(client, world, "?expand=counts,viewer", headers={})

        found = parts(response.json)
        public_status = 201 if operation.method == "POST" else 200
        assert response.status_code == (public_status if operation.is_public else 401)
        assert bool(found) is operation.is_public
        assert all(part["viewer"] is None and part["counts"] for part in found)

    @on_sqlite
    def test_refuses_unknown_parts(self, client: ContractClient, world: World, operation: Operation) -> None:
        response = operation.send(client, world, "?expand=counts,likes")

        assert_problem(response, 422, "invalid_input", {"parameter": "expand", "code": "unknown_part"})

    @on_sqlite
    def test_refuses_an_invalid_token(
        self, client: ContractClient, world: World, operation: Operation
    ) -> None:
        response = operation.send(
            client,
            world,
            "?expand=viewer",
            headers={"Authorization": "Bearer nonsense"},
        )

        # Registration ignores the token.
        assert response.status_code == (201 if operation.name == "createUser" else 401)


@no_sql
@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param("expand=author", "unknown_part", id="unknown"),
        pytest.param("expand=counts,likes", "unknown_part", id="known and unknown"),
        pytest.param("expand=Counts", "unknown_part", id="another case"),
        pytest.param("expand=counts,%20viewer", "too_long", id="additional space"),
        pytest.param("expand=%20counts", "unknown_part", id="a space"),
        pytest.param("expand=counts,", "unknown_part", id="additional comma"),
        pytest.param("expand=,", "unknown_part", id="a comma"),
        pytest.param("expand=", "blank", id="empty"),
        pytest.param("expand=%20", "blank", id="blank"),
        pytest.param("expand=a%00", "control_character", id="NUL"),
        pytest.param(f"expand={'a' * 5_000}", "too_long", id="long"),
        pytest.param(
            "expand=counts&expand=likes", "unknown_part", id="known, and unknown in a second parameter"
        ),
        pytest.param("expand=counts&expand=", "unknown_part", id="empty second parameter"),
    ],
)
def test_expand_accepts_only_known_parts(client: ContractClient, query: str, code: str) -> None:
    response = client.get(f"/posts?{query}")

    assert_problem(response, 422, "invalid_input", {"parameter": "expand", "code": code})


def test_parts_may_be_one_parameter_each(client: ContractClient, make: Factory) -> None:
    ann = make.user("ann")
    make.post(ann), make.post(ann)

    repeated = client.get("/posts?expand=counts&expand=viewer&limit=1", headers=ann.signed_in)

    joined = client.get("/posts?expand=counts,viewer&limit=1", headers=ann.signed_in)
    [post] = repeated.json["items"]
    assert post["counts"]
    assert post["viewer"]
    assert repeated.json == joined.json
    assert "expand=counts&expand=viewer&limit=1&cursor=" in repeated.headers["Link"]


LISTS = [case for case in EXPANDABLE if case.values[0].is_list]


class TestCost:
    @needs_sql_json
    @pytest.mark.parametrize("operation", LISTS)
    def test_of_a_list_is_the_same_number_of_statements_as_without(
        self,
        client: ContractClient,
        make: Factory,
        world: World,
        statements: list[Statement],
        operation: Operation,
    ) -> None:
        add_related_rows(make, world, 5)
        statements.clear()

        operation.send(client, world, "")
        without = len(statements)
        response = operation.send(client, world, "?expand=counts,viewer")

        assert len(response.json["items"]) > 5
        assert len(statements) == 2 * without


class TestPost:
    @pytest.mark.parametrize("path", ["/posts/{post_id}", "/posts?author=bob", "/posts/{post_id}/thread"])
    def test_has_the_relation_to_each_caller(self, client: ContractClient, world: World, path: str) -> None:
        path = path.format(post_id=world.post_id)
        separator = "&" if "?" in path else "?"

        anns, bobs = (
            parts(client.get(f"{path}{separator}expand=counts,viewer", headers=member.signed_in).json)
            for member in (world.ann, world.bob)
        )

        counts = {"like_count": 1, "reply_count": 1}
        assert includes(anns[0], {"counts": counts, "viewer": {"liked": True}})
        assert includes(bobs[0], {"counts": counts, "viewer": {"liked": False}})

    def test_has_no_likes_or_follows_when_new(self, client: ContractClient, world: World) -> None:
        response = client.post(
            "/posts?expand=viewer,counts", json={"body": "Hello."}, headers=world.ann.signed_in
        )

        assert includes(
            parts(response.json),
            [{"counts": {"like_count": 0, "reply_count": 0}, "viewer": {"liked": False}}],
        )

    def test_has_its_counts_in_the_response_to_an_edit(
        self, client: ContractClient, make: Factory, world: World
    ) -> None:
        make.like(world.bob, world.post_id)

        response = client.patch(
            f"/posts/{world.post_id}?expand=viewer,counts",
            json={"body": "Bye."},
            headers=world.bob.signed_in,
        )

        assert includes(
            parts(response.json), [{"counts": {"like_count": 2, "reply_count": 1}, "viewer": {"liked": True}}]
        )

    def test_that_is_deleted_during_an_edit_is_not_found(
        self, app: Flask, client: ContractClient, make: Factory, world: World
    ) -> None:
        delete = partial(ContractClient(app).delete, f"/posts/{world.post_id}", headers=world.bob.signed_in)

        with during_request(app, delete):
            response = client.patch(
                f"/posts/{world.post_id}?expand=viewer",
                json={"body": "Edited."},
                headers=world.bob.signed_in,
            )

        assert_problem(response, 404, "not_found")

    def test_is_the_same_for_all_callers_without_the_parameter(
        self, client: ContractClient, world: World
    ) -> None:
        path = f"/posts/{world.post_id}"

        texts = {
            client.get(path, headers=headers).text
            for headers in (world.ann.signed_in, world.bob.signed_in, {})
        }

        assert len(texts) == 1


class TestUser:
    @pytest.mark.parametrize("path", ["/users/{}", "/users?q={}"])
    def test_has_the_relation_to_each_caller(
        self, client: ContractClient, make: Factory, world: World, path: str
    ) -> None:
        zoe = make.user("zoe")
        make.follow(zoe, world.ann)
        separator = "&" if "?" in path else "?"

        def seen(name: str, member: Account) -> Any:
            asked = f"{path.format(name)}{separator}expand=viewer"
            return parts(client.get(asked, headers=member.signed_in).json)[0]["viewer"]

        assert includes(seen("ann", world.bob), {"following": True, "followed_by": True})
        assert includes(seen("ann", zoe), {"following": True, "followed_by": False})
        assert includes(seen("zoe", world.ann), {"following": False, "followed_by": True})
        assert includes(seen("zoe", world.bob), {"following": False, "followed_by": False})
        assert includes(seen("zoe", zoe), {"following": False, "followed_by": False})

    def test_has_counts_in_the_response_to_a_change(self, client: ContractClient, world: World) -> None:
        response = client.patch(
            "/me?expand=counts,viewer", json={"about": "Botanist."}, headers=world.ann.signed_in
        )

        assert includes(
            parts(response.json),
            [
                {
                    "counts": {"posts": 1, "followers": 2, "following": 1},
                    "viewer": {"following": False, "followed_by": False},
                }
            ],
        )

    def test_has_no_likes_or_follows_when_new(self, client: ContractClient) -> None:
        response = client.post("/users?expand=counts,viewer", json=OPERATIONS["createUser"].example)

        assert includes(
            parts(response.json), [{"counts": {"posts": 0, "followers": 0, "following": 0}, "viewer": None}]
        )
