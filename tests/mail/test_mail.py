"""Sending email: to SMTP servers with and without TLS, or to standard output; errors are logged."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import trustme
from flask import Flask

from api.app import API_PREFIX
from api.mail.sending import enqueue
from tests.password_resets.test_password_resets import SUBJECT, request_reset
from tests.support.contract import ContractClient
from tests.support.factories import Account, Factory
from tests.support.mailbox import LOGIN, TOKEN, Mailbox, authenticate, running_mailbox, wait_for_mail
from tests.support.server import free_port, running_server

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


@pytest.fixture
def unresponsive() -> Iterator[socket.socket]:
    """A server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(server: socket.socket) -> str:
    """Return the URL of a server."""
    return f"smtp://127.0.0.1:{server.getsockname()[1]}"


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
        self, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(tls_context=tls) as mailbox:
            use(mailbox.url)
            request_reset(client)

            (received,) = mailbox.received()
        assert (received.is_encrypted, received.is_signed_in) == (True, False)

    def test_signs_in_after_encryption(
        self, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(tls_context=tls, require_starttls=True, **NEEDS_LOGIN) as mailbox:
            use(with_login(mailbox.url))
            request_reset(client)

            (received,) = mailbox.received()
        assert (received.is_encrypted, received.is_signed_in) == (True, True)

    def test_encrypts_from_the_start_with_smtps(
        self, client: ContractClient, ann: Account, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(ssl_context=tls) as mailbox:
            use(mailbox.url.replace("smtp", "smtps"))
            request_reset(client)

            (received,) = mailbox.received()
        assert received.is_encrypted

    @pytest.mark.parametrize("scheme", ["smtp", "smtps"])
    def test_sends_nothing_to_a_server_with_an_untrusted_certificate(
        self,
        client: ContractClient,
        ann: Account,
        certificate: Certificate,
        use: Any,
        caplog: pytest.LogCaptureFixture,
        scheme: str,
    ) -> None:
        options: dict[str, Any] = {{"smtp": "tls_context", "smtps": "ssl_context"}[scheme]: certificate[0]}
        with running_mailbox(**options) as mailbox:
            use(mailbox.url.replace("smtp", scheme))
            request_reset(client)

            assert mailbox.received() == []
        assert "Email not sent: SSLCertVerificationError" in caplog.text

    def test_sends_no_password_unencrypted(
        self, client: ContractClient, ann: Account, use: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running_mailbox(auth_require_tls=False, authenticator=authenticate) as mailbox:
            use(with_login(mailbox.url))
            request_reset(client)

            assert mailbox.received() == []
        assert "Email not sent: SMTPNotSupportedError" in caplog.text

    def test_logs_that_the_password_is_wrong(
        self,
        client: ContractClient,
        ann: Account,
        tls: ssl.SSLContext,
        use: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with running_mailbox(tls_context=tls, require_starttls=True, **NEEDS_LOGIN) as mailbox:
            use(with_login(mailbox.url, "wrong"))
            request_reset(client)

            assert mailbox.received() == []
        assert "Email not sent: SMTPAuthenticationError 535" in caplog.text
        assert "wrong" not in caplog.text

    def test_logs_neither_the_address_nor_the_token(
        self, client: ContractClient, make: Factory, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        make.user("ann")
        make.user("bob", email="refused@example.com")

        request_reset(client)
        request_reset(client, "refused@example.com")

        token = mailbox.token(SUBJECT)
        assert "Email not sent: SMTPRecipientsRefused" in caplog.text
        assert not any(word in caplog.text for word in ("example.com", token))

    def test_sends_the_next_email_after_a_failure(
        self, client: ContractClient, make: Factory, mailbox: Mailbox
    ) -> None:
        make.user("ann", email="refused@example.com")
        make.user("bob")

        request_reset(client, "refused@example.com")
        request_reset(client, "bob@example.com")

        assert [received.to for received in mailbox.received()] == [["bob@example.com"]]

    def test_responds_the_same_if_the_server_is_unreachable(
        self, client: ContractClient, ann: Account, use: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        use(f"smtp://127.0.0.1:{free_port()}")

        response = request_reset(client)

        wait_for_mail()
        assert response.status_code == 202
        assert "Email not sent: ConnectionRefusedError" in caplog.text

    def test_logs_an_error_while_composing(
        self, app: Flask, client: ContractClient, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        with app.app_context():
            enqueue(lambda: 1 / 0)  # type: ignore[arg-type, return-value]

        assert mailbox.received() == []
        assert "Email not sent: ZeroDivisionError" in caplog.text


class TestUnresponsiveServer:
    def test_times_out(
        self,
        client: ContractClient,
        ann: Account,
        use: Any,
        unresponsive: socket.socket,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("api.mail.sending.TIMEOUT_SECONDS", 0.1)
        use(url_of(unresponsive))

        request_reset(client)

        wait_for_mail()
        assert "Email not sent: SMTPServerDisconnected" in caplog.text

    def test_delays_no_request_and_emails_beyond_the_queue_are_dropped(
        self,
        client: ContractClient,
        make: Factory,
        use: Any,
        unresponsive: socket.socket,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        members = [make.user() for _ in range(3)]
        monkeypatch.setattr("api.mail.sending.QUEUE_MAXIMUM", 1)
        use(url_of(unresponsive))

        first = request_reset(client, members[0].email)
        connection, _ = unresponsive.accept()
        with closing(connection):
            others = [request_reset(client, member.email) for member in members[1:]]
            logged = caplog.text
        # The connection for the second email is refused.
        unresponsive.close()
        wait_for_mail()

        assert {response.status_code for response in (first, *others)} == {202}
        assert logged.count("Email dropped: 1 others are queued.") == 1
        assert caplog.text.count("Email not sent") == 2


class TestConsole:
    def test_prints_the_email(
        self, client: ContractClient, ann: Account, capsys: pytest.CaptureFixture[str]
    ) -> None:
        request_reset(client)
        wait_for_mail()

        block = capsys.readouterr().out.partition("\n--- Email to ann@example.com: ")[2].partition("---\n")[0]
        assert block.startswith(f"{SUBJECT}\n\nHello ann,\n\nWe received a request to reset")
        (token,) = TOKEN.findall(block)
        sent = {"token": token, "new_password": "7 blue bicycles"}
        assert client.post("/password-resets/redeem", json=sent).status_code == 204


class TestProcess:
    def test_sends_queued_emails_before_it_exits(self, tmp_path: Path) -> None:
        registration = {"username": "ann", "email": "ann@example.com", "password": "9 green horses"}
        headers = {"Content-Type": "application/json"}

        with running_mailbox(delay_seconds=1) as mailbox:
            with (
                running_server(tmp_path, MAIL_URL=mailbox.url) as running,
                closing(HTTPConnection("127.0.0.1", running.port)) as connection,
            ):
                connection.request("POST", f"{API_PREFIX}/users", orjson.dumps(registration), headers)
                assert connection.getresponse().status == 201

            assert [received.to for received in mailbox.received()] == [["ann@example.com"]]
            assert "ann@example.com" not in "\n".join(running.output())
