"""Password resets: a new password for whoever reads the account's mail."""

from flask import Blueprint
from sqlalchemy import delete

from api.auth import passwords
from api.database import db
from api.endpoint import accepts, fails, returns
from api.letters import PASSWORD_RESET, ensure_token, redeem, write_later
from api.messages import current_request
from api.models import Session, User
from api.password_resets.schemas import PasswordResetCreateSchema, PasswordResetRedeemSchema
from api.users.schemas import ensure_no_name

password_resets = Blueprint("password_resets", __name__)


@password_resets.post("/password-resets")
@accepts(PasswordResetCreateSchema())
@returns(status=202)
def create_password_reset(fields: dict[str, str]) -> None:
    """Ask for a new password.

    If there is an account with this e-mail address, it is sent a token that works once, within 30 minutes,
    at `POST /password-resets/redeem`; one that was sent before works no longer. An address is written to
    at most once a minute. The answer is the same in every case.
    """
    write_later(PASSWORD_RESET, User.folded_email == fields["email"].lower())


@password_resets.post("/password-resets/redeem")
@accepts(PasswordResetRedeemSchema())
@returns()
@fails(403)
def redeem_password_reset(fields: dict[str, str]) -> None:
    """Choose a new password.

    Takes the token that was mailed, and ends all sessions of the account. Whoever was told that there were
    too many wrong passwords can sign in now. A password that is refused leaves the token as it is.
    """
    token, new_password = fields["token"], fields["new_password"]
    ensure_token(PASSWORD_RESET, token)
    # No transaction is open while the password is hashed.
    db.session.commit()
    password_hash = passwords().hash(new_password)
    user = redeem(PASSWORD_RESET, token)
    ensure_no_name(new_password, user.username, user.email, "new_password")
    user.password_hash = password_hash
    db.session.execute(delete(Session).where(Session.user_id == user.id))
    db.session.commit()
    current_request().recovered = user  # Their failures to sign in are forgotten (`api.rate_limits`).
