"""Settings: reading, validation, and their documentation."""

import os
import re
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from marshmallow import ValidationError

from api.config import ROOT, SETTINGS, Config
from tests.support.processes import ModuleProcess

SECRET = "s" * 32


def config_from(**environment: str) -> Config:
    """Return the settings for an environment."""
    return Config.from_environment(
        {"DATABASE_URL": "postgresql://host/name", "SECRET_KEY": SECRET} | environment
    )


def secret_beside(url: str) -> str:
    """Return the secret key that a process uses with a database."""
    return str(Config(DATABASE_URL=url).SECRET_KEY)


def test_numbers_and_texts_are_read() -> None:
    config = config_from(PORT="8080", HOST="0.0.0.0", ENVIRONMENT="production")  # noqa: S104 -- not bound.

    assert (config.PORT, config.HOST, config.ENVIRONMENT) == (8080, "0.0.0.0", "production")  # noqa: S104


def test_a_setting_that_is_unset_or_empty_has_its_default() -> None:
    config = config_from(PORT="")

    assert (config.PORT, config.ENVIRONMENT) == (8000, "development")


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"PORT=8001\nHOST=::1\nSECRET_KEY={SECRET}\nWORKERS\n", "utf-8")
    monkeypatch.setenv("PORT", "8002")
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/name")

    config = Config.from_environment(folder=tmp_path)

    assert (config.HOST, config.PORT, config.WORKERS) == ("::1", 8002, 1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://ann:pw@host/name", "postgresql+psycopg://ann:pw@host/name"),
        ("postgresql://host/name", "postgresql+psycopg://host/name"),
        ("postgresql+psycopg://host/name", "postgresql+psycopg://host/name"),
        (
            "postgres://ann:p%2Cw@one,two:5433,[::1]:5434/name?target_session_attrs=read-write",
            "postgresql+psycopg://ann:p%2Cw@/name"
            "?host=one%2Ctwo%2C%3A%3A1&port=%2C5433%2C5434&target_session_attrs=read-write",
        ),
        ("postgresql://ann:p,w@host/name?a=b", "postgresql+psycopg://ann:p%2Cw@host/name?a=b"),
        ("postgresql://one,two", "postgresql+psycopg://?host=one%2Ctwo&port=%2C"),
        ("sqlite:///instance/x.db", f"sqlite:///{ROOT}/instance/x.db"),
        ("sqlite:///instance/x,y.db", f"sqlite:///{ROOT}/instance/x%2Cy.db"),
    ],
)
def test_database_urls_are_accepted_in_every_common_form(url: str, expected: str) -> None:
    config = config_from(DATABASE_URL=url)

    assert config.DATABASE_URL == expected


@pytest.mark.parametrize("separator", [" ", ",", "\n , "])
def test_urls_of_replicas_are_separated_by_spaces_or_commas(separator: str) -> None:
    urls = [f"postgresql+psycopg://ann:p%2Cw@host{number}/name" for number in (1, 2)]

    config = config_from(DATABASE_REPLICA_URLS=separator.join(urls))

    assert config.DATABASE_REPLICA_URLS == urls


@pytest.mark.parametrize(
    "environment",
    [
        {"MAIL_URL": "smtp://localhost"},
        {"MAIL_URL": "smtp://localhost:25/"},
        {"MAIL_URL": "smtps://post%40example.com:p%23%2F@mail.example.com:465"},
        {"MAIL_FROM": "post@example.com"},
        {"MAIL_FROM": "Übersicht & Co. <post+blog@example.com>"},
        {"PASSWORD_RESET_URL": "http://localhost:3000/?token={token}&lang=en"},
    ],
)
def test_valid_mail_settings_are_accepted(environment: dict[str, str]) -> None:
    config = config_from(**environment)

    assert environment.items() <= vars(config).items()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"PORT": "abc"}, "PORT must be a whole number from 1 to 65535, not 'abc'."),
        ({"PORT": "0"}, "PORT must be a whole number from 1 to 65535, not 0."),
        ({"PORT": "65536"}, "PORT must be a whole number from 1 to 65535, not 65536."),
        ({"THREADS": "-1"}, "THREADS must be a whole number from 1 to 999999999, not -1."),
        ({"WORKERS": "²"}, "WORKERS must be a whole number from 1 to 999999999, not '²'."),
        ({"WORKERS": "9" * 5000}, "WORKERS must be a whole number from 1 to 999999999"),
        ({"RATE_LIMIT_READS": "many"}, "RATE_LIMIT_READS must be written like 300/minute or"),
        ({"RATE_LIMIT_WRITES": "0/minute"}, "RATE_LIMIT_WRITES must be written like 300/minute or"),
        ({"RATE_LIMIT_SIGN_IN": "1/second;2/hour"}, "RATE_LIMIT_SIGN_IN must be written like 300/minute"),
        ({"RATELIMIT_STORAGE_URL": "memcached://:secret@host"}, "RATELIMIT_STORAGE_URL must be memory:// or"),
        ({"RATELIMIT_STORAGE_URL": "redis://"}, "RATELIMIT_STORAGE_URL must be memory:// or"),
        ({"RATELIMIT_STORAGE_PREFIX": "{blog}"}, "RATELIMIT_STORAGE_PREFIX must be at most 64 letters"),
        ({"RATELIMIT_STORAGE_PREFIX": "a" * 65}, "RATELIMIT_STORAGE_PREFIX must be at most 64 letters"),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS must be origins such as https://app.example.com, not '*'."),
        ({"CORS_ORIGINS": "https://a.example/"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "https://a.example, null"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "https://a.example:443"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "http://a.example:80"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "a.example"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "capacitor://"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "capacitor://localhost/"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "chrome-extension://*"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "*://localhost"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "file://host"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "wss://a.example"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "app://a@b"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "javascript:alert(1)"}, "CORS_ORIGINS must be origins such as"),
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT must be one of: development, production; not 'prod'."),
        ({"RENDERER": "fast"}, "RENDERER must be one of:"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 32 characters."),
        ({"SECRET_KEY": "", "ENVIRONMENT": "production"}, "SECRET_KEY must be set in production."),
        ({"SECRET_KEY_FALLBACKS": SECRET}, "SECRET_KEY_FALLBACKS must be a JSON list of keys, each with at"),
        ({"SECRET_KEY_FALLBACKS": '"' + SECRET + '"'}, "SECRET_KEY_FALLBACKS must be a JSON list of keys"),
        ({"SECRET_KEY_FALLBACKS": '["short"]'}, "SECRET_KEY_FALLBACKS must be a JSON list of keys"),
        ({"SECRET_KEY_FALLBACKS": "[" * 5000}, "SECRET_KEY_FALLBACKS must be a JSON list of keys"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL is not a database URL."),
        ({"DATABASE_URL": "postgresql://host:port/name"}, "DATABASE_URL is not a database URL."),
        ({"DATABASE_URL": "postgresql://one:5432,two:port/name"}, "DATABASE_URL is not a database URL."),
        ({"DATABASE_URL": "mysql://host/name"}, "DATABASE_URL must begin with"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL must begin with"),
        ({"DATABASE_URL": "sqlite:////dev/null/x/y.db"}, "DATABASE_URL needs the folder /dev/null/x"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be like"),
        ({"DATABASE_REPLICA_URLS": "sqlite:///x.db"}, "DATABASE_REPLICA_URLS must be PostgreSQL URLs"),
        ({"DATABASE_REPLICA_URLS": "postgresql://a:port"}, "DATABASE_REPLICA_URLS is not a database URL."),
        ({"DATABASE_REPLICA_URLS": "postgresql://a,b/c"}, "DATABASE_REPLICA_URLS must have one host in each"),
        (
            {"DATABASE_URL": "sqlite:///x.db", "DATABASE_REPLICA_URLS": "postgresql://host/name"},
            "DATABASE_REPLICA_URLS needs a DATABASE_URL of PostgreSQL.",
        ),
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN must have at least 32 letters, digits and -._~+/ only."),
        (
            {"METRICS_TOKEN": SECRET.replace(" ", "-"), "METRICS_FOLDER": "/dev/null/x"},
            "METRICS_FOLDER needs the folder /dev/null/x",
        ),
        ({"MAIL_URL": "mail.example.com"}, "MAIL_URL must be like smtp://user:password@host:587"),
        ({"MAIL_URL": "http://mail.example.com"}, "MAIL_URL must be like"),
        ({"MAIL_URL": "smtp://"}, "MAIL_URL must be like"),
        ({"MAIL_URL": "smtp://host:0"}, "MAIL_URL must be like"),
        ({"MAIL_URL": "smtp://host:65536"}, "MAIL_URL must be like"),
        ({"MAIL_URL": "smtp://user:se/cret@host"}, "MAIL_URL must be like"),
        ({"MAIL_URL": "smtps://user:se#cret@host"}, "MAIL_URL must be like"),
        ({"MAIL_URL": "smtp://host?tls=no"}, "MAIL_URL must be like"),
        ({"MAIL_FROM": "Microblog"}, "MAIL_FROM must be like Microblog <post@example.com>, not 'Microblog'."),
        ({"MAIL_FROM": "post@"}, "MAIL_FROM must be like"),
        ({"MAIL_FROM": "a@example.com, b@example.com"}, "MAIL_FROM must be like"),
        ({"MAIL_FROM": "Microblog <post@example.com"}, "MAIL_FROM must be like"),
        ({"MAIL_FROM": "Microblog\nBcc: eve@example.com <post@example.com>"}, "MAIL_FROM must be like"),
        (
            {"PASSWORD_RESET_URL": "https://app.example/reset"},
            "PASSWORD_RESET_URL must begin with http:// or https:// and contain {token}.",
        ),
        (
            {"PASSWORD_RESET_URL": "javascript:{token}"},
            "PASSWORD_RESET_URL must begin with http:// or https:// and contain {token}.",
        ),
        (
            {"PRIVATE_EMAIL_DOMAINS": "a b"},
            "PRIVATE_EMAIL_DOMAINS must be domains such as corp.local",
        ),
        ({"PRIVATE_EMAIL_DOMAINS": "corp.local, .local"}, "PRIVATE_EMAIL_DOMAINS must be domains such as"),
        ({"PRIVATE_EMAIL_DOMAINS": "ann@corp.local"}, "PRIVATE_EMAIL_DOMAINS must be domains such as"),
        ({"EMAIL_VERIFICATION_URL": "https://app.example/ {token}"}, "EMAIL_VERIFICATION_URL must begin"),
    ],
)
def test_an_invalid_setting_ends_the_process_with_one_line(
    environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        config_from(**environment)

    line = str(refused.value)
    assert line.startswith(complaint)
    assert "\n" not in line
    assert len(line) < 150
    assert "secret" not in line


def test_all_mistakes_are_reported_at_once_without_a_traceback(
    start_module: Callable[..., ModuleProcess],
) -> None:
    environment = {"PORT": "abc", "THREADS": "0", "ENVIRONMENT": "production", "SECRET_KEY": ""}
    environment |= {"MAIL_URL": "http://mail", "DATABASE_URL": "sqlite:////dev/null/x/y.db"}

    process = start_module("flask", "--app", "wsgi", "routes", **environment)

    assert process.end() == 1
    assert [line.partition(" ")[0] for line in process.lines()] == [
        "DATABASE_URL",
        "PORT",
        "THREADS",
        "MAIL_URL",
        "SECRET_KEY",
    ]


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not a setting"):
        Config(DATABASE_URL="postgresql://host/name", SECRET_KEY=SECRET, PROT=8000)


def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # The tests may run as root.

    with pytest.raises(SystemExit, match=r"^DATABASE_URL needs the folder .*, which is not writable\.$"):
        config_from(DATABASE_URL=f"sqlite:///{tmp_path}/x.db")


def test_traces_need_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(SystemExit, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT needs the packages in .*lock\.$"):
        config_from(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")


def test_the_variables_of_opentelemetry_may_be_in_dotenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = {
        "DATABASE_URL": "postgresql://host/name",
        "SECRET_KEY": SECRET,
        "OTEL_TRACES_SAMPLER": "always_off",
    }
    monkeypatch.setattr(os, "environ", process.copy())
    (tmp_path / ".env").write_text("OTEL_TRACES_SAMPLER=always_on\nOTEL_PROPAGATORS=none\nX=1\n", "utf-8")

    Config.from_environment(folder=tmp_path)

    assert os.environ == {**process, "OTEL_PROPAGATORS": "none"}


def test_metrics_are_recorded_beside_the_database_unless_a_setting_says_where(tmp_path: Path) -> None:
    url, token = f"sqlite:///{tmp_path}/x.db", "a" * 32

    off = config_from(DATABASE_URL=url)
    beside = config_from(DATABASE_URL=url, METRICS_TOKEN=token)
    elsewhere = config_from(DATABASE_URL=url, METRICS_TOKEN=token, METRICS_FOLDER=f"{tmp_path}/y")

    folders = [config.METRICS_FOLDER for config in (off, beside, elsewhere)]
    assert folders == ["", f"{tmp_path}/metrics", f"{tmp_path}/y"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"metrics", "y"}


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("https://App.example", "https://app.example"),
        (" https://a.example , http://localhost:5173,", "https://a.example,http://localhost:5173"),
        ("http://[::1]:8080,http://a.example:443", "http://[::1]:8080,http://a.example:443"),
        (",", ""),
        ("http://tauri.localhost,https://localhost", "http://tauri.localhost,https://localhost"),
        ("Capacitor://localhost,ionic://localhost", "capacitor://localhost,ionic://localhost"),
        ("tauri://localhost,app://.,app://obsidian.md", "tauri://localhost,app://.,app://obsidian.md"),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ),
        (
            "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
            "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
        ),
        # The host of a scheme that the URL standard does not know keeps its case.
        (
            "safari-web-extension://0E6A7D8F-29C8-4F4E-8E6B-6C1A0B0A5D2C",
            "safari-web-extension://0E6A7D8F-29C8-4F4E-8E6B-6C1A0B0A5D2C",
        ),
    ],
)
def test_origins_are_normalized(written: str, origins: str) -> None:
    assert config_from(CORS_ORIGINS=written).CORS_ORIGINS == origins


@pytest.mark.parametrize(
    ("environment", "written", "domains"),
    [
        ("development", "", "test,example,invalid,localhost"),
        ("development", " Corp.LOCAL , localhost,", "corp.local,localhost"),
        ("production", "", ""),
        ("production", "localhost", "localhost"),
    ],
)
def test_names_reserved_for_tests_are_email_domains_in_development(
    environment: str, written: str, domains: str
) -> None:
    config = config_from(ENVIRONMENT=environment, SECRET_KEY="a" * 32, PRIVATE_EMAIL_DOMAINS=written)

    assert domains == config.PRIVATE_EMAIL_DOMAINS


@pytest.mark.parametrize("limit", ["10/15 minutes", "10 per 15 minutes", "1/day", "1000000/SECOND"])
def test_valid_rate_limits_are_accepted(limit: str) -> None:
    assert limit == config_from(RATE_LIMIT_READS=limit).RATE_LIMIT_READS


@pytest.mark.parametrize("url", ["memory://", "redis://host", "rediss://:secret@host:6380/1"])
def test_requests_are_counted_in_memory_or_in_redis(url: str) -> None:
    assert url == config_from(RATELIMIT_STORAGE_URL=url).RATELIMIT_STORAGE_URL


class TestStoragePrefix:
    URL = "postgresql://ann:secret@host:5432/name?sslmode=require"

    def prefix(self, url: str = URL, **settings: str) -> str:
        """Return the prefix of a deployment."""
        return str(
            config_from(**{"DATABASE_URL": url, "SECRET_KEY": SECRET, **settings}).RATELIMIT_STORAGE_PREFIX
        )

    def test_differs_between_deployments(self, tmp_path: Path) -> None:
        prefixes = {
            self.prefix(),
            self.prefix(SECRET_KEY=f"{SECRET}, of another"),
            self.prefix("postgresql://ann:secret@host:5432/other"),
            self.prefix("postgresql://ann:secret@other:5432/name"),
            self.prefix("postgresql:///name?host=/run/postgresql"),
            self.prefix(f"sqlite:///{tmp_path}/one.db"),
            self.prefix(f"sqlite:///{tmp_path}/two.db"),
        }

        assert len(prefixes) == 7
        assert all(re.fullmatch("microblog-[0-9a-f]{16}", prefix) for prefix in prefixes)

    @pytest.mark.parametrize(
        "url",
        [
            "postgres://ann:secret@host:5432/name?sslmode=require",
            "postgresql://bob:rotated@host:5432/name?sslmode=require",
        ],
    )
    def test_is_the_same_for_all_processes_of_a_deployment(self, url: str) -> None:
        assert self.prefix(url) == self.prefix()

    def test_can_be_chosen(self) -> None:
        assert self.prefix(RATELIMIT_STORAGE_PREFIX="blog:staging") == "blog:staging"


class TestSecretKey:
    @pytest.mark.parametrize(
        ("written", "keys"),
        [("", []), ("[]", []), (f'["{SECRET}", "{SECRET[1:]},"]', [SECRET, f"{SECRET[1:]},"])],
    )
    def test_can_have_fallbacks(self, written: str, keys: list[str]) -> None:
        assert config_from(SECRET_KEY_FALLBACKS=written).SECRET_KEY_FALLBACKS == keys

    def test_can_have_fallbacks_in_dotenv(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://host/name")
        (tmp_path / ".env").write_text(
            f"SECRET_KEY={SECRET}\nSECRET_KEY_FALLBACKS='[\"{SECRET}\"]'\n", "utf-8"
        )

        assert Config.from_environment(folder=tmp_path).SECRET_KEY_FALLBACKS == [SECRET]

    def test_is_generated_beside_the_database_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/new/x.db"

        secret = secret_beside(url)

        path = tmp_path / "new" / "secret_key"
        assert len(secret) >= 32
        assert secret == path.read_text("ascii") == secret_beside(url)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.slow
    def test_is_the_same_for_all_processes_that_start_together(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/x.db"

        with ProcessPoolExecutor(4, mp_context=get_context("forkserver")) as processes:
            secrets = set(processes.map(secret_beside, [url] * 16))

        assert len(secrets) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]

    def test_is_refused_if_the_stored_one_is_too_short(self, tmp_path: Path) -> None:
        (tmp_path / "secret_key").touch()

        with pytest.raises(SystemExit, match=r"^SECRET_KEY in .* must have at least 32 characters\.$"):
            config_from(SECRET_KEY="", DATABASE_URL=f"sqlite:///{tmp_path}/x.db")

    def test_that_cannot_be_stored_ends_the_process_with_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "secret_key").mkdir()

        with pytest.raises(SystemExit, match=r"^SECRET_KEY cannot be stored in .*: Is a directory\.$"):
            config_from(SECRET_KEY="", DATABASE_URL=f"sqlite:///{tmp_path}/x.db")


def test_the_documentation_lists_every_setting_with_its_default_and_meaning() -> None:
    table = "\n".join(
        f"| `{name}` | {f'`{field.load_default}`' if field.load_default != '' else ''} |"
        f" {field.metadata['meaning']} |"
        for name, field in SETTINGS.items()
    )

    assert f"| --- | --- | --- |\n{table}\n\n" in (ROOT / "docs" / "settings.md").read_text("utf-8")


class TestDotenv:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_may_have_a_byte_order_mark_and_any_line_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, line_end: str
    ) -> None:
        lines = ["PORT=8123", f"DATABASE_URL=sqlite:///{tmp_path}/caf\u00e9.db", ""]
        (tmp_path / ".env").write_bytes(line_end.join(lines).encode(encoding))
        for name in ("PORT", "DATABASE_URL"):
            monkeypatch.delenv(name, raising=False)

        config = Config.from_environment(folder=tmp_path)

        assert config.PORT == 8123
        assert "caf" in config.DATABASE_URL

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
    def test_in_another_encoding_ends_the_process_with_one_line(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / ".env").write_text("PORT=8123 # caf\u00e9\n", encoding)

        with pytest.raises(SystemExit) as ended:
            Config.from_environment(folder=tmp_path)

        assert ended.value.code == f"{tmp_path}/.env is not in UTF-8; save it in this encoding."

    def test_that_cannot_be_read_ends_the_process_with_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_arguments: object) -> None:
            raise PermissionError(13, "Permission denied")  # Root may read every file.

        (tmp_path / ".env").touch()
        monkeypatch.setattr(Path, "read_text", refuse)

        with pytest.raises(SystemExit, match=r"/\.env cannot be read: Permission denied\.$"):
            Config.from_environment(folder=tmp_path)

    def test_that_is_a_folder_is_ignored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".env").mkdir()
        monkeypatch.delenv("PORT", raising=False)

        assert Config.from_environment(folder=tmp_path).PORT == 8000
