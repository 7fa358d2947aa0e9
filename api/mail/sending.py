"""Sends waiting emails in a thread of each process, and tries again later if the mail server refuses them."""

from collections.abc import Callable
from datetime import timedelta
from smtplib import SMTPResponseException
from threading import Event, Lock, Thread, main_thread

from flask import Blueprint, Flask
from sqlalchemy import bindparam, delete, select

from api.db import db, utc_now
from api.db.driver import driver_rows
from api.mail.emails import compose
from api.mail.kinds import KINDS
from api.mail.smtp import Email, Refusal, connected
from api.metrics import begin_at_zero, count
from api.models import WaitingEmail

# Interval at which a process looks for emails to try again, and for those of a process that died.
POLL_SECONDS = 5
# The delay before the second attempt. It doubles with each attempt, up to a quarter of the kind's patience: a
# later request for the same email does not change when it is due. Each delay is longer than passing an email
# to the server takes, so that no other process sends it meanwhile.
RETRY_DELAY = timedelta(seconds=30)
RETRY_DELAY_MAXIMUM = timedelta(hours=1)
# The pause after an error of the mail server or the database. It doubles each time the mail server refuses a
# connection, a sender or a password.
PAUSE_SECONDS = 3
PAUSE_SECONDS_MAXIMUM = 300

DUE = select(WaitingEmail.due_at).where(WaitingEmail.due_at <= bindparam("now")).limit(1)


def init_app(app: Flask) -> None:
    """Add the mailer, which uses the settings `MAIL_URL` and `MAIL_FROM`, and the templates."""
    app.extensions["mailer"] = Mailer(app)
    begin_at_zero(app, "emails", KINDS, ("sent", "refused", "given_up"))
    app.register_blueprint(Blueprint("mail", __name__, template_folder="templates"))


class Mailer:
    """Sends the emails that are due, one by one.

    An email is sent at least once: it is sent again if the process dies after the mail server accepted it and
    before its row is deleted.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = Lock()
        self._thread: Thread | None = None
        self._woken = Event()
        self._stopping = Event()

    def start(self) -> None:
        """Start the thread, unless it is running. A process that was forked has no thread."""
        with self._lock:
            if self._stopping.is_set() or (self._thread and self._thread.is_alive()):
                return
            # Not a daemon, so that the process does not exit while an email is being sent.
            self._thread = Thread(target=self._run, name="mail", daemon=False)
            self._thread.start()
            Thread(target=self._stop_at_exit, daemon=True).start()

    def wake(self) -> None:
        """Tell the thread that an email is waiting."""
        self._woken.set()

    def stop(self) -> None:
        """Let the thread end after the email that it is sending. The others wait for the next start."""
        self._stopping.set()
        self._woken.set()

    def _stop_at_exit(self) -> None:
        main_thread().join()
        self.stop()

    def _run(self) -> None:
        pause: float = PAUSE_SECONDS
        logged = ""
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                self.send_due()
            except Exception as error:  # noqa: BLE001 -- no error may end the thread.
                is_refused = isinstance(error, SMTPResponseException)
                pause = min(2 * pause, PAUSE_SECONDS_MAXIMUM) if is_refused else PAUSE_SECONDS
                # The text of the error is not logged: it may contain the address.
                reason = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".rstrip()
                line = f"Emails wait: {reason}. Next attempt in {pause:.0f} s."
                if line != logged:
                    self._app.logger.error(line)  # noqa: TRY400
                    logged = line
                self._stopping.wait(pause)
            else:
                pause, logged = PAUSE_SECONDS, ""
                self._woken.wait(POLL_SECONDS)

    def send_due(self) -> None:
        """Send the emails that are due.

        Raises the error if the mail server or the database is unavailable; the emails stay due.
        """
        with self._app.app_context():
            is_due = driver_rows(DUE, now=utc_now())
        if not is_due:
            return
        # Connects first, so that no token is issued and no attempt counted while the server is unavailable.
        with connected(self._app.config["MAIL_URL"], self._app.config["MAIL_FROM"]) as deliver:
            while not self._stopping.is_set() and (waiting := self._claim()):
                self._send(waiting, deliver)

    def _claim(self) -> WaitingEmail | None:
        """Return an email that is due, and schedule its next attempt, which success cancels.

        Another process skips an email that is being claimed, and then finds that it is not due. On SQLite,
        the write lock serializes claims.
        """
        now = utc_now()
        due = select(WaitingEmail).where(WaitingEmail.due_at <= now).order_by(WaitingEmail.due_at).limit(1)
        with self._app.app_context():
            waiting = db.session.scalar(due.with_for_update(skip_locked=True))
            if waiting:
                delay = RETRY_DELAY * 2 ** min(waiting.attempts, 10)
                waiting.due_at = now + min(delay, RETRY_DELAY_MAXIMUM, KINDS[waiting.kind].patience / 4)
                waiting.attempts += 1
            db.session.commit()
            return waiting

    def _send(self, waiting: WaitingEmail, deliver: Callable[[Email], None]) -> None:
        """Compose an email, send it outside of a transaction, and delete its row unless it is deferred."""
        with self._app.app_context():
            email = compose(waiting)
        outcome = "sent"
        try:
            if email:
                deliver(email)
        except Refusal as refusal:
            outcome = "given_up" if refusal.is_permanent else "refused"
            if refusal.is_permanent:
                self._app.logger.error("Email given up: %s, %d", waiting.kind, refusal.code)  # noqa: TRY400
            else:
                self._app.logger.warning("Email refused for now: %s, %d", waiting.kind, refusal.code)
        with self._app.app_context():
            if email:
                count("emails", waiting.kind, outcome)
            if outcome == "refused":
                return
            key = WaitingEmail.email == waiting.email, WaitingEmail.kind == waiting.kind
            db.session.execute(delete(WaitingEmail).where(*key))
            db.session.commit()
