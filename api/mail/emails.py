"""Emails to users: stored together with their cause, and composed from the templates when they are sent."""

from flask import Response, after_this_request, current_app, has_request_context, render_template
from sqlalchemy import ScalarSelect, delete, select

from api.db import FOR_NO_KEY_UPDATE, db, insert_or_update, utc_now
from api.db.folding import folded
from api.mail.kinds import EMAIL_VERIFICATION, KINDS, EmailKind
from api.mail.smtp import Email
from api.mail.tokens import EMAIL_INTERVAL, TOKEN_LIFETIME, issue_token, last_sent_at
from api.metrics import count
from api.models import User, WaitingEmail


def send_email(kind: EmailKind, user: User, *, to: str | None = None) -> None:
    """Send an email to a user's address, or to the one in `to`, after the transaction is committed.

    The caller commits.
    """
    _store(kind, to or user.email, user.id)


def send_email_to_account(kind: EmailKind, email: str) -> None:
    """Send an email to the user with an address, if there is one, as `send_email` does.

    An address without an account is stored too, and deleted in the same transaction. Neither the statements
    nor the cost of the commit reveal whether an account exists.
    """
    email = folded(email)
    # The lock waits for a request that deletes the account; then there is none.
    account = select(User.id).where(User.folded_email == email).with_for_update(read=True, key_share=True)
    _store(kind, email, account.scalar_subquery())
    db.session.execute(
        delete(WaitingEmail).where(
            WaitingEmail.email == email, WaitingEmail.kind == kind.name, WaitingEmail.user_id.is_(None)
        )
    )


def _store(kind: EmailKind, email: str, user_id: int | ScalarSelect[int]) -> None:
    """Store an email. If it is waiting already, only its time is changed, so that no request adds a row."""
    insert_or_update(WaitingEmail, ["created_at", "user_id"], email=email, kind=kind.name, user_id=user_id)
    if not has_request_context():
        return  # A process of the service finds the email within `POLL_SECONDS`.

    @after_this_request
    def wake_mailer(response: Response) -> Response:
        current_app.extensions["mailer"].wake()
        return response


def compose(waiting: WaitingEmail) -> Email | None:
    """Return a waiting email, with a new token; None if it is not to be sent any more.

    Commits if it returns one.
    """
    kind = KINDS[waiting.kind]
    if utc_now() > waiting.created_at + kind.patience:
        current_app.logger.error("Email given up: %s, after %s", kind.name, kind.patience)
        count("emails", kind.name, "given_up")
        return None
    user = db.session.get(User, waiting.user_id, **FOR_NO_KEY_UPDATE)
    # The request that held the lock before may have deleted the row.
    is_waiting = db.session.get(WaitingEmail, (waiting.email, waiting.kind))
    if not user or not is_waiting or not _is_wanted(kind, user, waiting):
        return None
    # Tokens are sent only to the current address. A change of it deletes the emails for the old one.
    to = user.email if kind.endpoint else waiting.email
    token = issue_token(kind, user, to)
    db.session.commit()
    page = current_app.config.get(kind.page_setting)
    rendered = render_template(
        f"{kind.name}.txt",
        username=user.username,
        token=token,
        minutes=int(TOKEN_LIFETIME.total_seconds() / 60),
        page=page.replace("{token}", token) if page else None,
        path=current_app.url_map.bind("").build(kind.endpoint) if kind.endpoint else None,
    )
    subject, _, text = rendered.partition("\n\n")
    return Email(to, subject, f"{text}\n")


def _is_wanted(kind: EmailKind, user: User, waiting: WaitingEmail) -> bool:
    """Whether an email still has a purpose, and the address did not receive another one shortly before."""
    if kind is EMAIL_VERIFICATION and user.email_verified_at:
        return False
    last = last_sent_at(kind, waiting.email)
    # After the first attempt, the last email is this one.
    return waiting.attempts > 1 or last is None or last <= waiting.created_at - EMAIL_INTERVAL
