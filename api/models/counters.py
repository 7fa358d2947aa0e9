"""The counter columns, with the rows that each counts. Checks and repairs the counts of the triggers."""

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, aliased

from api.db import db, dialect_name
from api.models import Follow, Like, Post, User

Reply = aliased(Post)
COUNTERS: dict[InstrumentedAttribute[int], ColumnElement[bool]] = {
    User.post_count: Post.user_id == User.id,
    User.follower_count: Follow.followed_id == User.id,
    User.following_count: Follow.follower_id == User.id,
    Post.like_count: Like.post_id == Post.id,
    Post.reply_count: Reply.in_reply_to_id == Post.id,
}


def wrong_counters(*, repair: bool) -> dict[str, int]:
    """Return how many rows have a wrong count, by counter; with `repair`, correct them.

    Repairing locks the tables against other writers. The caller commits.
    """
    if dialect_name() == "postgresql":
        db.session.execute(text("SET LOCAL statement_timeout = 0"))
        if repair:
            db.session.execute(text("LOCK TABLE users, posts, follows, likes IN SHARE ROW EXCLUSIVE MODE"))
    wrong: dict[str, int] = {}
    for counter, condition in COUNTERS.items():
        model = counter.class_
        counted = select(func.count()).where(condition).correlate(model).scalar_subquery()
        rows = select(func.count()).select_from(model).where(counter != counted)
        wrong[str(counter)] = db.session.scalars(rows).one()
        if repair and wrong[str(counter)]:
            correction = update(model).where(counter != counted).values({counter: counted})
            db.session.execute(correction, execution_options={"synchronize_session": False})
    return wrong
