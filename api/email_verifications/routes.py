"""E-mail verifications: show that you read what is sent to the address of your account."""

from flask import Blueprint

from api.auth import current_user_id, token_required
from api.database import db, utc_now
from api.email_verifications.schemas import EmailVerificationRedeemSchema
from api.endpoint import accepts, fails, returns
from api.letters import EMAIL_VERIFICATION, redeem, write_later
from api.models import User

email_verifications = Blueprint("email_verifications", __name__)


@email_verifications.post("/email-verifications")
@token_required
@returns(status=202)
def create_email_verification() -> None:
    """Ask for the verification of your e-mail address.

    If it is not verified yet, it is sent a token that works once, within 30 minutes, at
    `POST /email-verifications/redeem`; one that was sent before works no longer. That is done anyway when
    you register and when you change the address. An address is written to at most once a minute.
    """
    write_later(EMAIL_VERIFICATION, (User.id == current_user_id()) & User.email_verified_at.is_(None))


@email_verifications.post("/email-verifications/redeem")
@accepts(EmailVerificationRedeemSchema())
@returns()
@fails(403)
def redeem_email_verification(fields: dict[str, str]) -> None:
    """Verify an e-mail address.

    Takes the token that was mailed; nobody needs to be signed in for that.
    """
    redeem(EMAIL_VERIFICATION, fields["token"]).email_verified_at = utc_now()
    db.session.commit()
