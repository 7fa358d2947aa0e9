"""Passing emails to SMTP servers with and without TLS, or to standard output."""

import socket
import ssl
from pathlib import Path
from smtplib import SMTPAuthenticationError, SMTPNotSupportedError, SMTPServerDisconnected
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from flask import Flask

from tests.password_resets.test_password_resets import SUBJECT, request_reset
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.mailbox import LOGIN, TOKEN, Mailbox, authenticate, running_mailbox, send_due

Certificate = tuple[ssl.SSLContext, Path]
USER, PASSWORD = (quote(word, safe="") for word in LOGIN)
NEEDS_LOGIN: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1, and the file of the authority that issued it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return context, file


@pytest.fixture
def tls(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server certificate that the mailer trusts."""
    context, file = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return context


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


@pytest.fixture
def use(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets the URL of the mail server."""

    def set_url(url: str) -> None:
        monkeypatch.setitem(app.config, "MAIL_URL", url)

    return set_url


def with_login(url: str, password: str = PASSWORD) -> str:
    """Return the URL of a server with credentials."""
    return url.replace("//", f"//{USER}:{password}@")


class TestSmtp:
    def test_sends_unencrypted_if_the_server_has_no_tls(
        self, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        request_reset(client)

        (received,) = mailbox.received()
        assert (received.subject, received.is_encrypted, received.is_signed_in) == (SUBJECT, False, False)

    def test_encrypts_if_the_server_supports_starttls(
        self, app: Flask, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(app, tls_context=tls) as mailbox:
            use(mailbox.url)
            request_reset(client)

            (received,) = mailbox.received()
        assert (received.is_encrypted, received.is_signed_in) == (True, False)

    def test_signs_in_after_encryption(
        self, app: Flask, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(app, tls_context=tls, require_starttls=True, **NEEDS_LOGIN) as mailbox:
            use(with_login(mailbox.url))
            request_reset(client)

            (received,) = mailbox.received()
        assert (received.is_encrypted, received.is_signed_in) == (True, True)

    def test_encrypts_from_the_start_with_smtps(
        self, app: Flask, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(app, ssl_context=tls) as mailbox:
            use(mailbox.url.replace("smtp", "smtps"))
            request_reset(client)

            (received,) = mailbox.received()
        assert received.is_encrypted

    @pytest.mark.parametrize("scheme", ["smtp", "smtps"])
    def test_sends_nothing_to_a_server_with_an_untrusted_certificate(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        certificate: Certificate,
        use: Any,
        scheme: str,
    ) -> None:
        options: dict[str, Any] = {{"smtp": "tls_context", "smtps": "ssl_context"}[scheme]: certificate[0]}
        with running_mailbox(**options) as mailbox:
            use(mailbox.url.replace("smtp", scheme))
            request_reset(client)

            with pytest.raises(ssl.SSLCertVerificationError):
                send_due(app)

    def test_sends_no_password_unencrypted(
        self, app: Flask, client: ContractClient, ann: Account, use: Any
    ) -> None:
        with running_mailbox(auth_require_tls=False, authenticator=authenticate) as mailbox:
            use(with_login(mailbox.url))
            request_reset(client)

            with pytest.raises(SMTPNotSupportedError):
                send_due(app)

    def test_refuses_a_wrong_password(
        self, app: Flask, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(tls_context=tls, require_starttls=True, **NEEDS_LOGIN) as mailbox:
            use(with_login(mailbox.url, "wrong"))
            request_reset(client)

            with pytest.raises(SMTPAuthenticationError):
                send_due(app)

    def test_times_out(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        use: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("api.mail.smtp.TIMEOUT_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as unresponsive:
            use(f"smtp://127.0.0.1:{unresponsive.getsockname()[1]}")

            response = request_reset(client)

            with pytest.raises(SMTPServerDisconnected):
                send_due(app)
        assert response.status_code == 202


class TestConsole:
    def test_prints_the_email(
        self, app: Flask, client: ContractClient, ann: Account, capsys: pytest.CaptureFixture[str]
    ) -> None:
        request_reset(client)
        send_due(app)

        block = capsys.readouterr().out.partition("\n--- Email to ann@example.com: ")[2].partition("---\n")[0]
        assert block.startswith(f"{SUBJECT}\n\nHello ann,\n\nWe received a request to reset")
        (token,) = TOKEN.findall(block)
        sent = {"token": token, "new_password": "7 blue bicycles"}
        assert client.post("/password-resets/redeem", json=sent).status_code == 204
