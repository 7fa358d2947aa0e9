"""The kinds of email that the service sends."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class EmailKind:
    """A kind of email. Its subject and text are in `templates/<name>.txt`.

    If the mail server does not accept an email within `patience` after its cause, it is given up. If it
    contains a token, `endpoint` is the endpoint that redeems it, and `page_setting` the setting for a page of
    the front end.
    """

    name: str
    patience: timedelta
    endpoint: str = ""
    page_setting: str = ""


PASSWORD_RESET = EmailKind(
    "password_reset", timedelta(minutes=30), "password_resets.redeem_password_reset", "PASSWORD_RESET_URL"
)
EMAIL_VERIFICATION = EmailKind(
    "email_verification",
    timedelta(days=2),
    "email_verifications.redeem_email_verification",
    "EMAIL_VERIFICATION_URL",
)
EMAIL_CHANGE = EmailKind("email_change", timedelta(days=2))
KINDS = {kind.name: kind for kind in (PASSWORD_RESET, EMAIL_VERIFICATION, EMAIL_CHANGE)}
