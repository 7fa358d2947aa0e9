"""Every setting with its default; the only reader of the environment."""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import limits
from dotenv import dotenv_values
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent.parent
SECRET_KEY_MINIMUM = 32
SENDER = re.compile(r'([^<>()@,;:"\[\]\\\x00-\x1f\x7f]*<)?[\w.+-]+@[\w.-]+(?(1)>)', re.ASCII)
PAGE = re.compile(r"(https?://[!-~]*\{token\}[!-~]*)?")
# As browsers write it (RFC 6454, section 6.2): without a path, and without a port that goes without saying.
ORIGIN = re.compile(r"(http://(?!.*:80$)|https://(?!.*:443$))([a-z0-9.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?")


class InvalidSettingError(SystemExit):
    """A setting that the service cannot start with; ends the process with one line."""


def setting(default: Any, meaning: str, *, minimum: int = 0) -> Any:
    """Declare a setting: its default, what it means (for the README) and the least number allowed."""
    return field(default=default, metadata={"meaning": meaning, "minimum": minimum})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings. Each is named like the environment variable that sets it."""

    ENVIRONMENT: str = setting(
        "development",
        "`production` refuses to start without a `SECRET_KEY`; `development` makes one.",
    )
    SECRET_KEY: str = setting(
        "", "Signs tokens and cursors; at least 32 characters. Made beside the database if not set."
    )
    DATABASE_URL: str = setting(
        "sqlite:///instance/microblog.db",
        "`sqlite:///file` or `postgresql://user:password@host/name`.",
    )
    HOST: str = setting("127.0.0.1", "Address to listen on.")
    PORT: int = setting(8000, "Port to listen on.", minimum=1)
    WORKERS: int = setting(1, "Processes that answer requests.", minimum=1)
    THREADS: int = setting(8, "Threads in each process, and connections to the database.", minimum=1)
    STOP_SECONDS: int = setting(
        15, "For how long requests may go on once the server is told to stop.", minimum=1
    )
    TRUSTED_PROXIES: int = setting(
        0,
        "Proxies in front that add to `X-Forwarded-For` and `X-Forwarded-Proto`, which else are ignored.",
    )
    CORS_ORIGINS: str = setting(
        "",
        "Origins whose pages may use the service, with commas between them: `https://app.example.com`.",
    )
    RATE_LIMIT_READS: str = setting("600/minute", "Reads of a caller: an account, or else an address.")
    RATE_LIMIT_WRITES: str = setting("120/minute", "Writes of a caller.")
    RATE_LIMIT_SIGN_IN: str = setting(
        "60/minute",
        "Sign-ins, renewals of tokens, password resets and redeemed mail tokens from an address.",
    )
    RATE_LIMIT_SIGN_IN_FAILURES: str = setting(
        "10/15 minutes", "Wrong passwords for a name from an address, and below `/me` for an account."
    )
    RATE_LIMIT_ACCOUNT_FAILURES: str = setting(
        "100/hour",
        "Wrong passwords for a name from all addresses but those where it signed in within 30 days.",
    )
    RATE_LIMIT_REGISTRATION: str = setting("60/hour", "Registrations from an address.")
    RATELIMIT_STORAGE_URL: str = setting(
        "memory://",
        "Where requests are counted: `redis://host`, or in each process by itself, so that with several "
        "`WORKERS` a limit is that of one.",
    )
    ACCESS_TOKEN_SECONDS: int = setting(900, "Life of an access token.", minimum=1)
    REFRESH_TOKEN_SECONDS: int = setting(
        2_592_000, "Life of a session since its last refresh (30 days).", minimum=1
    )
    REFRESH_GRACE_SECONDS: int = setting(
        10, "For how long a refresh token that was just used gets the same successor."
    )
    PASSWORD_HASH_MEMORY: int = setting(
        19_456, "KiB of memory that Argon2id takes for each password.", minimum=8
    )
    PASSWORD_HASH_TIME: int = setting(2, "Passes that Argon2id makes over it.", minimum=1)
    DATABASE_TIMEOUT_SECONDS: int = setting(
        5,
        "Longest wait for a connection, a lock, or a database host that is gone without a word."
        " On PostgreSQL a statement may take twice as long.",
        minimum=1,
    )
    MAIL_URL: str = setting(
        "",
        "`smtp://user:password@host:587` (encrypted if the server can, and always with a password) or "
        "`smtps://user:password@host:465`. Without it, mail is printed where the log is, in production too.",
    )
    MAIL_FROM: str = setting("Microblog <microblog@localhost>", "Whom mail comes from.")
    PASSWORD_RESET_URL: str = setting(
        "",
        "Page of your front end for a new password, such as `https://app.example/reset#{token}`. Without it, "
        "mail has the token alone.",
    )
    EMAIL_VERIFICATION_URL: str = setting("", "Likewise, its page that verifies an e-mail address.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> Self:
        """Read the settings from the environment, and from a folder's `.env` what that leaves open.

        Raises InvalidSettingError, naming the setting, for a value that cannot be used.
        """
        if environment is None:
            file = {key: value for key, value in dotenv_values(folder / ".env").items() if value is not None}
            environment = {**file, **os.environ}
        values: dict[str, Any] = {}
        for known in fields(cls):
            text = environment.get(known.name)
            if text:
                values[known.name] = _number(known, text) if known.type is int else text
        return cls(**values)

    def __post_init__(self) -> None:
        if self.ENVIRONMENT not in {"development", "production"}:
            raise InvalidSettingError(
                f"ENVIRONMENT must be development or production, not {self.ENVIRONMENT!r}."
            )
        if self.PORT > 65_535:
            raise InvalidSettingError(f"PORT must be at most 65535, not {self.PORT}.")
        _check_mail_url(self.MAIL_URL)
        _check_sender(self.MAIL_FROM)
        for name in ("PASSWORD_RESET_URL", "EMAIL_VERIFICATION_URL"):
            if not PAGE.fullmatch(getattr(self, name)):
                raise InvalidSettingError(f"{name} must begin with https:// and have {{token}} in it.")
        for known in fields(self):
            if known.name.startswith("RATE_LIMIT_"):
                _check_limit(known.name, getattr(self, known.name))
        if not re.match(r"memory://$|rediss?://\S+$", self.RATELIMIT_STORAGE_URL):
            raise InvalidSettingError("RATELIMIT_STORAGE_URL must be memory:// or begin with redis://.")
        object.__setattr__(self, "CORS_ORIGINS", _origins(self.CORS_ORIGINS))
        url = _database_url(self.DATABASE_URL)
        folder = _folder(url)
        object.__setattr__(self, "DATABASE_URL", url.render_as_string(hide_password=False))
        object.__setattr__(self, "SECRET_KEY", self._secret_key(folder))

    def _secret_key(self, folder: Path) -> str:
        secret, source = self.SECRET_KEY, "SECRET_KEY"
        if not secret:
            if self.ENVIRONMENT == "production":
                raise InvalidSettingError("SECRET_KEY must be set in production.")
            kept = folder / "secret_key"
            secret, source = _kept_secret(kept), f"The secret in {kept}"
        if len(secret) < SECRET_KEY_MINIMUM:
            raise InvalidSettingError(f"{source} must have at least {SECRET_KEY_MINIMUM} characters.")
        return secret


def _number(known: Any, text: str) -> int:
    minimum = known.metadata["minimum"]
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= minimum):
        raise InvalidSettingError(f"{known.name} must be a whole number of at least {minimum}, not {text!r}.")
    return int(text)


def _check_limit(name: str, text: str) -> None:
    with suppress(ValueError):
        first, *others = limits.parse_many(text)
        if first.amount > 0 and not others:
            return
    raise InvalidSettingError(f"{name} must be written like 300/minute or 10/15 minutes, not {text!r}.")


def _origins(text: str) -> str:
    """Return a list of origins as browsers write them."""
    origins = [origin.strip().lower() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise InvalidSettingError(
                f"CORS_ORIGINS must be origins such as https://app.example.com, not {origin!r}."
            )
    return ",".join(origins)


def _database_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise InvalidSettingError("DATABASE_URL is not a database's address.") from None
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url.set(database=str(ROOT / url.database))
    raise InvalidSettingError("DATABASE_URL must begin with sqlite:///file or postgresql://.")


def _check_mail_url(text: str) -> None:
    try:
        url = urlsplit(text)
        is_server = url.scheme in {"smtp", "smtps"} and bool(url.hostname) and url.port != 0
        is_more = bool(url.path.strip("/") or url.query or url.fragment)
    except ValueError:
        is_server = is_more = False
    if text and (is_more or not is_server):
        raise InvalidSettingError(
            "MAIL_URL must be like smtp://user:password@host:587 or smtps://host, with marks in the password "
            "percent-encoded."
        )


def _check_sender(text: str) -> None:
    if not SENDER.fullmatch(text):
        raise InvalidSettingError(f"MAIL_FROM must be like Microblog <post@example.com>, not {text!r}.")


def _folder(url: URL) -> Path:
    """Return the folder for what the service keeps: where the SQLite file is, else `instance`."""
    folder = ROOT / "instance"
    if url.drivername == "sqlite":
        folder = Path(str(url.database)).parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettingError(f"Cannot make the folder {folder}: {error.strerror}.") from None
        if not os.access(folder, os.W_OK):
            raise InvalidSettingError(f"Cannot write in the folder {folder}.")
    return folder


def _kept_secret(path: Path) -> str:
    """Return the secret kept in a file; make it, readable by its owner alone, where there is none.

    The file appears whole or not at all, so that processes that start together agree on one secret.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(draft, "x", opener=_private, encoding="ascii") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # Another process was first.
                path.hardlink_to(draft)
            draft.unlink()
        return path.read_text("ascii")
    except OSError as error:
        raise InvalidSettingError(f"Cannot keep a secret in {path}: {error.strerror}.") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
