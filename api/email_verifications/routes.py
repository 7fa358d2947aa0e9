"""Email verifications: proof that a user receives email at the account's address."""

from flask import Blueprint

from api.auth.authentication import token_required
from api.auth.authorization import locked_user
from api.contract.endpoint import accepts, fails, returns
from api.db import db, utc_now
from api.email_verifications.schemas import EmailVerificationRedeemSchema
from api.mail.emails import send_email
from api.mail.kinds import EMAIL_VERIFICATION
from api.mail.tokens import redeem_token
from api.rate_limiting.policies import rate_limited

email_verifications = Blueprint("email_verifications", __name__)


@email_verifications.post("/email-verifications")
@token_required
@returns(status=202)
def create_email_verification() -> None:
    """Request an email that verifies your address.

    If your address is not verified yet, an email with a token is sent there. The token works once, within 30
    minutes, at `POST /email-verifications/redeem`, and replaces earlier ones. Registering and changing the
    address send this email too. An address receives at most one such email a minute.
    """
    send_email(EMAIL_VERIFICATION, locked_user())
    db.session.commit()


@email_verifications.post("/email-verifications/redeem")
@rate_limited("sign_in")
@accepts(EmailVerificationRedeemSchema())
@returns()
@fails(403)
def redeem_email_verification(fields: dict[str, str]) -> None:
    """Verify an email address with the token in the email.

    The token identifies the account, so the request needs no access token.
    """
    redeem_token(EMAIL_VERIFICATION, fields["token"]).email_verified_at = utc_now()
    db.session.commit()
