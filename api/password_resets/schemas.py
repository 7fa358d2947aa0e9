"""Requests that reset a password."""

from marshmallow_sqlalchemy import auto_field

from api.mail.tokens import EmailTokenField
from api.models import User
from api.schemas.base import BaseSchema
from api.users.schemas import TRIMMED, Email, NewPassword


class PasswordResetCreateSchema(BaseSchema):
    """Request for an email with a token."""

    class Meta:
        model = User

    email = auto_field(
        field_class=Email,
        required=True,
        metadata={"description": f"The email address of the account, in any case. {TRIMMED}"},
    )


class PasswordResetRedeemSchema(BaseSchema):
    """Token from the email, and the new password."""

    token = EmailTokenField(required=True)
    new_password = NewPassword(required=True)
