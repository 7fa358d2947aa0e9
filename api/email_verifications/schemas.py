"""The request that verifies an email address."""

from api.mail.tokens import EmailTokenField
from api.schemas.base import BaseSchema


class EmailVerificationRedeemSchema(BaseSchema):
    """Token from the email."""

    token = EmailTokenField(required=True)
