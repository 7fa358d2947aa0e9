"""The kinds of email that the service sends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EmailKind:
    """A kind of email. Its subject and text are in `templates/<name>.txt`.

    If it contains a token, `endpoint` is the endpoint that redeems it, and `page_setting` the setting for a
    page of the front end.
    """

    name: str
    endpoint: str = ""
    page_setting: str = ""


PASSWORD_RESET = EmailKind("password_reset", "password_resets.redeem_password_reset", "PASSWORD_RESET_URL")
EMAIL_VERIFICATION = EmailKind(
    "email_verification", "email_verifications.redeem_email_verification", "EMAIL_VERIFICATION_URL"
)
EMAIL_CHANGE = EmailKind("email_change")
