"""An SMTP server that stores what it receives."""

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from flask import Flask
from sqlalchemy import select

from api.db import db
from api.models import EmailToken, WaitingEmail
from tests.support.server import free_port

TOKEN = re.compile(r"[\w-]{43}")
LOGIN = ("post@example.com", "p@ss/word#1")


class Received(NamedTuple):
    """A received message."""

    to: list[str]
    message: EmailMessage
    is_encrypted: bool
    is_signed_in: bool

    @property
    def subject(self) -> str:
        """The subject, decoded."""
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        """The body, decoded."""
        return str(self.message.get_content()).replace("\r\n", "\n")


class Mailbox:
    """The received messages, and the hooks that aiosmtpd calls."""

    def __init__(self, app: Flask | None, port: int, delay_seconds: float) -> None:
        self.url = f"smtp://127.0.0.1:{port}"
        self._delay_seconds = delay_seconds
        self.empty(app)

    def empty(self, app: Flask | None) -> None:
        """Remove all messages, and receive those of an application from now on."""
        # Replies to the next messages: to RCPT or, if they begin with "DATA ", to DATA.
        self.replies: list[str] = []
        # Addresses to which mail is being sent, or was.
        self.began: list[str] = []
        self._app = app
        self._received: list[Received] = []

    def received(self) -> list[Received]:
        """Return the messages, after the application has sent those that are due."""
        if self._app:
            send_due(self._app)
        return list(self._received)

    def subjects(self, to: str) -> list[str]:
        """Return the subjects of the messages to an address."""
        return [received.subject for received in self.received() if received.to == [to]]

    def token(self, subject: str) -> str:
        """Return the token in the last message with a subject."""
        texts = [received.text for received in self.received() if received.subject == subject]
        (token,) = TOKEN.findall(texts[-1])
        return str(token)

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name.
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept an address, unless `replies` refuse it."""
        self.began.append(address)
        await asyncio.sleep(self._delay_seconds)
        if self.replies and not self.replies[0].startswith("DATA "):
            return self.replies.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 -- aiosmtpd's name.
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        """Store a message, unless `replies` refuse it."""
        if self.replies:
            return self.replies.pop(0).removeprefix("DATA ")
        message: Any = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        is_encrypted = session.ssl is not None or isinstance(
            server.transport.get_extra_info("ssl_object"), ssl.SSLObject
        )
        self._received.append(Received(envelope.rcpt_tos, message, is_encrypted, bool(session.authenticated)))
        return "250 OK"


def send_due(app: Flask) -> None:
    """Send the emails that are due, as the mailer's thread does, which tests do not start."""
    app.extensions["mailer"].send_due()


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
    """Accept the password in `LOGIN`."""
    assert isinstance(login, LoginPassword)
    is_right = (login.login.decode(), login.password.decode()) == LOGIN
    return AuthResult(success=is_right, handled=False)


@contextmanager
def running_mailbox(
    app: Flask | None = None, *, port: int | None = None, delay_seconds: float = 0, **options: Any
) -> Iterator[Mailbox]:
    """Run a server, which receives what an application in this process or another one sends.

    `options` are those of aiosmtpd's Controller.
    """
    port = port or free_port()
    mailbox = Mailbox(app, port, delay_seconds)
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def let_pass(app: Flask, time: timedelta) -> None:
    """Send the emails that are due, and make all email tokens and waiting emails older."""
    send_due(app)
    with app.app_context():
        for email_token in db.session.scalars(select(EmailToken)):
            email_token.created_at -= time
        for waiting in db.session.scalars(select(WaitingEmail)):
            waiting.created_at -= time
            waiting.due_at -= time
        db.session.commit()
