"""What it takes to get a new password."""

from marshmallow_sqlalchemy import auto_field

from api.letters import MailedToken
from api.models import User
from api.schema import BaseSchema
from api.users.schemas import Email, NewPassword


class PasswordResetCreateSchema(BaseSchema):
    """Whose password is forgotten."""

    class Meta:
        model = User

    email = auto_field(
        field_class=Email,
        required=True,
        metadata={"description": "The e-mail address of the account, in any case."},
    )


class PasswordResetRedeemSchema(BaseSchema):
    """What it takes to replace a password that is forgotten."""

    token = MailedToken(required=True)
    new_password = NewPassword(required=True)
