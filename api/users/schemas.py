"""How people are shown, by audience: Author < User < Account; and what they may send."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, validate, validates_schema
from marshmallow_sqlalchemy import auto_field
from sqlalchemy import exists
from sqlalchemy.orm import aliased

from api.models import Follow, User
from api.pagination import PageQuery
from api.passwords import LENGTH_MAXIMUM, LENGTH_MINIMUM, is_common
from api.rows import CALLER_ID, ETag, Expandable, Flag
from api.schema import BaseSchema, Text, normal_email, refusal

# What could be taken for a part of a URL, or for somebody who speaks for the service.
RESERVED_USERNAMES = frozenset(
    "account admin administrator api auth current docs everybody everyone feed follow followers "
    "following help like likes livez login logout mention mentions metrics microblog moderator new "
    "null openapi openapi.json openapi.yaml password post posts problems readyz refresh register "
    "replies reply root search security self session sessions settings signin signout signup staff "
    "static status support system tag tags thread token tokens undefined user users "
    "webmaster".split()
)
ABOUT = {
    "description": "What they say of themselves: up to 280 code points after NFC normalisation, or empty.",
    "example": "Botanist. Rain or shine.",
}


class Username(Text):
    """A name for a new or renamed user."""

    METADATA = {
        "description": "3 to 64 of the letters A to Z in either case, digits, `_`, `.` and `-`; a "
        "letter first. Unique, whatever its case. Words that addresses use are refused.",
        "pattern": "^[A-Za-z][A-Za-z0-9_.-]*$",
        "minLength": 3,
        "example": "ann",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        name = super()._deserialize(value, *args, **kwargs)
        if not re.fullmatch(str(self.METADATA["pattern"]), name):
            raise refusal("wrong_format", "Only A to Z, digits, _ . and -, and a letter first.")
        if len(name) < self.METADATA["minLength"]:
            raise refusal("too_short", "Shorter than minimum length 3.")
        if name.lower() in RESERVED_USERNAMES:
            raise refusal("reserved", "This name is reserved.")
        return name


class Email(Text):
    """An e-mail address in ASCII; a domain in other letters is taken in its ASCII form."""

    METADATA = {
        "description": "E-mail address; only its owner sees it. Unique, whatever its case.",
        "format": "email",
        "example": "ann@example.com",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        address = normal_email(text)
        if address is None:
            raise refusal("wrong_format", "This is not an e-mail address.")
        return address


class Password(Text):
    """A password that need only be right."""

    METADATA = {
        "description": "Your current password.",
        "format": "password",
        "example": "9 green horses",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Length(max=LENGTH_MAXIMUM)], **kwargs)


class NewPassword(Password):
    """A password that must be a good one (NIST SP 800-63B-4, section 3.1.1.2)."""

    METADATA = {
        "description": "8 to 128 code points after NFC normalisation; neither your name, nor your "
        "e-mail address, nor a common password.",
        "format": "password",
        "minLength": LENGTH_MINIMUM,
        "example": "7 blue bicycles",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        password = super()._deserialize(value, *args, **kwargs)
        if len(password) < LENGTH_MINIMUM:
            raise refusal("too_short", f"Shorter than minimum length {LENGTH_MINIMUM}.")
        if is_common(password):
            raise refusal("too_common", "This is one of the most common passwords.")
        return password


def ensure_no_name(password: str, username: str, email: str, member: str) -> None:
    """Refuse a password that only repeats what its owner is called."""
    if password.casefold() in {username.casefold(), email.casefold()}:
        raise refusal("same_as_name", "Must not be your name or e-mail address.", member)


class AuthorSchema(BaseSchema):
    """A user in brief, as the author of a post."""

    class Meta:
        model = User
        unknown = EXCLUDE

    id = auto_field(required=True, metadata={"description": "Id of the user.", "example": 7})
    username = auto_field(
        required=True,
        metadata={"description": "Name of the user.", "example": "ann"},
    )


class UserCountsSchema(BaseSchema):
    """How much there is of a user."""

    class Meta:
        model = User
        unknown = EXCLUDE

    posts = auto_field(
        "post_count", required=True, metadata={"description": "Posts, replies included.", "example": 12}
    )
    followers = auto_field(
        "follower_count", required=True, metadata={"description": "Users who follow them.", "example": 3}
    )
    following = auto_field(
        "following_count", required=True, metadata={"description": "Users whom they follow.", "example": 5}
    )


Link = aliased(Follow)


class UserViewerSchema(BaseSchema):
    """What a user and the caller are to each other."""

    class Meta:
        unknown = EXCLUDE

    following = Flag(
        exists().where(Link.follower_id == CALLER_ID, Link.followed_id == User.id),
        metadata={"description": "Whether you follow them.", "example": True},
    )
    followed_by = Flag(
        exists().where(Link.follower_id == User.id, Link.followed_id == CALLER_ID),
        metadata={"description": "Whether they follow you.", "example": False},
    )


class UserSchema(AuthorSchema):
    """A user, as everybody sees them."""

    class Meta(AuthorSchema.Meta):
        pass

    about = auto_field(required=True, metadata=ABOUT)
    created_at = auto_field(
        required=True,
        metadata={"description": "When they registered.", "example": "2026-11-22T09:30:00.000Z"},
    )
    etag = ETag()
    counts = Expandable(
        UserCountsSchema(), metadata={"description": "Only with `expand=counts`; otherwise null."}
    )
    viewer = Expandable(
        UserViewerSchema(),
        metadata={"description": "Only with `expand=viewer`, for who is signed in; otherwise null."},
    )


class AccountSchema(UserSchema):
    """A user, as they see themselves."""

    IS_CONFIDENTIAL = True

    class Meta(AuthorSchema.Meta):
        pass

    email = auto_field(field_class=Email, required=True)
    email_verified_at = auto_field(
        required=True,
        metadata={
            "description": "When you showed that you read mail at this address; null if not yet.",
            "example": "2026-11-22T09:35:00.000Z",
        },
    )


class UserCreateSchema(BaseSchema):
    """What it takes to register."""

    class Meta:
        model = User

    username = auto_field(field_class=Username, required=True)
    email = auto_field(field_class=Email, required=True)
    password = NewPassword(required=True)
    about = auto_field(blank=True, required=False, metadata=ABOUT)

    @validates_schema
    def _check_password(self, fields: Mapping[str, str], **_kwargs: Any) -> None:
        ensure_no_name(fields["password"], fields["username"], fields["email"], "password")


class AccountUpdateSchema(BaseSchema):
    """What to change of your account: only the members that are sent (RFC 7396)."""

    class Meta:
        model = User

    username = auto_field(field_class=Username, required=False)
    email = auto_field(field_class=Email, required=False)
    about = auto_field(blank=True, required=False, metadata=ABOUT)
    current_password = Password(
        metadata={"description": "Your current password; needed to change the e-mail address."}
    )

    @validates_schema
    def _check_email(self, fields: Mapping[str, str], **_kwargs: Any) -> None:
        if "email" in fields and "current_password" not in fields:
            raise refusal("required", "Needed to change the e-mail address.", "current_password")


class AccountDeleteSchema(BaseSchema):
    """What it takes to delete your account."""

    password = Password(required=True)


class PasswordChangeSchema(BaseSchema):
    """What it takes to change your password."""

    current_password = Password(required=True)
    new_password = NewPassword(required=True)


class UserQuery(PageQuery):
    """Which users to list."""

    q = Text(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only users whose names begin with this, whatever its case, sorted by "
            "name. A cursor from a list with `q` does not fit one without.",
            "example": "an",
        },
    )
