"""Mail: to servers of every kind, printed where there is none; what fails is logged and hinders nobody."""

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
from api.mail import send_later
from tests.contract import ContractClient
from tests.factories import Factory, Member
from tests.mailbox import LOGIN, TOKEN, Mailbox, authenticate, running_mailbox, wait_for_mail
from tests.server import free_port, running_server
from tests.test_password_resets import SUBJECT, ask

Certificate = tuple[ssl.SSLContext, Path]
USER, PASSWORD = (quote(word, safe="") for word in LOGIN)
NEEDS_LOGIN: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The certificate of a server at 127.0.0.1, and the file of the authority that it comes from."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return context, file


@pytest.fixture
def tls(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The certificate of a server, which its clients trust."""
    context, file = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return context


@pytest.fixture
def ann(make: Factory) -> Member:
    """Somebody with an account."""
    return make.user("ann")


@pytest.fixture
def use(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets the address of the mail server."""

    def set_url(url: str) -> None:
        monkeypatch.setitem(app.config, "MAIL_URL", url)

    return set_url


@pytest.fixture
def hanging() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(server: socket.socket) -> str:
    """Return the address of a server."""
    return f"smtp://127.0.0.1:{server.getsockname()[1]}"


def with_login(url: str, password: str = PASSWORD) -> str:
    """Return the address of a server with who signs in there."""
    return url.replace("//", f"//{USER}:{password}@")


class TestSmtp:
    def test_sends_in_clear_where_nothing_else_can_be(
        self, client: ContractClient, ann: Member, mailbox: Mailbox
    ) -> None:
        ask(client)

        (received,) = mailbox.received()
        assert (received.subject, received.is_encrypted, received.is_signed_in) == (SUBJECT, False, False)

    def test_encrypts_where_the_server_can(
        self, client: ContractClient, ann: Member, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(tls_context=tls) as mailbox:
            use(mailbox.url)
            ask(client)

            (received,) = mailbox.received()
        assert (received.is_encrypted, received.is_signed_in) == (True, False)

    def test_signs_in_after_encrypting(
        self, client: ContractClient, ann: Member, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(tls_context=tls, require_starttls=True, **NEEDS_LOGIN) as mailbox:
            use(with_login(mailbox.url))
            ask(client)

            (received,) = mailbox.received()
        assert (received.is_encrypted, received.is_signed_in) == (True, True)

    def test_encrypts_from_the_beginning(
        self, client: ContractClient, ann: Member, tls: ssl.SSLContext, use: Any
    ) -> None:
        with running_mailbox(ssl_context=tls) as mailbox:
            use(mailbox.url.replace("smtp", "smtps"))
            ask(client)

            (received,) = mailbox.received()
        assert received.is_encrypted

    @pytest.mark.parametrize("scheme", ["smtp", "smtps"])
    def test_sends_nothing_to_a_server_that_nobody_vouches_for(
        self,
        client: ContractClient,
        ann: Member,
        certificate: Certificate,
        use: Any,
        caplog: pytest.LogCaptureFixture,
        scheme: str,
    ) -> None:
        options: dict[str, Any] = {{"smtp": "tls_context", "smtps": "ssl_context"}[scheme]: certificate[0]}
        with running_mailbox(**options) as mailbox:
            use(mailbox.url.replace("smtp", scheme))
            ask(client)

            assert mailbox.received() == []
        assert "mail: not sent: SSLCertVerificationError" in caplog.text

    def test_sends_no_password_in_clear(
        self, client: ContractClient, ann: Member, use: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running_mailbox(auth_require_tls=False, authenticator=authenticate) as mailbox:
            use(with_login(mailbox.url))
            ask(client)

            assert mailbox.received() == []
        assert "mail: not sent: SMTPNotSupportedError" in caplog.text

    def test_logs_that_the_password_is_wrong(
        self,
        client: ContractClient,
        ann: Member,
        tls: ssl.SSLContext,
        use: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with running_mailbox(tls_context=tls, require_starttls=True, **NEEDS_LOGIN) as mailbox:
            use(with_login(mailbox.url, "wrong"))
            ask(client)

            assert mailbox.received() == []
        assert "mail: not sent: SMTPAuthenticationError 535" in caplog.text
        assert "wrong" not in caplog.text

    def test_logs_neither_the_address_nor_the_token(
        self, client: ContractClient, make: Factory, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        make.user("ann")
        make.user("bob", email="refused@example.com")

        ask(client)
        ask(client, "refused@example.com")

        token = mailbox.token(SUBJECT)
        assert "mail: not sent: SMTPRecipientsRefused" in caplog.text
        assert not any(word in caplog.text for word in ("example.com", token))

    def test_goes_on_after_a_failure(self, client: ContractClient, make: Factory, mailbox: Mailbox) -> None:
        make.user("ann", email="refused@example.com")
        make.user("bob")

        ask(client, "refused@example.com")
        ask(client, "bob@example.com")

        assert [received.to for received in mailbox.received()] == [["bob@example.com"]]

    def test_answers_the_same_where_there_is_no_server(
        self, client: ContractClient, ann: Member, use: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        use(f"smtp://127.0.0.1:{free_port()}")

        response = ask(client)

        wait_for_mail()
        assert response.status_code == 202
        assert "mail: not sent: ConnectionRefusedError" in caplog.text

    def test_logs_that_a_letter_could_not_be_written(
        self, app: Flask, client: ContractClient, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        with app.app_context():
            send_later(lambda: 1 / 0)  # type: ignore[arg-type, return-value]

        assert mailbox.received() == []
        assert "mail: not sent: ZeroDivisionError" in caplog.text


class TestHangingServer:
    def test_is_given_up(
        self,
        client: ContractClient,
        ann: Member,
        use: Any,
        hanging: socket.socket,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("api.mail.TIMEOUT_SECONDS", 0.1)
        use(url_of(hanging))

        ask(client)

        wait_for_mail()
        assert "mail: not sent: SMTPServerDisconnected" in caplog.text

    def test_is_not_waited_for_and_what_finds_the_queue_full_is_dropped(
        self,
        client: ContractClient,
        make: Factory,
        use: Any,
        hanging: socket.socket,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        members = [make.user() for _ in range(3)]
        monkeypatch.setattr("api.mail.QUEUE_MAXIMUM", 1)
        use(url_of(hanging))

        first = ask(client, members[0].email)
        connection, _ = hanging.accept()
        with closing(connection):
            others = [ask(client, member.email) for member in members[1:]]
            logged = caplog.text
        # The second finds nobody either.
        hanging.close()
        wait_for_mail()

        assert {response.status_code for response in (first, *others)} == {202}
        assert logged.count("mail: dropped, for 1 others wait") == 1
        assert caplog.text.count("mail: not sent") == 2


class TestConsole:
    def test_prints_what_would_be_sent(
        self, client: ContractClient, ann: Member, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ask(client)
        wait_for_mail()

        block = capsys.readouterr().out.partition("\n--- Mail to ann@example.com: ")[2].partition("---\n")[0]
        assert block.startswith(f"{SUBJECT}\n\nHello ann,\n\nsomebody, we hope you, asked for")
        (token,) = TOKEN.findall(block)
        sent = {"token": token, "new_password": "7 blue bicycles"}
        assert client.post("/password-resets/redeem", json=sent).status_code == 204


class TestProcess:
    def test_sends_what_is_on_its_way_before_it_ends(self, tmp_path: Path) -> None:
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
