"""What the text of a post points at."""

from sqlalchemy import delete, insert, select

from api.database import db
from api.models import Entity, Post, User
from api.text import marks_in, names_in


def save_entities(post: Post) -> None:
    """Keep the hashtags and mentions that stand in a post's text, in place of those that stood there before.

    Whoever is mentioned cannot be deleted or renamed until the transaction ends.
    """
    is_new = post.id is None
    user_ids: dict[str, int] = {}
    if names := names_in(post.body):
        named = select(User.folded_username, User.id).where(User.folded_username.in_(names))
        locked = named.order_by(User.id).with_for_update(read=True, key_share=True)
        with db.session.no_autoflush:  # It would lock the author before the others.
            user_ids = dict(db.session.execute(locked).all())
    db.session.flush()
    if not is_new:
        db.session.execute(delete(Entity).where(Entity.post_id == post.id))
    if marks := marks_in(post.body, user_ids):
        rows = [{"post_id": post.id, **mark._asdict()} for mark in marks]
        # As one statement, though some columns are null.
        db.session.execute(insert(Entity), rows, execution_options={"render_nulls": True})
    db.session.expire(post, ["entities"])
