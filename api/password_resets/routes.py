"""Password resets: a new password for the user who receives the account's email."""

from flask import Blueprint

from api.auth.authentication import passwords
from api.contract.endpoint import accepts, fails, returns
from api.db import db
from api.mail.emails import send_email_to_account
from api.mail.kinds import PASSWORD_RESET
from api.mail.tokens import ensure_token, redeem_token
from api.password_resets.schemas import PasswordResetCreateSchema, PasswordResetRedeemSchema
from api.rate_limiting.hooks import reset_failures
from api.rate_limiting.policies import rate_limited
from api.users.accounts import end_sessions
from api.users.schemas import ensure_no_name

password_resets = Blueprint("password_resets", __name__)


@password_resets.post("/password-resets")
@rate_limited("sign_in")
@accepts(PasswordResetCreateSchema())
@returns(status=202)
def create_password_reset(fields: dict[str, str]) -> None:
    """Request a password reset.

    If an account has this email address, an email with a token is sent there. The token works once, within 30
    minutes, at `POST /password-resets/redeem`, and replaces earlier ones. An address receives at most one
    such email a minute. The response is the same in every case.
    """
    send_email_to_account(PASSWORD_RESET, fields["email"])
    db.session.commit()


@password_resets.post("/password-resets/redeem")
@rate_limited("sign_in")
@accepts(PasswordResetRedeemSchema())
@returns()
@fails(403)
def redeem_password_reset(fields: dict[str, str]) -> None:
    """Choose a new password with the token in the email.

    Ends all sessions of the account, and resets its counts of wrong passwords, so that the user can sign in
    even if the account had too many. If the password is refused, the token stays valid.
    """
    token, new_password = fields["token"], fields["new_password"]
    ensure_token(PASSWORD_RESET, token)
    db.session.commit()  # No transaction is open while the password is hashed.
    password_hash = passwords().hash(new_password)
    user = redeem_token(PASSWORD_RESET, token)
    ensure_no_name(new_password, user.username, user.email, "new_password")
    user.password_hash = password_hash
    end_sessions(user)
    db.session.commit()
    reset_failures(user)
