"""Mail: sent one after the other, after the answers to the requests that gave rise to it."""

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

from flask import Flask, current_app

TIMEOUT_SECONDS = 10
QUEUE_MAXIMUM = 1000
PORTS = {"smtp": 587, "smtps": 465}  # RFC 8314, section 3.


class Mail(NamedTuple):
    """A message in plain text to one address."""

    to: str
    subject: str
    text: str


# Makes a mail when its turn has come, or finds that there is none to send.
Write = Callable[[], Mail | None]


def init_app(app: Flask) -> None:
    """Make what sends mail by the settings `MAIL_URL` and `MAIL_FROM`."""
    app.extensions["mailer"] = Mailer(app)


def send_later(write: Write) -> None:
    """Send what a function writes, without waiting for it; it is called within the application's context.

    What fails is logged, and nobody is told.
    """
    cast("Mailer", current_app.extensions["mailer"]).add(write)


class Mailer:
    """Writes and sends mail in one thread, which ends when there is none left.

    Being no daemon, it finishes before its process does. While a server hangs, mail queues up; what finds the
    queue full is dropped.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = Lock()
        self._queue: deque[Write] = deque()
        self._is_busy = False

    def add(self, write: Write) -> None:
        """Take what there is to write; it never waits."""
        with self._lock:
            if len(self._queue) >= QUEUE_MAXIMUM:
                self._app.logger.error("mail: dropped, for %d others wait", QUEUE_MAXIMUM)
                return
            if not self._is_busy:
                # A thread is a daemon if that which starts it is one, as those of some servers are.
                Thread(target=self._work, name="mail", daemon=False).start()
                self._is_busy = True
            self._queue.append(write)

    def _work(self) -> None:
        while write := self._next():
            try:
                with self._app.app_context():
                    mail = write()
                # Outside the context, and so of every transaction.
                if mail:
                    self._send(mail)
            except Exception as error:  # noqa: BLE001 -- whatever failed, the next one has its turn.
                # Its text may have the address in it.
                code = getattr(error, "smtp_code", "")
                self._app.logger.error("mail: not sent: %s %s", type(error).__name__, code)  # noqa: TRY400

    def _next(self) -> Write | None:
        with self._lock:
            self._is_busy = bool(self._queue)
            return self._queue.popleft() if self._queue else None

    def _send(self, mail: Mail) -> None:
        url = self._app.config["MAIL_URL"]
        if url:
            _deliver(url, mail.to, _message(self._app.config["MAIL_FROM"], mail))
        else:
            sys.stdout.write(f"\n--- Mail to {mail.to}: {mail.subject}\n\n{mail.text}---\n\n")
            sys.stdout.flush()


def _message(sender: str, mail: Mail) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=message["From"].addresses[0].domain)
    message["Auto-Submitted"] = "auto-generated"  # Asks robots not to answer (RFC 3834, section 5).
    message.set_content(mail.text)
    return message


def _deliver(address: str, to: str, message: EmailMessage) -> None:
    """Hand a message to the server at a `MAIL_URL`, encrypted if the server can do that (RFC 3207).

    A password is never sent in clear.
    """
    url = urlsplit(address)
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
        # To the address as it is, not as a parser of headers would have it.
        server.send_message(message, to_addrs=[to])
