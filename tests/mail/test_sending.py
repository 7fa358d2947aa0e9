"""Emails wait in a table until the mail server accepts them; they are sent once, and survive the process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPAuthenticationError, SMTPException
from typing import Any, NoReturn

import pytest
from flask import Flask
from sqlalchemy import select, text

from api.config import ROOT
from api.db import db, utc_now
from api.mail.sending import DUE, Mailer
from api.models import EmailToken, WaitingEmail
from tests.conftest import DATABASES, SECRET_KEY
from tests.email_verifications.test_email_verifications import CHANGED, VERIFY, request_verification
from tests.email_verifications.test_email_verifications import redeem as redeem_verification
from tests.password_resets.test_password_resets import SUBJECT, change_email, redeem, request_reset
from tests.support.concurrency import concurrently
from tests.support.contract import PREFIX, ContractClient
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.factories import Account, Factory
from tests.support.mailbox import Mailbox, let_pass, running_mailbox, send_due
from tests.support.server import SERVE, Server, free_port, running_server
from tests.support.statements import Statement
from tests.support.wait import wait_until
from tests.users.test_users import change_password, delete_account, registration

WSGI_SERVER = ("granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", "wsgi:app")

# As a WSGI server that imports the application before it forks.
FORK = """
import os
from wsgi import app

mailer = app.extensions["mailer"]
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert mailer._thread is None
else:
    app.test_client().get("/livez")
    assert mailer._thread.is_alive()
"""


@pytest.fixture
def ann(make: Factory) -> Account:
    """A user."""
    return make.user("ann")


def waiting(app: Flask) -> list[tuple[str, str, int]]:
    """Return the address, the kind and the number of attempts of each waiting email."""
    with app.app_context():
        rows = db.session.scalars(select(WaitingEmail).order_by(WaitingEmail.email, WaitingEmail.kind))
        return [(row.email, row.kind, row.attempts) for row in rows]


def delay(app: Flask) -> float:
    """Return in how many seconds the only waiting email is due."""
    with app.app_context():
        return (db.session.scalars(select(WaitingEmail.due_at)).one() - utc_now()).total_seconds()


def raise_error(*_arguments: object) -> NoReturn:
    """Raise an error, as the database does if it is lost."""
    raise OSError


class TestTransaction:
    def test_stores_no_token_before_the_email_is_sent(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        request_reset(client)

        assert waiting(app) == [("ann@example.com", "password_reset", 0)]
        with app.app_context():
            assert db.session.scalars(select(EmailToken)).all() == []

    def test_stores_an_email_once_however_often_it_is_requested(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        for _ in range(5):
            request_reset(client)
            request_verification(client, ann)

        assert [(kind, attempts) for _, kind, attempts in waiting(app)] == [
            ("email_verification", 0),
            ("password_reset", 0),
        ]

    def test_stores_the_emails_of_a_changed_address_with_the_change(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        change_email(client, ann, "cleo@example.com")

        assert waiting(app) == [
            ("ann@example.com", "email_change", 0),
            ("cleo@example.com", "email_verification", 0),
        ]

    def test_stores_nothing_if_it_is_rolled_back(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account
    ) -> None:
        bob = make.user("bob")

        assert client.post("/users", json=registration(username="zoe", email=ann.email)).status_code == 409
        assert change_email(client, ann, bob.email).status_code == 409

        assert waiting(app) == []

    def test_sends_the_email_of_a_request_with_an_idempotency_key_once(
        self, client: ContractClient, mailbox: Mailbox
    ) -> None:
        for _ in range(2):
            client.post("/users", json=registration(), headers={"Idempotency-Key": "a"})

        assert mailbox.subjects("bob@example.com") == [VERIFY]


class TestUnknownAddress:
    def test_gets_the_same_statements_as_a_known_one(
        self, client: ContractClient, ann: Account, statements: list[Statement]
    ) -> None:
        def sent(email: str) -> list[str]:
            statements.clear()
            assert request_reset(client, email).status_code == 202
            return [statement.text for statement in statements]

        assert sent("ann@example.com") == sent("unknown@example.com") == sent("ann@example.com")
        assert sum(text.startswith("INSERT") for text in sent("unknown@example.com")) == 1

    def test_fills_no_table_and_delays_no_email(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        for number in range(50):
            request_reset(client, f"unknown{number}@example.com")
        request_reset(client)

        assert waiting(app) == [("ann@example.com", "password_reset", 0)]
        assert [received.to for received in mailbox.received()] == [["ann@example.com"]]

    @on_postgresql
    def test_gets_the_same_response_if_the_account_is_being_deleted(
        self, app: Flask, client: ContractClient, ann: Account
    ) -> None:
        with app.app_context(), db.engine.connect() as other:
            other.execute(text("SELECT 1 FROM users WHERE id = :id FOR UPDATE"), {"id": ann.id})

            def delete_soon() -> int:
                blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                with app.app_context(), db.engine.connect() as observer:

                    def assert_blocked() -> None:
                        observer.rollback()
                        assert observer.scalar(blocked)

                    wait_until(assert_blocked)
                other.execute(text("DELETE FROM users WHERE id = :id"), {"id": ann.id})
                other.commit()
                return 202

            statuses = concurrently(lambda: request_reset(ContractClient(app)).status_code, delete_soon)

        assert statuses == [202, 202]
        assert waiting(app) == []


class TestRefusedForNow:
    @pytest.mark.parametrize("reply", ["450 greylisted", "DATA 451 try later"])
    def test_is_tried_again_later(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        caplog: pytest.LogCaptureFixture,
        reply: str,
    ) -> None:
        mailbox.replies = [reply]
        request_reset(client)

        assert mailbox.received() == []
        assert waiting(app) == [("ann@example.com", "password_reset", 1)]
        assert 20 < delay(app) <= 30
        assert mailbox.received() == []
        let_pass(app, timedelta(seconds=30))

        assert mailbox.subjects("ann@example.com") == [SUBJECT]
        assert redeem(client, mailbox.token(SUBJECT)).status_code == 204
        assert waiting(app) == []
        code = reply.removeprefix("DATA ")[:3]
        assert caplog.messages.count(f"Email refused for now: password_reset, {code}") == 1
        assert "example.com" not in caplog.text

    @pytest.mark.slow
    @on_sqlite  # Python calculates the delays.
    def test_is_tried_again_after_growing_delays_for_two_days(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        mailbox.replies = ["450 greylisted"] * 100
        request_verification(client, ann)
        delays = []

        while mailbox.received() == [] and waiting(app):
            delays.append(delay(app))
            let_pass(app, timedelta(seconds=delays[-1]))

        assert [round(seconds / 30) for seconds in delays[:8]] == [1, 2, 4, 8, 16, 32, 64, 120]
        assert max(delays) <= 3600
        assert timedelta(hours=47) < timedelta(seconds=sum(delays)) < timedelta(hours=49)

    def test_is_tried_after_a_later_request_as_well(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        mailbox.replies = ["450 greylisted"] * 8
        for _ in range(8):
            request_reset(client)
            assert mailbox.received() == []
            let_pass(app, timedelta(seconds=delay(app)))

        assert mailbox.subjects("ann@example.com") == [SUBJECT]

    def test_delays_no_other_email(
        self, client: ContractClient, make: Factory, ann: Account, mailbox: Mailbox
    ) -> None:
        bob = make.user("bob")
        mailbox.replies = ["450 greylisted"]

        request_reset(client, ann.email)
        request_reset(client, bob.email)

        assert [received.to for received in mailbox.received()] == [[bob.email]]

    @pytest.mark.parametrize("reply", ["421 busy", "DATA 421 busy"])
    def test_by_a_server_that_closes_the_connection_ends_the_round(
        self, app: Flask, client: ContractClient, make: Factory, ann: Account, mailbox: Mailbox, reply: str
    ) -> None:
        mailbox.replies = [reply]
        request_reset(client, ann.email)
        request_reset(client, make.user("bob").email)

        with pytest.raises(SMTPException):
            send_due(app)

        assert waiting(app) == [
            ("ann@example.com", "password_reset", 1),
            ("bob@example.com", "password_reset", 0),
        ]

    def test_is_requested_again_and_sent_once(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        mailbox.replies = ["450 greylisted"]
        request_reset(client)
        send_due(app)

        request_reset(client)
        let_pass(app, timedelta(seconds=30))

        assert mailbox.subjects("ann@example.com") == [SUBJECT]
        assert mailbox.received() == mailbox.received()


class TestRefusedForGood:
    @pytest.mark.parametrize("reply", ["550 unknown", "DATA 554 spam"])
    def test_is_given_up_with_one_line_in_the_log(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        ann: Account,
        mailbox: Mailbox,
        caplog: pytest.LogCaptureFixture,
        reply: str,
    ) -> None:
        bob = make.user("bob")
        mailbox.replies = [reply]

        request_reset(client)
        request_reset(client, bob.email)

        assert [received.to for received in mailbox.received()] == [[bob.email]]
        assert waiting(app) == []
        code = reply.removeprefix("DATA ")[:3]
        assert [message for message in caplog.messages if message.startswith("Email")] == [
            f"Email given up: password_reset, {code}"
        ]
        assert not any(word in caplog.text for word in ("example.com", mailbox.token(SUBJECT)))


class TestPurpose:
    def test_of_a_password_reset_ends_after_30_minutes(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        mailbox.replies = ["450 greylisted"]
        request_reset(client)
        let_pass(app, timedelta(minutes=31))

        assert mailbox.received() == []
        assert waiting(app) == []
        assert "Email given up: password_reset, after 0:30:00" in caplog.messages

    @pytest.mark.parametrize(
        ("request_email", "act", "left"),
        [
            pytest.param(
                lambda client, ann: request_reset(client),
                lambda client, ann: change_password(client, ann.signed_in),
                [],
                id="reset, password changed",
            ),
            pytest.param(
                lambda client, ann: request_reset(client),
                lambda client, ann: change_email(client, ann, "cleo@example.com"),
                [VERIFY, CHANGED],
                id="reset, address changed",
            ),
            pytest.param(
                request_verification,
                lambda client, ann: change_email(client, ann, "cleo@example.com"),
                [VERIFY, CHANGED],
                id="verification, address changed",
            ),
            pytest.param(
                lambda client, ann: change_email(client, ann, "cleo@example.com"),
                delete_account,
                [],
                id="change of the address, account deleted",
            ),
            pytest.param(
                lambda client, ann: request_reset(client), delete_account, [], id="reset, account deleted"
            ),
        ],
    )
    def test_ends_with_the_reason_of_the_email(
        self,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        request_email: Callable[[ContractClient, Account], object],
        act: Callable[[ContractClient, Account], object],
        left: list[str],
    ) -> None:
        request_email(client, ann)

        act(client, ann)

        assert sorted(received.subject for received in mailbox.received()) == sorted(left)
        assert ["cleo@example.com"] * bool(left) == [
            to for received in mailbox.received() for to in received.to if received.subject == VERIFY
        ]

    def test_of_a_verification_ends_when_the_address_is_verified(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        request_verification(client, ann)
        token = mailbox.token(VERIFY)
        let_pass(app, timedelta(minutes=2))
        request_verification(client, ann)

        redeem_verification(client, token)

        assert len(mailbox.received()) == 1
        assert waiting(app) == []

    def test_ends_if_the_password_is_changed_while_the_email_is_composed(
        self, app: Flask, client: ContractClient, ann: Account, mailbox: Mailbox
    ) -> None:
        request_reset(client)

        with app.app_context():
            claimed = app.extensions["mailer"]._claim()
        change_password(client, ann.signed_in)
        app.extensions["mailer"]._send(claimed, raise_error)

        assert waiting(app) == []
        with app.app_context():
            assert db.session.scalars(select(EmailToken)).all() == []


class TestDelivery:
    def test_happens_once_if_several_processes_send(
        self, app: Flask, client: ContractClient, make: Factory, mailbox: Mailbox
    ) -> None:
        members = [make.user() for _ in range(20)]
        for member in members:
            request_reset(client, member.email)

        concurrently(*[Mailer(app).send_due for _ in range(4)])

        received = [to for received in mailbox.received() for to in received.to]
        assert sorted(received) == sorted(member.email for member in members)
        assert waiting(app) == []

    def test_happens_again_if_the_process_dies_before_it_deletes_the_row(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        request_reset(client)
        with monkeypatch.context() as patch:
            patch.setattr("api.mail.sending.delete", raise_error)
            with pytest.raises(OSError):  # noqa: PT011 -- it has no text.
                send_due(app)
        let_pass(app, timedelta(seconds=30))

        assert mailbox.subjects("ann@example.com") == [SUBJECT] * 2
        assert redeem(client, mailbox.token(SUBJECT)).status_code == 204
        assert waiting(app) == []

    @on_sqlite
    def test_finds_due_emails_by_an_index(self, app: Flask) -> None:
        with app.app_context():
            plan = db.session.execute(text(f"EXPLAIN QUERY PLAN {DUE}"), {"now": "", "param_1": 1}).all()

        assert "USING COVERING INDEX ix_waiting_emails_due_at (due_at<?)" in str(plan)


class TestThread:
    @pytest.fixture
    def mailer(self, app: Flask) -> Iterator[Mailer]:
        """A mailer for the emails that the application stores."""
        mailer: Mailer
        mailer = app.extensions["mailer"] = Mailer(app)
        yield mailer
        mailer.stop()
        assert mailer._thread
        mailer._thread.join()
        app.extensions["mailer"] = Mailer(app)

    def test_is_woken_by_a_request(
        self,
        client: ContractClient,
        ann: Account,
        mailbox: Mailbox,
        mailer: Mailer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("api.mail.sending.POLL_SECONDS", 1000)
        mailer.start()
        mailer.start()

        request_reset(client)

        wait_until(lambda: mailbox._received[0], IndexError)
        assert [thread.name for thread in threading.enumerate()].count("mail") == 1

    def test_tries_again_until_the_server_can_be_reached(
        self,
        app: Flask,
        client: ContractClient,
        ann: Account,
        mailer: Mailer,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("api.mail.sending.PAUSE_SECONDS", 0.01)
        port = free_port()
        monkeypatch.setitem(app.config, "MAIL_URL", f"smtp://127.0.0.1:{port}")
        request_reset(client)
        mailer.start()

        wait_until(
            lambda: caplog.text.index("Emails wait: ConnectionRefusedError. Next attempt in "), ValueError
        )
        assert waiting(app) == [("ann@example.com", "password_reset", 0)]
        with running_mailbox(port=port) as mailbox:
            wait_until(lambda: mailbox._received[0], IndexError)

            assert mailbox.subjects("ann@example.com") == [SUBJECT]
        assert "example.com" not in caplog.text

    def test_pauses_for_longer_each_time_the_server_refuses_it(
        self, mailer: Mailer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        refused = SMTPAuthenticationError(535, b"No.")
        errors: list[Exception] = [refused, refused, refused, TimeoutError(), TimeoutError(), refused]
        pauses: list[float] = []

        def send_due() -> None:
            if errors:
                raise errors.pop(0)
            mailer.stop()

        monkeypatch.setattr(mailer, "send_due", send_due)
        monkeypatch.setattr(mailer._stopping, "wait", pauses.append)
        mailer.start()
        assert mailer._thread
        mailer._thread.join()

        assert pauses == [6, 12, 24, 3, 3, 6]
        assert caplog.text.count("Emails wait: SMTPAuthenticationError 535. Next attempt in 12 s.") == 1
        assert caplog.text.count("Emails wait: TimeoutError. Next attempt in 3 s.") == 1

    def test_ends_after_the_email_that_is_being_sent(
        self,
        app: Flask,
        client: ContractClient,
        make: Factory,
        mailer: Mailer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with running_mailbox(delay_seconds=0.5) as mailbox:
            monkeypatch.setitem(app.config, "MAIL_URL", mailbox.url)
            for _ in range(3):
                request_reset(client, make.user().email)
            mailer.start()

            def assert_sending() -> None:
                assert {attempts for _, _, attempts in waiting(app)} == {0, 1}

            wait_until(assert_sending)
            mailer.stop()
            mailer.start()
            assert mailer._thread
            mailer._thread.join()

            assert len(mailbox.received()) == 1
        assert [attempts for _, _, attempts in waiting(app)] == [0, 0]


@pytest.mark.slow
def test_a_process_that_a_server_forks_starts_its_thread_with_the_first_request(tmp_path: Path) -> None:
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/test.db"}

    subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, env=environment, check=True, timeout=60)


@contextmanager
def served(folder: Path, database_url: str, mail_url: str, command: Any = SERVE) -> Iterator[Server]:
    """Serve a database in processes of their own."""
    settings = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET_KEY}
    with running_server(folder, command, MAIL_URL=mail_url, **settings) as server:
        yield server


def register(server: Server, name: str) -> int:
    """Register a user; return the status."""
    body = {"username": name, "email": f"{name}@example.com", "password": "9 green horses"}
    return server.send("POST", f"{PREFIX}/users", json=body)[0]


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize(
        ("database", "command"),
        [
            pytest.param("sqlite", SERVE, id="SQLite, flask serve"),
            pytest.param("postgresql", SERVE, id="PostgreSQL, flask serve"),
            pytest.param("sqlite", WSGI_SERVER, id="SQLite, WSGI"),
        ],
    )
    def test_an_email_survives_the_process_that_stored_it(
        self, tmp_path: Path, new_migrated_database_url: Any, database: str, command: tuple[str, ...]
    ) -> None:
        url, port = new_migrated_database_url(database), free_port()
        with served(tmp_path, url, f"smtp://127.0.0.1:{port}", command) as server:
            assert register(server, "ann") == 201
            os.killpg(server.pid, signal.SIGKILL)
            server.process.end()

        with running_mailbox(port=port) as mailbox, served(tmp_path, url, mailbox.url, command) as server:
            wait_until(lambda: mailbox._received[0], IndexError)

            assert mailbox.subjects("ann@example.com") == [VERIFY]
            assert "ann@example.com" not in "\n".join(server.process.lines())

    @pytest.mark.parametrize("database", DATABASES)
    def test_a_server_that_stops_finishes_the_email_that_it_sends(
        self, tmp_path: Path, new_migrated_database_url: Any, database: str
    ) -> None:
        url = new_migrated_database_url(database)
        with running_mailbox(delay_seconds=1) as mailbox:
            with served(tmp_path, url, mailbox.url) as server:
                register(server, "ann")
                wait_until(lambda: mailbox.began[0], IndexError)

            assert mailbox.subjects("ann@example.com") == [VERIFY]
            with served(tmp_path, url, mailbox.url) as server:
                register(server, "bob")
                wait_until(lambda: mailbox._received[1], IndexError)

            assert mailbox.subjects("ann@example.com") == [VERIFY]
