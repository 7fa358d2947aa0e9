"""Every setting with its default, meaning and validation; the only reader of the environment."""

import hmac
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlsplit

import limits
import orjson
from dotenv import dotenv_values
from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import OneOf, Range, Regexp
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent.parent
API_PREFIX = "/api/v1"
# The values of the setting `RENDERER`.
RENDERERS = {
    "sql_json": "api.rendering.sql_json:SQLJSONRenderer",
    "reference": "api.rendering.reference:ReferenceRenderer",
}
SENDER = r'([^<>()@,;:"\[\]\\\x00-\x1f\x7f]*<)?[\w.+-]+@[\w.-]+(?(1)>)\Z'
# Origins as browsers send them (RFC 6454, section 6.2): no path, and no port if it is the scheme's default.
# Pages of apps and browser extensions have other schemes, but none of those special in the URL standard.
ORIGIN = re.compile(
    r"((http://(?!.*:80$)|https://(?!.*:443$))([a-z0-9.-]+|\[[0-9a-f:]+\])"
    r"|(?!(https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*://[A-Za-z0-9._~-]+)(:[1-9][0-9]{0,4})?"
)

DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
TEST_DOMAINS = "test,example,invalid,localhost"  # RFC 2606, section 2.


def threads_of_one_kind(threads: int) -> int:
    """Return how many of a worker's threads requests of one kind hold at most (`api/server.py`)."""
    return max(1, threads // 2)


def text(
    default: str,
    meaning: str,
    *validators: Callable[[str], object],
    post_load: Callable[[str], object] | None = None,
) -> fields.String:
    """Declare a setting that is text."""
    return fields.String(
        load_default=default, metadata={"meaning": meaning}, validate=validators, post_load=post_load
    )


def choice(options: Iterable[str], meaning: str) -> fields.String:
    """Declare a setting that is one of some words, by default the first."""
    default, *others = options
    return text(
        default, meaning, OneOf([default, *others], error="must be one of: {choices}; not {input!r}.")
    )


def number(default: int, meaning: str, *, minimum: int = 1, maximum: int = 999_999_999) -> fields.Integer:
    """Declare a setting that is a whole number."""
    error = f"must be a whole number from {minimum} to {maximum}, not {{input!r:.40}}."
    return fields.Integer(
        load_default=default,
        metadata={"meaning": meaning},
        validate=Range(minimum, maximum, error=error),
        error_messages={"invalid": error},
    )


def rate_limit(default: str, meaning: str) -> fields.String:
    """Declare a rate limit."""
    return text(default, meaning, _ensure_rate_limit)


def page_url(meaning: str) -> fields.String:
    """Declare the URL of a page of the front end, into which a token is inserted."""
    error = "must begin with http:// or https:// and contain {{token}}."
    return text("", meaning, Regexp(r"(https?://[!-~]*\{token\}[!-~]*)?\Z", error=error))


def _ensure_rate_limit(value: str) -> None:
    with suppress(ValueError):
        first, *others = limits.parse_many(value)
        if first.amount > 0 and not others:
            return
    raise ValidationError(f"must be written like 300/minute or 10/15 minutes, not {value!r}.")


def _ensure_mail_url(value: str) -> None:
    with suppress(ValueError):
        url = urlsplit(value)
        is_server = url.scheme in {"smtp", "smtps"} and url.hostname and url.port != 0
        if not value or (is_server and not (url.path.strip("/") or url.query or url.fragment)):
            return
    raise ValidationError(
        "must be like smtp://user:password@host:587 or smtps://host, with special characters of the password "
        "percent-encoded."
    )


def _normalize_origins(value: str) -> str:
    """Return a list of origins as browsers send them, separated by commas."""
    origins = []
    for written in value.split(","):
        scheme, separator, host = written.strip().partition("://")
        scheme = scheme.lower()
        # Browsers write the host of a web page in lower case, and leave that of an app as it is.
        origin = scheme + separator + (host.lower() if scheme in {"http", "https"} else host)
        if origin and not ORIGIN.fullmatch(origin):
            raise ValidationError(f"must be origins such as https://app.example.com, not {origin!r}.")
        origins.append(origin)
    return ",".join(filter(None, origins))


def _normalize_domains(value: str) -> str:
    """Return a list of domains in lower case, separated by commas."""
    domains = [domain.strip().lower() for domain in value.split(",") if domain.strip()]
    for domain in domains:
        if not DOMAIN.fullmatch(domain):
            raise ValidationError(f"must be domains such as corp.local, not {domain!r}.")
    return ",".join(domains)


def _secret_keys(value: str) -> list[str]:
    """Parse a JSON list of secret keys."""
    with suppress(ValueError):
        keys = orjson.loads(value or "[]")
        if isinstance(keys, list) and all(isinstance(key, str) and len(key) >= 32 for key in keys):
            return keys
    raise ValidationError('must be a JSON list of keys, each with at least 32 characters: ["former key"].')


def _database_url(value: str) -> URL:
    """Parse a database URL, which may list several hosts as those of libpq do: `host1:5432,host2`."""
    listed = re.fullmatch(r"(\w+://(?:[^@]*@)?)([^/?@]*,[^/?@]*)([/?].*)?", value)
    if listed is None:
        return make_url(value)
    start, servers, rest = listed.groups()
    hosts, ports = zip(*(_host_and_port(server) for server in servers.split(",")), strict=True)
    url = make_url(start + (rest or ""))
    return url.update_query_dict({"host": ",".join(hosts), "port": ",".join(ports)})


def _host_and_port(server: str) -> tuple[str, str]:
    parts = re.fullmatch(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:]*))(?::(?P<port>\d*))?", server)
    if parts is None:
        raise ValueError(server)
    return parts["ipv6"] or parts["host"], parts["port"] or ""


def _normalize_database_url(value: str) -> str:
    """Return the URL with the driver named or the path absolute; create the folder of an SQLite database."""
    try:
        url = _database_url(value)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number.
        raise ValidationError("is not a database URL.") from None
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername != "sqlite" or url.database in {None, "", ":memory:"}:
        raise ValidationError("must begin with sqlite:///file or postgresql://.")
    url = url.set(database=str(ROOT / str(url.database)))
    folder = _storage_folder(url)
    _ensure_folder(folder)
    return url.render_as_string()


def _replica_urls(value: str) -> list[str]:
    """Parse a list of PostgreSQL URLs, separated by spaces or commas, each of one server."""
    written = re.split(r"[\s,]+(?=[\w+]+://)", value.strip()) if value.strip() else []
    if not all(url.startswith("postgres") for url in written):
        raise ValidationError("must be PostgreSQL URLs, separated by spaces.")
    urls = [_normalize_database_url(url) for url in written]
    if any("," in str(make_url(url).query.get("host", "")) for url in urls):
        raise ValidationError("must have one host in each URL.")
    return urls


def _ensure_folder(folder: Path, setting: str = "_schema") -> None:
    """Create a folder that a setting needs, unless it exists."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ValidationError(
            f"needs the folder {folder}, which cannot be created: {error.strerror}.", setting
        ) from None
    if not os.access(folder, os.W_OK):
        raise ValidationError(f"needs the folder {folder}, which is not writable.", setting)


def _storage_folder(url: URL) -> Path:
    """Return the folder of the service's own files: that of the SQLite database, or `instance`."""
    return Path(str(url.database)).parent if url.drivername == "sqlite" else ROOT / "instance"


class SettingsSchema(Schema):
    """The settings. To add one, add a line here and a row to docs/settings.md."""

    error_messages = {"unknown": "is not a setting."}

    ENVIRONMENT = choice(
        ["development", "production"],
        "`production` requires a `SECRET_KEY`; `development` generates one.",
    )
    SECRET_KEY = text(
        "",
        "Signs tokens and cursors; at least 32 characters. In development, generated beside the database.",
        Regexp(r"(.{32,})?\Z", re.DOTALL, error="must have at least 32 characters."),
    )
    SECRET_KEY_FALLBACKS = text(
        "",
        "Other keys whose signatures are accepted, as a JSON list: former keys, while `SECRET_KEY` is being "
        "replaced.",
        post_load=_secret_keys,
    )
    PUBLIC_URL = text(
        "",
        "URL of the service as callers see it, such as `https://api.example.com`. Without it, URLs in the "
        "contract and in problem documents are relative.",
        Regexp(r"(https?://[^\s/?#]+(/[^\s?#]*)?)?(?<!/)\Z", error="must be like https://api.example.com."),
    )
    DATABASE_URL = text(
        "sqlite:///instance/microblog.db",
        "`sqlite:///file` or `postgresql://user:password@host/name`.",
        post_load=_normalize_database_url,
    )
    DATABASE_REPLICA_URLS = text(
        "",
        "Replicas of a PostgreSQL database, one server each, separated by spaces: requests that only read "
        "use them ([postgresql.md](postgresql.md#replicas)).",
        post_load=_replica_urls,
    )
    HOST = text("127.0.0.1", "Address to listen on.")
    PORT = number(8000, "Port to listen on.", maximum=65_535)
    WORKERS = number(1, "Worker processes.")
    THREADS = number(
        4,
        "Threads in each worker process for reads that may wait; half as many more run writes, on SQLite "
        "one.",
    )
    REQUEST_SECONDS = number(10, "Longest time in which a client sends a request body.")
    STOP_SECONDS = number(15, "Longest time that running requests get to finish when the server stops.")
    TRUSTED_PROXIES = number(
        0,
        "Proxies in front that set `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`, or "
        "`Forwarded`; 0 ignores the headers.",
        minimum=0,
    )
    CORS_ORIGINS = text(
        "",
        "Origins whose pages may call the API, separated by commas: `https://app.example.com`, or of apps "
        "and browser extensions: `capacitor://localhost`.",
        post_load=_normalize_origins,
    )
    RENDERER = choice(
        RENDERERS,
        "How rows become JSON: `sql_json` has the database write it, `reference` uses the ORM and "
        "marshmallow; the responses are the same.",
    )
    RATE_LIMIT_READS = rate_limit("600/minute", "Reads by an account or, without a token, from an address.")
    RATE_LIMIT_WRITES = rate_limit("120/minute", "Writes by an account or, without a token, from an address.")
    RATE_LIMIT_SIGN_IN = rate_limit(
        "60/minute", "Sign-ins, token refreshes, password resets and redeemed email tokens from an address."
    )
    RATE_LIMIT_SIGN_IN_FAILURES = rate_limit(
        "10/15 minutes", "Wrong passwords for an account from an address, at sign-in and below `/me`."
    )
    RATE_LIMIT_ACCOUNT_FAILURES = rate_limit(
        "100/hour",
        "Wrong passwords for an account, except from addresses where it signed in within the last 30 days.",
    )
    RATE_LIMIT_REGISTRATION = rate_limit("60/hour", "Registrations from an address.")
    RATELIMIT_STORAGE_URL = text(
        "memory://",
        "Where requests are counted: `redis://host`, or each worker process by itself with `memory://`.",
        Regexp(r"(memory://|rediss?://\S+)\Z", error="must be memory:// or begin with redis://."),
    )
    RATELIMIT_STORAGE_PREFIX = text(
        "",
        "Begins the keys in Redis, so that deployments can share it. Without it, derived from `SECRET_KEY` "
        "and `DATABASE_URL`; processes of one deployment that have different URLs of its database need it.",
        Regexp(
            r"[A-Za-z0-9._:-]{0,64}\Z", error="must be at most 64 letters, digits, dots, colons and dashes."
        ),
    )
    ACCESS_TOKEN_SECONDS = number(900, "Lifetime of an access token.")
    REFRESH_TOKEN_SECONDS = number(2_592_000, "Lifetime of a session after its last refresh (30 days).")
    REFRESH_GRACE_SECONDS = number(
        10, "How long a used refresh token still returns the current tokens.", minimum=0
    )
    PASSWORD_HASH_MEMORY = number(19_456, "Memory of Argon2id for each password, in KiB.", minimum=8)
    PASSWORD_HASH_TIME = number(2, "Passes of Argon2id over that memory.")
    DATABASE_TIMEOUT_SECONDS = number(
        5,
        "Longest wait for a thread, a connection, a lock or an unreachable database host. On PostgreSQL, a "
        "statement may take twice as long.",
    )
    MAIL_URL = text(
        "",
        "`smtp://user:password@host:587` (encrypted if the server supports it; required for a password) or "
        "`smtps://user:password@host:465`. Without it, emails are printed to standard output.",
        _ensure_mail_url,
    )
    MAIL_FROM = text(
        "Microblog <microblog@localhost>",
        "`From` address of outgoing email.",
        Regexp(SENDER, re.ASCII, error="must be like Microblog <post@example.com>, not {input!r}."),
    )
    PRIVATE_EMAIL_DOMAINS = text(
        "",
        "Domains that are not public but may be those of email addresses, with their subdomains: "
        "`corp.local,localhost`. In development, the default is the names reserved for tests: "
        "`test,example,invalid,localhost`.",
        post_load=_normalize_domains,
    )
    PASSWORD_RESET_URL = page_url(
        "Page of the front end where users choose a new password: `https://app.example/reset#{token}`. "
        "Without it, the email contains the token only."
    )
    EMAIL_VERIFICATION_URL = page_url("Page of the front end that verifies an email address, in this form.")
    METRICS_TOKEN = text(
        "",
        "Serves metrics at `/metrics` to callers that send this bearer token; at least 32 letters, digits "
        "and `-._~+/`. Without it, there are none.",
        Regexp(
            r"([A-Za-z0-9._~+/-]{32,}=*)?\Z", error="must have at least 32 letters, digits and -._~+/ only."
        ),
    )
    METRICS_FOLDER = text(
        "",
        "Where the processes of the service record metrics, best in memory (`/run/microblog`). Without it, "
        "the folder `metrics` beside the SQLite database, or in `instance`.",
    )
    OTEL_EXPORTER_OTLP_ENDPOINT = text(
        "",
        "Exports traces to the OpenTelemetry collector at this URL, such as `http://127.0.0.1:4318`, by OTLP "
        "over HTTP; needs the extra `tracing`. Without it, there are none.",
        Regexp(r"(https?://[^\s/?#]+(/[^\s?#]*)?)?\Z", error="must be like http://127.0.0.1:4318."),
    )
    OTEL_SERVICE_NAME = text("microblog", "Name of the service in traces.")

    @validates_schema(skip_on_field_errors=False)
    def ensure_secret_key_in_production(self, settings: dict[str, Any], **_options: object) -> None:
        """Require a secret key in production."""
        if settings.get("ENVIRONMENT") == "production" and settings.get("SECRET_KEY") == "":
            raise ValidationError("must be set in production.", "SECRET_KEY")

    @validates_schema
    def ensure_tracing_is_installed(self, settings: dict[str, Any], **_options: object) -> None:
        """Require the packages of the extra `tracing` if traces are exported."""
        if settings["OTEL_EXPORTER_OTLP_ENDPOINT"] and find_spec("opentelemetry") is None:
            raise ValidationError(
                "needs the packages in requirements-tracing.lock.", "OTEL_EXPORTER_OTLP_ENDPOINT"
            )

    @validates_schema
    def ensure_replicas_of_postgresql(self, settings: dict[str, Any], **_options: object) -> None:
        """Refuse replicas of an SQLite database."""
        if settings["DATABASE_REPLICA_URLS"] and settings["DATABASE_URL"].startswith("sqlite"):
            raise ValidationError("needs a DATABASE_URL of PostgreSQL.", "DATABASE_REPLICA_URLS")

    @post_load
    def add_derived_settings(self, settings: dict[str, Any], **_options: object) -> dict[str, Any]:
        """Use a secret key and a folder beside the database, and a prefix of this deployment, by default."""
        url = make_url(settings["DATABASE_URL"])
        if not settings["SECRET_KEY"]:
            settings["SECRET_KEY"] = _stored_secret(_storage_folder(url))
        if not settings["RATELIMIT_STORAGE_PREFIX"]:
            settings["RATELIMIT_STORAGE_PREFIX"] = _deployment_prefix(settings["SECRET_KEY"], url)
        if settings["METRICS_TOKEN"]:
            folder = ROOT / (settings["METRICS_FOLDER"] or _storage_folder(url) / "metrics")
            _ensure_folder(folder, "METRICS_FOLDER")
            settings["METRICS_FOLDER"] = str(folder)
        return settings

    @post_load
    def allow_test_domains(self, settings: dict[str, Any], **_options: object) -> dict[str, Any]:
        """In development, allow email addresses for tests if the setting does not say otherwise."""
        if settings["ENVIRONMENT"] == "development":
            settings["PRIVATE_EMAIL_DOMAINS"] = settings["PRIVATE_EMAIL_DOMAINS"] or TEST_DOMAINS
        return settings


SETTINGS: Mapping[str, fields.Field[Any]] = SettingsSchema().fields


class Config(SimpleNamespace):
    """The settings as attributes. Each is named like the environment variable that sets it."""

    def __init__(self, **settings: object) -> None:
        """Validate settings; those not given have their defaults.

        Raises marshmallow's ValidationError with all mistakes.
        """
        # Defaults are passed as input: marshmallow would not normalize them.
        defaults = {name: field.load_default for name, field in SETTINGS.items()}
        super().__init__(**SettingsSchema().load(defaults | settings))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> Self:
        """Read the settings from the environment, and those not set there from a folder's `.env`.

        An empty value counts as not set. Ends the process with one line for each mistake.
        """
        if environment is None:
            dotenv = _read_dotenv(folder / ".env")
            environment = {**dotenv, **os.environ}
            # The SDK of OpenTelemetry reads its variables from the environment of the process.
            os.environ |= {name: environment[name] for name in dotenv if name.startswith("OTEL_")}
        try:
            return cls(**{name: environment[name] for name in SETTINGS if environment.get(name)})
        except ValidationError as error:
            sys.exit("\n".join(f"{name} {mistake}" for name, [mistake] in error.messages_dict.items()))


def _deployment_prefix(secret: str, url: URL) -> str:
    """Return a prefix that all processes of a deployment have, and no other deployment; it reveals nothing.

    Deployments may have the same secret (copied settings), or the same URL (in separate networks). The
    database's user and password are left out: they may change, or differ between processes.
    """
    database = url._replace(username=None, password=None).render_as_string(hide_password=False)
    return f"microblog-{hmac.digest(secret.encode(), database.encode(), 'sha256').hex()[:16]}"


def _read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables in a file, if it exists. Ends the process with one line if it is not readable."""
    if not path.is_file():
        return {}  # A folder `.env` is a virtual environment.
    try:
        content = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        content = "\0"
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}.")
    if "\0" in content:  # UTF-16 without a mark of the byte order is valid UTF-8.
        sys.exit(f"{path} is not in UTF-8; save it in this encoding.")
    return {name: value for name, value in dotenv_values(stream=StringIO(content)).items() if value}


def _stored_secret(folder: Path) -> str:
    """Return the secret in a file that only its owner can read; generate it if the file does not exist.

    The file appears with its content, so that processes that start together use the same secret.
    """
    path = folder / "secret_key"
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with NamedTemporaryFile("w", dir=folder) as draft:
                draft.write(secrets.token_urlsafe(48))
                draft.flush()
                os.fsync(draft.fileno())
                with suppress(FileExistsError):  # Another process was first.
                    path.hardlink_to(draft.name)
        secret = path.read_text("ascii")
    except OSError as error:
        raise ValidationError(f"cannot be stored in {path}: {error.strerror}.", "SECRET_KEY") from None
    if len(secret) < 32:
        raise ValidationError(f"in {path} must have at least 32 characters.", "SECRET_KEY")
    return secret
