"""Sends email in a separate thread, after the response to the request."""

import smtplib
import ssl
import sys
from collections import deque
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from threading import Lock, Thread
from typing import NamedTuple, cast
from urllib.parse import unquote, urlsplit

from flask import Blueprint, Flask, current_app

TIMEOUT_SECONDS = 10
QUEUE_MAXIMUM = 1000
PORTS = {"smtp": 587, "smtps": 465}  # RFC 8314, section 3.


class Email(NamedTuple):
    """A plain-text message to one address."""

    to: str
    subject: str
    text: str


# Returns the email to send, or None if there is none.
Compose = Callable[[], Email | None]


def init_app(app: Flask) -> None:
    """Add the mailer, which uses the settings `MAIL_URL` and `MAIL_FROM`, and the templates."""
    app.extensions["mailer"] = Mailer(app)
    app.register_blueprint(Blueprint("mail", __name__, template_folder="templates"))


def enqueue(compose: Compose) -> None:
    """Send the email that a function returns, without waiting. The function runs in an application context.

    Errors are logged.
    """
    cast("Mailer", current_app.extensions["mailer"]).enqueue(compose)


class Mailer:
    """Composes and sends emails one by one in a thread, which ends when the queue is empty.

    The thread is not a daemon, so that the process sends all queued emails before it exits. While a mail
    server does not respond, the queue grows. When it is full, further emails are dropped.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = Lock()
        self._queue: deque[Compose] = deque()
        self._is_running = False

    def enqueue(self, compose: Compose) -> None:
        """Add an email to the queue, without waiting."""
        with self._lock:
            if len(self._queue) >= QUEUE_MAXIMUM:
                self._app.logger.error("Email dropped: %d others are queued.", QUEUE_MAXIMUM)
                return
            if not self._is_running:
                # Threads inherit `daemon` from the thread that starts them, which may be a daemon in a
                # server.
                Thread(target=self._work, name="mail", daemon=False).start()
                self._is_running = True
            self._queue.append(compose)

    def _work(self) -> None:
        while compose := self._next():
            try:
                with self._app.app_context():
                    email = compose()
                # Sent outside the context, so that no transaction is open.
                if email:
                    self._send(email)
            except Exception as error:  # noqa: BLE001 -- an error must not stop the emails that follow.
                # The text of the error is not logged: it may contain the address.
                code = getattr(error, "smtp_code", "")
                self._app.logger.error("Email not sent: %s %s", type(error).__name__, code)  # noqa: TRY400

    def _next(self) -> Compose | None:
        with self._lock:
            self._is_running = bool(self._queue)
            return self._queue.popleft() if self._queue else None

    def _send(self, email: Email) -> None:
        url = self._app.config["MAIL_URL"]
        if url:
            _deliver(url, email.to, _message(self._app.config["MAIL_FROM"], email))
        else:
            sys.stdout.write(f"\n--- Email to {email.to}: {email.subject}\n\n{email.text}---\n\n")
            sys.stdout.flush()


def _message(sender: str, email: Email) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = email.to
    message["Subject"] = email.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=message["From"].addresses[0].domain)
    message["Auto-Submitted"] = "auto-generated"  # Prevents automatic replies (RFC 3834, section 5).
    message.set_content(email.text)
    return message


def _deliver(mail_url: str, to: str, message: EmailMessage) -> None:
    """Pass a message to the server at a `MAIL_URL`, encrypted if the server supports it (RFC 3207).

    Raises SMTPNotSupportedError rather than send a password unencrypted.
    """
    url = urlsplit(mail_url)
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    tls = ssl.create_default_context()
    is_encrypted = url.scheme == "smtps"
    with (
        smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_SECONDS, context=tls)
        if is_encrypted
        else smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)
    ) as server:
        server.ehlo()
        if not is_encrypted and server.has_extn("starttls"):
            server.starttls(context=tls)
            is_encrypted = True
        if url.username and not is_encrypted:
            raise smtplib.SMTPNotSupportedError
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
        # The recipient is passed explicitly, so that it is not parsed from the header.
        server.send_message(message, to_addrs=[to])
