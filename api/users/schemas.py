"""Representations of users, by audience (author of a post, public profile, own account), and input."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, validate, validates_schema
from marshmallow_sqlalchemy import auto_field
from sqlalchemy import exists

from api.auth.passwords import LENGTH_MAXIMUM, LENGTH_MINIMUM, is_common
from api.models import Follow, User
from api.rendering import PageQuery
from api.schemas import (
    VIEWER_ID,
    BaseSchema,
    ETag,
    Expandable,
    MultilineText,
    Text,
    ViewerFlag,
    invalid,
)
from api.schemas.fields import normalized_email

# Words that occur in URLs, and those that suggest a role in the service.
RESERVED_USERNAMES = frozenset(
    "account admin administrator api auth current docs everybody everyone feed follow followers "
    "following help like likes livez login logout mention mentions metrics microblog moderator new "
    "null openapi openapi.json openapi.yaml password post posts problems readyz refresh register "
    "replies reply root search security self session sessions settings signin signout signup staff "
    "static status support system tag tags thread token tokens undefined user users "
    "webmaster".split()
)
ABOUT = {
    "description": "Self-description: up to 280 code points after NFC normalization; may be empty. Line ends "
    "are LF; CRLF, CR, U+2028 and U+2029 become LF before the text is counted.",
    "example": "Botanist. Rain or shine.",
}


class Username(Text):
    """A username, for registration or renaming."""

    METADATA = {
        "description": "3 to 64 ASCII letters, digits, `_`, `.` and `-`, beginning with a letter. Unique "
        "regardless of case. Some words are reserved.",
        "pattern": "^[A-Za-z][A-Za-z0-9_.-]*$",
        "minLength": 3,
        "example": "ann",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        name = super()._deserialize(value, *args, **kwargs)
        if not re.fullmatch(str(self.METADATA["pattern"]), name):
            raise invalid("wrong_format", "Only A to Z, digits, _ . and -, and a letter first.")
        if len(name) < self.METADATA["minLength"]:
            raise invalid("too_short", "Shorter than minimum length 3.")
        if name.lower() in RESERVED_USERNAMES:
            raise invalid("reserved", "This name is reserved.")
        return name


class Email(Text):
    """An email address in ASCII; an internationalized domain is converted to its ASCII form."""

    METADATA = {
        "description": "Email address; only you can see it. Unique regardless of case.",
        "format": "email",
        "example": "ann@example.com",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        address = normalized_email(text)
        if address is None:
            raise invalid("wrong_format", "This is not an email address.")
        return address


class Password(Text):
    """The current password, which is compared with the stored one."""

    METADATA = {
        "description": "Your current password.",
        "format": "password",
        "example": "9 green horses",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Length(max=LENGTH_MAXIMUM)], **kwargs)


class NewPassword(Password):
    """A new password, which must meet the rules of NIST SP 800-63B-4, section 3.1.1.2."""

    METADATA = {
        "description": "8 to 128 code points after NFC normalization; not your username, not your email "
        "address, not a common password.",
        "format": "password",
        "minLength": LENGTH_MINIMUM,
        "example": "7 blue bicycles",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        password = super()._deserialize(value, *args, **kwargs)
        if len(password) < LENGTH_MINIMUM:
            raise invalid("too_short", f"Shorter than minimum length {LENGTH_MINIMUM}.")
        if is_common(password):
            raise invalid("too_common", "This is one of the most common passwords.")
        return password


def ensure_no_name(password: str, username: str, email: str, member: str) -> None:
    """Raise ValidationError for a password that equals the username or the email address."""
    if password.casefold() in {username.casefold(), email.casefold()}:
        raise invalid("same_as_name", "Must not be your username or email address.", member)


class AuthorSchema(BaseSchema):
    """The author of a post."""

    class Meta:
        model = User
        unknown = EXCLUDE

    id = auto_field(required=True, metadata={"description": "Id of the user.", "example": 7})
    username = auto_field(required=True, metadata={"description": "Username.", "example": "ann"})


class ProfileSchema(AuthorSchema):
    """The members that a public profile and an account have in common."""

    class Meta(AuthorSchema.Meta):
        pass

    about = auto_field(required=True, metadata=ABOUT)
    created_at = auto_field(
        required=True,
        metadata={"description": "When the user registered.", "example": "2026-11-22T09:30:00.000Z"},
    )


class UserCountsSchema(BaseSchema):
    """Counts of a user's posts and follows."""

    class Meta:
        model = User
        unknown = EXCLUDE

    posts = auto_field(
        "post_count",
        required=True,
        metadata={"description": "Number of posts, replies included.", "example": 12},
    )
    followers = auto_field(
        "follower_count", required=True, metadata={"description": "Number of followers.", "example": 3}
    )
    following = auto_field(
        "following_count",
        required=True,
        metadata={"description": "Number of users that this user follows.", "example": 5},
    )


class UserViewerSchema(BaseSchema):
    """The relation between a user and the caller."""

    class Meta:
        unknown = EXCLUDE

    following = ViewerFlag(
        exists().where(Follow.follower_id == VIEWER_ID, Follow.followed_id == User.id).correlate(User),
        metadata={"description": "Whether you follow this user.", "example": True},
    )
    followed_by = ViewerFlag(
        exists().where(Follow.follower_id == User.id, Follow.followed_id == VIEWER_ID).correlate(User),
        metadata={"description": "Whether this user follows you.", "example": False},
    )


COUNTS = Expandable(UserCountsSchema(), metadata={"description": "Null without `expand=counts`."})
VIEWER = Expandable(
    UserViewerSchema(),
    metadata={"description": "Null without `expand=viewer`, or if you are not signed in."},
)


class UserSchema(ProfileSchema):
    """A user's public profile."""

    class Meta(AuthorSchema.Meta):
        pass

    etag = ETag()
    counts = COUNTS
    viewer = VIEWER


class AccountSchema(ProfileSchema):
    """Your own account."""

    IS_CONFIDENTIAL = True

    class Meta(AuthorSchema.Meta):
        pass

    email = auto_field(field_class=Email, required=True)
    email_verified_at = auto_field(
        required=True,
        metadata={
            "description": "When the email address was verified; null if it is not.",
            "example": "2026-11-22T09:35:00.000Z",
        },
    )
    etag = ETag()
    counts = COUNTS
    viewer = VIEWER


class UserCreateSchema(BaseSchema):
    """The input for registration."""

    class Meta:
        model = User

    username = auto_field(field_class=Username, required=True)
    email = auto_field(field_class=Email, required=True)
    password = NewPassword(required=True)
    about = auto_field(field_class=MultilineText, blank=True, required=False, metadata=ABOUT)

    @validates_schema
    def _check_password(self, fields: Mapping[str, str], **_kwargs: Any) -> None:
        ensure_no_name(fields["password"], fields["username"], fields["email"], "password")


class AccountUpdateSchema(BaseSchema):
    """Changes to your account. Members that are not sent stay unchanged (RFC 7396)."""

    class Meta:
        model = User

    username = auto_field(field_class=Username, required=False)
    email = auto_field(field_class=Email, required=False)
    about = auto_field(field_class=MultilineText, blank=True, required=False, metadata=ABOUT)
    current_password = Password(
        metadata={"description": "Your current password; required to change the email address."}
    )

    @validates_schema
    def _check_email(self, fields: Mapping[str, str], **_kwargs: Any) -> None:
        if "email" in fields and "current_password" not in fields:
            raise invalid("required", "Required to change the email address.", "current_password")


class AccountDeleteSchema(BaseSchema):
    """The input for deleting your account."""

    password = Password(required=True)


class PasswordChangeSchema(BaseSchema):
    """The input for changing your password."""

    current_password = Password(required=True)
    new_password = NewPassword(required=True)


class UserQuery(PageQuery):
    """The query parameters of the list of users."""

    q = Text(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only users whose usernames begin with this text, regardless of case, sorted by "
            "username. A cursor of a list with `q` is invalid without it.",
            "example": "an",
        },
    )
