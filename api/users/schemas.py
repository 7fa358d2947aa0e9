"""Representations of users, by audience (author of a post, public profile, own account), and input."""

import re
from collections.abc import Mapping
from typing import Any

from flask import current_app
from marshmallow import ValidationError, validate, validates, validates_schema
from marshmallow_sqlalchemy import auto_field
from sqlalchemy import exists

from api.auth.authorization import current_user
from api.auth.passwords import LENGTH_MAXIMUM, LENGTH_MINIMUM, is_common
from api.db.folding import folded
from api.models import Follow, User
from api.rendering.pagination import PageQuery
from api.schemas.base import BaseSchema, RepresentationSchema
from api.schemas.context import VIEWER_ID
from api.schemas.fields import (
    ETag,
    Expandable,
    MultilineText,
    Text,
    TrimmedText,
    ViewerFlag,
    has_public_domain,
    normalized_email,
)
from api.schemas.messages import invalid

# Words that occur in URLs, that suggest a role in the service, or that mail servers use (RFC 2142).
RESERVED_WORDS = """
    account auth current doc feed follow follower following like livez login logout mention metrics microblog
    new null openapi openapijson openapiyaml password post problem readyz refresh register replies reply
    search self session setting signin signout signup static status tag thread token undefined user
    abuse admin administrator all anonymous anyone api billing bot channel contact daemon donotreply everybody
    everyone help helpdesk here hostmaster info legal mail mailerdaemon mod moderation moderator news noc
    noreply notification official operator owner postmaster privacy root sales security service staff
    superadmin superuser support sysadmin sysop system team verification verified webmaster
"""
RESERVED_USERNAMES = frozenset(f"{word}{plural}" for word in RESERVED_WORDS.split() for plural in ("", "s"))
TRIMMED = (
    "White space around it is removed: characters with the Unicode property White_Space or "
    "Default_Ignorable_Code_Point."
)
ABOUT = {
    "description": "Self-description: up to 280 code points after NFC normalization; may be empty. Line ends "
    "are LF; CRLF, CR, U+2028 and U+2029 become LF before the text is counted.",
    "example": "Botanist. Rain or shine.",
}


class Username(TrimmedText):
    """A username. Those of existing users need not meet the rules for new ones."""

    METADATA = {
        "description": f"Your present username, in any case, or a new one as at registration. {TRIMMED}",
        "pattern": r"^[A-Za-z][A-Za-z0-9_.\-]*$",
        "minLength": 3,
        "example": "ann",
    }

    def _value_of(self, text: str) -> str:
        if not re.fullmatch(str(Username.METADATA["pattern"]), text):
            raise invalid("wrong_format", "Only A to Z, digits, _ . and -, and a letter first.")
        if len(text) < Username.METADATA["minLength"]:
            raise invalid("too_short", "Shorter than minimum length 3.")
        return text


class NewUsername(Username):
    """A username for registration."""

    METADATA = {
        **Username.METADATA,
        "description": "3 to 64 ASCII letters and digits, beginning with a letter, with single `_`, `.` and "
        "`-` between them. Unique regardless of case. Some words are reserved, with or without punctuation. "
        f"{TRIMMED}",
        "pattern": r"^[A-Za-z]([_.\-]?[A-Za-z0-9])*$",
    }

    def _value_of(self, text: str) -> str:
        name = super()._value_of(text)
        ensure_good_username(name)
        return name


def ensure_good_username(name: str) -> None:
    """Raise ValidationError for a name that is reserved, or has punctuation at its end or in a row."""
    if not re.fullmatch(str(NewUsername.METADATA["pattern"]), name):
        raise invalid("wrong_format", "A letter or digit must follow each _ . and -.")
    if re.sub("[_.-]", "", folded(name)) in RESERVED_USERNAMES:
        raise invalid("reserved", "This name is reserved.")


class Email(TrimmedText):
    """An email address in ASCII; an internationalized domain is converted to its ASCII form."""

    METADATA = {
        "description": "Email address; only you can see it. Unique regardless of case.",
        "format": "email",
        "example": "ann@example.com",
    }

    def _value_of(self, text: str) -> str:
        address = normalized_email(text)
        if address is None:
            raise invalid("wrong_format", "This is not an email address.")
        return address


class NewEmail(Email):
    """An email address for registration."""

    METADATA = {**Email.METADATA, "description": f"{Email.METADATA['description']} {TRIMMED}"}

    def _value_of(self, text: str) -> str:
        email = super()._value_of(text)
        ensure_allowed_domain(email)
        return email


def ensure_allowed_domain(email: str) -> None:
    """Raise ValidationError unless the domain is public or in the setting PRIVATE_EMAIL_DOMAINS."""
    if has_public_domain(email):
        return
    domain = email.rpartition("@")[2]
    private = tuple(f".{name}" for name in current_app.config["PRIVATE_EMAIL_DOMAINS"].split(",") if name)
    if not f".{domain}".endswith(private):
        raise invalid("wrong_format", "Addresses of this domain are not allowed.")


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

    def _value_of(self, text: str) -> str:
        if len(text) < LENGTH_MINIMUM:
            raise invalid("too_short", f"Shorter than minimum length {LENGTH_MINIMUM}.")
        if is_common(text):
            raise invalid("too_common", "This is one of the most common passwords.")
        return text


def ensure_no_name(password: str, username: str, email: str, member: str) -> None:
    """Raise ValidationError for a password that equals the username or the email address."""
    if password.casefold() in {username.casefold(), email.casefold()}:
        raise invalid("same_as_name", "Must not be your username or email address.", member)


class AuthorSchema(RepresentationSchema):
    """The author of a post."""

    class Meta:
        model = User

    id = auto_field(required=True, metadata={"description": "Id of the user.", "example": 7})
    username = auto_field(required=True, metadata={"description": "Username.", "example": "ann"})


class ProfileSchema(AuthorSchema):
    """The members that a public profile and an account have in common."""

    about = auto_field(required=True, metadata=ABOUT)
    created_at = auto_field(
        required=True,
        metadata={"description": "When the user registered.", "example": "2026-11-22T09:30:00.000Z"},
    )


class UserCountsSchema(RepresentationSchema):
    """Counts of a user's posts and follows."""

    class Meta:
        model = User

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


class UserViewerSchema(RepresentationSchema):
    """The relation between a user and the caller."""

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

    etag = ETag()
    counts = COUNTS
    viewer = VIEWER


class AccountSchema(ProfileSchema):
    """Your own account."""

    IS_CONFIDENTIAL = True

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

    username = auto_field(field_class=NewUsername, required=True)
    email = auto_field(field_class=NewEmail, required=True)
    password = NewPassword(required=True)
    about = auto_field(field_class=MultilineText, blank=True, required=False, metadata=ABOUT)

    @validates_schema
    def _check_password(self, fields: Mapping[str, str], **_kwargs: object) -> None:
        ensure_no_name(fields["password"], fields["username"], fields["email"], "password")


class AccountUpdateSchema(BaseSchema):
    """Changes to your account. Members that are not sent stay unchanged (RFC 7396)."""

    class Meta:
        model = User

    username = auto_field(field_class=Username, required=False)
    email = auto_field(
        field_class=Email,
        required=False,
        metadata={
            "description": "Your present email address, in any case, or a new one as at registration. "
            f"{TRIMMED}"
        },
    )
    about = auto_field(field_class=MultilineText, blank=True, required=False, metadata=ABOUT)
    current_password = Password(
        metadata={"description": "Your current password; required to change the email address."}
    )

    @validates("username", "email")
    def _check_new_value(self, value: str, data_key: str) -> None:
        ensure_allowed = ensure_good_username if data_key == "username" else ensure_allowed_domain
        try:
            ensure_allowed(value)
        except ValidationError:
            # The account may be older than the rule.
            if folded(value) != getattr(current_user(), f"folded_{data_key}"):
                raise

    @validates_schema
    def _check_email(self, fields: Mapping[str, str], **_kwargs: object) -> None:
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

    q = TrimmedText(
        validate=validate.Length(max=64),
        metadata={
            "description": "Only users whose usernames begin with this text, regardless of case, sorted by "
            "username. White space around it is ignored. A cursor of a list with `q` is invalid without it.",
            "example": "an",
        },
    )
