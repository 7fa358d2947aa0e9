"""Which users."""

from sqlalchemy import Select, select

from api.models import User


def user_named(username: str) -> Select[User]:
    """The user with a name, whatever its case."""
    return select(User).where(User.folded_username == username.lower())


def all_users() -> Select[User]:
    """Everybody."""
    return select(User)


def users_with_prefix(prefix: str) -> Select[User]:
    """Those whose names begin with a prefix, whatever its case.

    A range rather than LIKE, so that the index on the names serves it on every database. Names keep to
    ASCII, whose last character, DEL, comes after all that a prefix can go on with.
    """
    first = prefix.lower()
    return select(User).where(User.folded_username.between(first, first + "\x7f"))
