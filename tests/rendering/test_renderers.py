"""All renderers return the same bytes, for every operation of the contract that reads."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from itertools import chain, combinations
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.db import db
from api.models import Follow, Like
from api.posts.writing import insert_post
from tests.conftest import config_for
from tests.operations import Operation, cases
from tests.support.contract import PREFIX, operations, resolve
from tests.support.factories import Account, Factory
from tests.support.world import make_world

READS = {
    operation["operationId"]: (path, operation)
    for method, path, operation in operations()
    if method == "GET" and "200" in operation["responses"]
}
DATETIMES = st.datetimes(timezones=st.just(UTC))
# Characters that both databases can store, many of which JSON escapes or may begin entities.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(
    '"\\/\t\n\x7f%\u2028'
)
ENTITIES = ["#snow", "#été", "@ann", "@bob.", "@unknown", "https://a.é/?q=%s#'"]
WORDS = st.sampled_from([*ENTITIES, "%s", "'"]) | st.text(CHARACTERS, max_size=8)
BODIES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join).filter(lambda body: 0 < len(body) <= 140)
POSTS = st.fixed_dictionaries(
    {"body": BODIES, "timestamp": DATETIMES, "edited_at": DATETIMES | st.none(), "parent": st.integers(0, 3)}
)
PROFILES = st.fixed_dictionaries({"about": st.text(CHARACTERS, max_size=280), "created_at": DATETIMES})


@pytest.fixture(scope="module")
def reference(migrated_app: Flask) -> Iterator[Flask]:
    """The application with the reference renderer, on the same database."""
    app = create_app(config_for(migrated_app.config["DATABASE_URL"], RENDERER="reference"))
    yield app
    with app.app_context():
        db.engine.dispose()


def expansions(operation: Mapping[str, Any]) -> list[str]:
    """Return the query strings with every combination of parts that an operation can expand."""
    found = [each["schema"]["items"] for each in operation["parameters"] if each["name"] == "expand"]
    parts = resolve(found[0])["enum"] if found else []
    subsets = chain.from_iterable(combinations(parts, size) for size in range(1, len(parts) + 1))
    return ["", *(f"?expand={','.join(subset)}" for subset in subsets)]


def make_rows(app: Flask, posts: list[dict[str, Any]], profiles: list[dict[str, Any]]) -> tuple[Account, int]:
    """Delete all rows, make two users with posts; return the caller and the id of a post."""
    with app.app_context():
        for table in reversed(db.metadata.sorted_tables):
            db.session.execute(table.delete())
        db.session.commit()
    make = Factory(app)
    ann, bob = (make.user(name, **profile) for name, profile in zip(("ann", "bob"), profiles, strict=True))
    with app.app_context():
        post_ids: list[int] = []
        for number, columns in enumerate(posts):
            parent = columns.pop("parent")
            parent_id = post_ids[parent] if parent < len(post_ids) else None
            author_id = (ann, bob)[number % 2].id
            post_ids.append(insert_post(author_id, in_reply_to_id=parent_id, **columns))
        db.session.add(Like(user_id=ann.id, post_id=post_ids[0]))
        db.session.add(Follow(follower_id=ann.id, followed_id=bob.id))
        db.session.commit()
    return ann, post_ids[-1]


def responses(client: FlaskClient, path: str, headers: Mapping[str, str]) -> tuple[Any, ...]:
    """Return the parts of a response that a renderer determines."""
    response = client.get(path, headers=dict(headers))
    assert response.status_code in {200, 401}, response.text
    body = response.data if response.status_code == 200 else b""
    return response.status_code, body, response.headers.get("ETag"), response.headers.get("Link")


@given(posts=st.lists(POSTS, min_size=1, max_size=5), profiles=st.lists(PROFILES, min_size=2, max_size=2))
@settings(
    max_examples=3,  # One sends every request that reads.
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_renderers_return_the_same_bytes(
    app: Flask, reference: Flask, posts: list[dict[str, Any]], profiles: list[dict[str, Any]]
) -> None:
    caller, post_id = make_rows(app, posts, profiles)
    clients = [each.test_client() for each in (app, reference)]

    for path, operation in READS.values():
        path = PREFIX + path.format(username="bob", post_id=post_id, token_id=caller.session_id)
        for query in expansions(operation):
            for headers in ({}, caller.signed_in):
                left, right = (responses(client, path + query, headers) for client in clients)
                assert left == right


@pytest.mark.parametrize("operation", cases(lambda operation: operation.name in READS))
def test_renderers_give_the_same_bytes_for_the_rows_of_each_operation(
    app: Flask, reference: Flask, make: Factory, operation: Operation
) -> None:
    world = make_world(make)
    path = PREFIX + operation.path.format(**{**world.path_parameters, **operation.parameters})
    clients = [each.test_client() for each in (app, reference)]

    for query in expansions(operation.contract):
        left, right = (responses(client, path + query, world.ann.signed_in) for client in clients)
        assert left == right


def test_renderers_give_the_same_pages(app: Flask, reference: Flask) -> None:
    make = Factory(app)
    ann = make.user("ann")
    for _ in range(5):
        make.post(ann)
    clients = [each.test_client() for each in (app, reference)]

    for path in ("/posts", "/feed", "/users/ann/posts"):
        query = "?limit=2"
        for cursor in ("next_cursor", "next_cursor", "prev_cursor", "prev_cursor", "prev_cursor"):
            left, right = (responses(client, PREFIX + path + query, ann.signed_in) for client in clients)
            assert left == right
            page: Any = clients[0].get(PREFIX + path + query, headers=ann.signed_in).json
            query = f"?limit=2&cursor={page[cursor]}"
