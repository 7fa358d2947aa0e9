"""Passes emails to the mail server or, without one, to standard output."""

import smtplib
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

TIMEOUT_SECONDS = 10
PORTS = {"smtp": 587, "smtps": 465}  # RFC 8314, section 3.
CLOSING = 421  # The server closes the connection (RFC 5321, section 3.8).


class Email(NamedTuple):
    """A plain-text message to one address."""

    to: str
    subject: str
    text: str


class Refusal(Exception):  # noqa: N818 -- RFC 5321's own word.
    """The mail server refused one email: for good (5xx), or for now (4xx)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        self.is_permanent = code >= 500


@contextmanager
def connected(mail_url: str, sender: str) -> Iterator[Callable[[Email], None]]:
    """Connect to the server at a `MAIL_URL`, and yield a function that passes it an email.

    The function raises Refusal. All other errors concern the server or its configuration: they do not depend
    on the email.
    """
    if not mail_url:
        yield _print
        return
    with _server(mail_url) as server:

        def deliver(email: Email) -> None:
            try:
                # The recipient is passed explicitly, so that it is not parsed from the header.
                server.send_message(_message(sender, email), to_addrs=[email.to])
            except smtplib.SMTPRecipientsRefused as error:
                [(code, _)] = error.recipients.values()
                if code == CLOSING:
                    raise
                raise Refusal(code) from None
            except smtplib.SMTPDataError as error:
                if error.smtp_code == CLOSING:
                    raise
                raise Refusal(error.smtp_code) from None

        yield deliver


@contextmanager
def _server(mail_url: str) -> Iterator[smtplib.SMTP]:
    """Connect to a server, encrypted if the server supports it (RFC 3207), and sign in.

    Raises SMTPNotSupportedError rather than send a password unencrypted.
    """
    url = urlsplit(mail_url)
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    is_encrypted = url.scheme == "smtps"
    with (
        smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context())
        if is_encrypted
        else smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)
    ) as server:
        server.ehlo()
        if not is_encrypted and server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            is_encrypted = True
        if url.username and not is_encrypted:
            raise smtplib.SMTPNotSupportedError
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
        yield server


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


def _print(email: Email) -> None:
    sys.stdout.write(f"\n--- Email to {email.to}: {email.subject}\n\n{email.text}---\n\n")
    sys.stdout.flush()
