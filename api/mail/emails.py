"""Emails to users, from the templates."""

from functools import partial

from flask import Response, after_this_request, current_app, render_template
from sqlalchemy import ColumnElement, select

from api.db import db
from api.mail.kinds import EmailKind
from api.mail.sending import Email, enqueue
from api.mail.tokens import TOKEN_LIFETIME, issue_token
from api.models import User


def email_after_response(kind: EmailKind, user: ColumnElement[bool], *, to: str | None = None) -> None:
    """Send an email to the user that matches a condition, after the response to this request.

    It is sent to the user's address, or to the one in `to`. The user is also looked up after the response, so
    that neither the response nor its timing reveals whether an account exists.
    """

    @after_this_request
    def enqueue_email(response: Response) -> Response:
        enqueue(partial(_compose, kind, user, to))
        return response


def _compose(kind: EmailKind, condition: ColumnElement[bool], to: str | None) -> Email | None:
    """Return the email with a new token; None if no user matches, or `EMAIL_INTERVAL` has not passed."""
    user = db.session.scalar(select(User).where(condition).with_for_update(key_share=True))
    if user is None:
        return None
    to = to or user.email
    token = issue_token(kind, user, to)
    if token is None:
        return None
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
