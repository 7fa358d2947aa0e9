"""An SMTP server that stores what it receives."""

import asyncio
import re
import ssl
import threading
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
from api.models import EmailToken
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

    def __init__(self, port: int, delay_seconds: float) -> None:
        self.url = f"smtp://127.0.0.1:{port}"
        self._delay_seconds = delay_seconds
        self._received: list[Received] = []

    def received(self) -> list[Received]:
        """Return the messages, after all queued ones have arrived."""
        wait_for_mail()
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
        """Refuse mail to one address."""
        await asyncio.sleep(self._delay_seconds)
        if address.startswith("refused"):
            return f"550 {address} is unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 -- aiosmtpd's name.
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        """Store a message."""
        message: Any = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        is_encrypted = session.ssl is not None or isinstance(
            server.transport.get_extra_info("ssl_object"), ssl.SSLObject
        )
        self._received.append(Received(envelope.rcpt_tos, message, is_encrypted, bool(session.authenticated)))
        return "250 OK"


def wait_for_mail() -> None:
    """Wait until the queue of the mailer is empty."""
    for thread in threading.enumerate():
        if thread.name == "mail":
            thread.join()


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
    """Accept the password in `LOGIN`."""
    assert isinstance(login, LoginPassword)
    is_right = (login.login.decode(), login.password.decode()) == LOGIN
    return AuthResult(success=is_right, handled=False)


@contextmanager
def running_mailbox(*, delay_seconds: float = 0, **options: Any) -> Iterator[Mailbox]:
    """Run a server on a free port; `options` are those of aiosmtpd's Controller."""
    port = free_port()
    mailbox = Mailbox(port, delay_seconds)
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def let_pass(app: Flask, time: timedelta) -> None:
    """Make all email tokens older."""
    wait_for_mail()
    with app.app_context():
        for email_token in db.session.scalars(select(EmailToken)):
            email_token.created_at -= time
        db.session.commit()
