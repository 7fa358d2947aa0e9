"""Rows with which every operation of the contract can be tested.

A new resource adds its rows to `make_world`, which most suites use, and to `make_large_world`, which suites
about lists use. `tests/operations.py` declares the request of each operation and the rows that it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from flask import Flask
from sqlalchemy import Select, insert, select

from api.db import db, utc_now
from api.mail.kinds import EMAIL_VERIFICATION, PASSWORD_RESET
from api.models import Entity, Follow, Like, Post, Session, User
from tests.support.factories import Account, Factory

# Ids of posts. 41 and 42 are also the examples of the contract.
UNLIKED_ID, LIKED_ID, POST_ID, REPLY_ID, ANSWER_ID, MENTION_ID = range(40, 46)
SESSION_ID = 42


@dataclass(frozen=True)
class World:
    """Three users and their posts: Ann is the caller, Bob the user in requests, and Eve a third user.

    Ann and Bob follow each other, and Eve follows Ann. Bob wrote 40, 41 and 42. Ann likes 41 and 42, and
    replied to 42 with 43. Eve replied to that with 44, and mentions Ann in 45. Ann's id is between Bob's and
    Eve's, and session 42 is Bob's.
    """

    ann: Account
    bob: Account
    eve: Account
    refresh_token: str
    password_reset_token: str
    email_verification_token: str
    post_id: int = POST_ID
    reply_id: int = REPLY_ID

    @property
    def path_parameters(self) -> dict[str, str | int]:
        """The value of each path parameter of the contract, unless an operation names another."""
        return {"username": self.bob.username, "post_id": POST_ID, "token_id": self.ann.session_id}

    def lock(self, name: str) -> Select[int]:
        """Return the statement that locks a row, given its name in `tests/operations.py`."""
        rows: dict[str, tuple[type[Any], int]] = {
            "bob": (User, self.bob.id),
            "ann": (User, self.ann.id),
            "eve": (User, self.eve.id),
            "session": (Session, self.ann.session_id),
            "unliked": (Post, UNLIKED_ID),
            "liked": (Post, LIKED_ID),
            "post": (Post, POST_ID),
            "reply": (Post, REPLY_ID),
            "answer": (Post, ANSWER_ID),
            "mention": (Post, MENTION_ID),
        }
        model, row_id = rows[name]
        return select(model.id).where(model.id == row_id).with_for_update()


def make_world(make: Factory) -> World:
    """Insert the rows of a world into an empty database."""
    with make.one_transaction():
        bob, ann, eve = make.user("bob", session_id=SESSION_ID), make.user("ann"), make.user("eve")
        posts = [
            (UNLIKED_ID, bob, "Hello.", None),
            (LIKED_ID, bob, "Hello.", None),
            (POST_ID, bob, "Hello.", None),
            (REPLY_ID, ann, "Hello.", POST_ID),
            (ANSWER_ID, eve, "Hello.", REPLY_ID),
            (MENTION_ID, eve, f"@{ann.username}", None),
        ]
        make.insert(
            Post,
            [
                {"id": post_id, "user_id": author.id, "body": body, "in_reply_to_id": parent_id}
                for post_id, author, body, parent_id in posts
            ],
        )
        make.mention(MENTION_ID, ann)
        make.insert(Like, [{"user_id": ann.id, "post_id": post_id} for post_id in (LIKED_ID, POST_ID)])
        follows = ((ann, bob), (bob, ann), (eve, ann))
        make.insert(
            Follow,
            [{"follower_id": follower.id, "followed_id": followed.id} for follower, followed in follows],
        )
        return World(
            ann,
            bob,
            eve,
            refresh_token=make.refresh_token(ann),
            password_reset_token=make.email_token(ann, PASSWORD_RESET),
            email_verification_token=make.email_token(ann, EMAIL_VERIFICATION),
        )


def add_related_rows(make: Factory, world: World, number: int) -> None:
    """Insert a number of further replies, likes and followers of the rows that the operations name."""
    with make.one_transaction():
        for _ in range(number):
            make.like(world.ann, make.post(world.bob, in_reply_to_id=world.post_id, is_reply=True))
            user = make.user()
            make.follow(world.bob, user)
            make.follow(user, world.bob)
            make.like(user, world.post_id)


@dataclass(frozen=True)
class LargeWorld:
    """The caller and a post of theirs, of which every list has at least forty items."""

    caller: Account
    post_id: int

    @property
    def path_parameters(self) -> dict[str, str | int]:
        """The value of each path parameter of the contract's lists."""
        return {"username": self.caller.username, "post_id": self.post_id}


def make_large_world(app: Flask, caller: Account, others: int) -> LargeWorld:
    """Fill the tables; some of the oldest rows belong to the caller.

    Of the `others`, 40 reply to a post of the caller, like it, follow the caller and are followed; the caller
    has 40 more posts, likes 40 and has 40 more sessions. The order of likes and follows is not that of the
    rows that they refer to. With 2,000 others the tables are so large that an index is fastest.
    """
    now = utc_now()
    with app.app_context():
        users = [
            {"username": f"u{number}er", "email": f"{number}@example.com", "password_hash": "-", "version": 1}
            for number in range(others)
        ]
        user_ids = sorted(db.session.scalars(insert(User).returning(User.id), users))
        near = user_ids[:40]
        post_id = db.session.scalars(
            insert(Post).returning(Post.id), [{"user_id": caller.id, "body": "Hello.", "version": 1}]
        ).one()
        posts: list[dict[str, Any]] = [
            *[{"user_id": owner, "in_reply_to_id": post_id, "is_reply": True} for owner in near],
            *[
                {"user_id": owner, "in_reply_to_id": None, "is_reply": False}
                for owner in [*[caller.id] * 40, *user_ids]
            ],
        ]
        written = [{**post, "body": "Hello.", "version": 1} for post in posts]
        post_ids = sorted(db.session.scalars(insert(Post).returning(Post.id), written))
        tags = {"start": 0, "end": 6, "tag": "hello", "is_repeat": False}
        db.session.execute(insert(Entity), [{"post_id": one, **tags} for one in post_ids])
        liked = [
            *[(caller.id, one) for one in _shuffled(post_ids)],
            *[(one, post_id) for one in _shuffled(near)],
            *zip(user_ids, post_ids[80:], strict=True),
        ]
        db.session.execute(insert(Like), [{"user_id": user, "post_id": post} for user, post in liked])
        followed = [
            *[(caller.id, one) for one in _shuffled(near)],
            *[(one, caller.id) for one in _shuffled(near)],
            *pairwise(user_ids),
        ]
        db.session.execute(
            insert(Follow), [{"follower_id": follower, "followed_id": one} for follower, one in followed]
        )
        times = {"created_at": now, "refreshed_at": now, "expires_at": now + timedelta(days=30)}
        sessions = [{"user_id": owner, **times} for owner in [*[caller.id] * 40, *user_ids]]
        db.session.execute(insert(Session), sessions)
        db.session.commit()
    return LargeWorld(caller, post_id)


def _shuffled(ids: Sequence[int]) -> list[int]:
    """Return the first 40 ids in another order."""
    return [ids[7 * number % 40] for number in range(40)]
