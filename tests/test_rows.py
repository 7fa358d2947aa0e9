"""What a list shows of a row equals what the schema of its items dumps."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, literal, select, text

from api.database import Base, db
from api.endpoint import operation_of
from api.models import Entity, Post, Session, User
from api.pagination import PageSchema
from api.prepared import Prepared
from api.rows import read_shown
from api.schema import BaseSchema
from tests.contract import ContractClient
from tests.factories import Factory

MOMENTS = st.datetimes(timezones=st.just(UTC))


def texts(minimum: int, maximum: int) -> st.SearchStrategy[str]:
    """Return a strategy for what both databases can keep."""
    marks = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(marks, min_size=minimum, max_size=maximum)


# What a list may show: the model, what its columns may hold, and what a statement computes beside them.
ROWS: dict[str, tuple[type[Base], dict[str, st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]] = {
    "User": (
        User,
        {
            "username": st.from_regex("[A-Za-z][A-Za-z0-9_.-]{2,63}", fullmatch=True),
            "about": texts(0, 280),
            "created_at": MOMENTS,
        },
        {},
    ),
    "Post": (
        Post,
        {"body": texts(1, 140), "timestamp": MOMENTS, "edited_at": MOMENTS | st.none()},
        {},
    ),
    "Session": (
        Session,
        {
            "user_agent": texts(0, 200),
            "created_at": MOMENTS,
            "refreshed_at": MOMENTS,
            "expires_at": MOMENTS,
        },
        {"is_current": st.booleans()},
    ),
}


def listed(app: Flask) -> dict[str, BaseSchema]:
    """Return the schema of the items of each list that a route answers with, by name."""
    answers: list[Any] = [operation_of(view).answer for view in app.view_functions.values()]
    pages: list[Any] = [answer.fields["items"] for answer in answers if isinstance(answer, PageSchema)]
    schemas = [page.inner.schema for page in pages]
    return {type(schema).__name__.removesuffix("Schema"): schema for schema in schemas}


@pytest.fixture
def row_ids(make: Factory) -> dict[str, int]:
    """A row of each kind."""
    ann = make.user()
    return {"User": ann.id, "Post": make.post(ann), "Session": ann.session_id}


class TestMoments:
    def test_are_shown_in_utc_whatever_the_time_zone_of_the_database(
        self, new_migrated_app: Callable[..., Flask]
    ) -> None:
        app = new_migrated_app("postgresql")
        with app.app_context():
            name = db.engine.url.database
            db.session.execute(text(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'"))
            db.session.commit()
            db.session.remove()
            db.engine.dispose()
        Factory(app).user("ann", created_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC))

        one: Any = ContractClient(app).get("/users/ann").json
        page: Any = ContractClient(app).get("/users").json

        assert one["created_at"] == "2026-11-22T09:30:00.000Z"
        assert page["items"] == [one]


class TestSelectShown:
    @pytest.mark.parametrize("name", ROWS)
    @given(data=st.data())
    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_reads_what_the_schema_dumps(
        self, app: Flask, row_ids: dict[str, int], name: str, data: st.DataObject
    ) -> None:
        model, columns, computed = ROWS[name]
        values = data.draw(st.fixed_dictionaries(columns))
        beside = data.draw(st.fixed_dictionaries(computed))
        row_id = row_ids[name]
        schema = listed(app)[name]
        with app.app_context():
            row: Any = db.session.get_one(model, row_id)
            row.update(values)
            db.session.commit()

        with app.app_context():
            expressions = [literal(value).label(member) for member, value in beside.items()]
            statement = select(model, *expressions).where(model.__table__.c.id == row_id)
            [read] = read_shown(Prepared(statement, {}), schema)

            row = db.session.get_one(model, row_id)
            row.update(beside)
            dumped = schema.dump(row)
            assert read.json == orjson.dumps(dumped)
            assert read.etag == dumped.get("etag")

    @given(tags=st.lists(texts(1, 140) | st.none(), max_size=5))
    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_reads_the_rows_within_a_row_in_their_order(
        self, app: Flask, row_ids: dict[str, int], tags: list[str | None]
    ) -> None:
        schema = listed(app)["Post"]
        entities = [
            Entity(
                post_id=row_ids["Post"],
                start=start,
                end=start + 1,
                tag=tag,
                user_id=row_ids["User"] if tag is None else None,
                is_repeat=False,
            )
            for start, tag in enumerate(tags)
        ]
        with app.app_context():
            db.session.execute(delete(Entity))
            for entity in reversed(entities):
                db.session.add(entity)
                db.session.flush()
            db.session.commit()

        with app.app_context():
            [read] = read_shown(Prepared(select(Post), {}), schema)

            assert [entity["tag"] for entity in orjson.loads(read.json)["entities"]] == tags
            assert read.json == orjson.dumps(schema.dump(db.session.scalars(select(Post)).one()))

    def test_is_tested_with_all_that_lists_show(self, migrated_app: Flask) -> None:
        assert listed(migrated_app).keys() == ROWS.keys()
