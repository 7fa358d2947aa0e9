"""What it takes to verify an e-mail address."""

from api.letters import MailedToken
from api.schema import BaseSchema


class EmailVerificationRedeemSchema(BaseSchema):
    """What only who reads the mail knows."""

    token = MailedToken(required=True)
