"""Settings: each is read, checked and explained."""

import os
import re
import stat
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

import pytest

from api.config import ROOT, Config, InvalidSettingError

SECRET = "s" * 32


def config_from(**environment: str) -> Config:
    """Return the settings that an environment gives."""
    return Config.from_environment(
        {"DATABASE_URL": "postgresql://host/name", "SECRET_KEY": SECRET} | environment
    )


def secret_beside(url: str) -> str:
    """Return the secret that a process finds beside a database."""
    return Config(DATABASE_URL=url).SECRET_KEY


def test_numbers_and_texts_are_read() -> None:
    config = config_from(PORT="8080", HOST="0.0.0.0", ENVIRONMENT="production")  # noqa: S104 -- not bound.

    assert (config.PORT, config.HOST, config.ENVIRONMENT) == (8080, "0.0.0.0", "production")  # noqa: S104


def test_what_is_not_set_or_empty_has_its_default() -> None:
    assert config_from(PORT="").PORT == 8000


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
        ("sqlite:///instance/x.db", f"sqlite:///{ROOT}/instance/x.db"),
    ],
)
def test_database_addresses_are_taken_as_people_write_them(url: str, expected: str) -> None:
    config = config_from(DATABASE_URL=url)

    assert config.DATABASE_URL == expected


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
def test_settings_for_mail_are_taken_as_people_write_them(environment: dict[str, str]) -> None:
    config = config_from(**environment)

    assert environment.items() <= vars(config).items()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"PORT": "abc"}, "PORT must be a whole number of at least 1, not 'abc'."),
        ({"PORT": "0"}, "PORT must be a whole number of at least 1, not '0'."),
        ({"PORT": "65536"}, "PORT must be at most 65535, not 65536."),
        ({"THREADS": "-1"}, "THREADS must be a whole number of at least 1, not '-1'."),
        ({"WORKERS": "²"}, "WORKERS must be a whole number of at least 1, not '²'."),
        ({"WORKERS": "9" * 5000}, "WORKERS must be a whole number of at least 1"),
        ({"RATE_LIMIT_READS": "many"}, "RATE_LIMIT_READS must be written like 300/minute or"),
        ({"RATE_LIMIT_WRITES": "0/minute"}, "RATE_LIMIT_WRITES must be written like 300/minute or"),
        ({"RATE_LIMIT_SIGN_IN": "1/second;2/hour"}, "RATE_LIMIT_SIGN_IN must be written like 300/minute"),
        ({"RATELIMIT_STORAGE_URL": "memcached://:secret@host"}, "RATELIMIT_STORAGE_URL must be memory:// or"),
        ({"RATELIMIT_STORAGE_URL": "redis://"}, "RATELIMIT_STORAGE_URL must be memory:// or"),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS must be origins such as https://app.example.com, not '*'."),
        ({"CORS_ORIGINS": "https://a.example/"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "https://a.example, null"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "https://a.example:443"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "http://a.example:80"}, "CORS_ORIGINS must be origins such as"),
        ({"CORS_ORIGINS": "a.example"}, "CORS_ORIGINS must be origins such as"),
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT must be development or production, not 'prod'."),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 32 characters."),
        ({"SECRET_KEY": "", "ENVIRONMENT": "production"}, "SECRET_KEY must be set in production."),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL is not a database's address."),
        ({"DATABASE_URL": "mysql://host/name"}, "DATABASE_URL must begin with"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL must begin with"),
        ({"DATABASE_URL": "sqlite:////dev/null/x/y.db"}, "Cannot make the folder /dev/null/x"),
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
        ({"PASSWORD_RESET_URL": "https://app.example/reset"}, "PASSWORD_RESET_URL must begin with https://"),
        ({"PASSWORD_RESET_URL": "javascript:{token}"}, "PASSWORD_RESET_URL must begin with https://"),
        ({"EMAIL_VERIFICATION_URL": "https://app.example/ {token}"}, "EMAIL_VERIFICATION_URL must begin"),
    ],
)
def test_what_cannot_be_used_ends_the_start_with_one_line(
    environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(InvalidSettingError, match=re.escape(complaint)) as refused:
        config_from(**environment)

    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # The tests may run as root.

    with pytest.raises(InvalidSettingError, match="Cannot write in the folder"):
        config_from(DATABASE_URL=f"sqlite:///{tmp_path}/x.db")


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("https://App.example", "https://app.example"),
        (" https://a.example , http://localhost:5173,", "https://a.example,http://localhost:5173"),
        ("http://[::1]:8080,http://a.example:443", "http://[::1]:8080,http://a.example:443"),
        (",", ""),
    ],
)
def test_origins_are_taken_as_people_write_them(written: str, origins: str) -> None:
    assert config_from(CORS_ORIGINS=written).CORS_ORIGINS == origins


@pytest.mark.parametrize("limit", ["10/15 minutes", "10 per 15 minutes", "1/day", "1000000/SECOND"])
def test_limits_are_taken_as_people_write_them(limit: str) -> None:
    assert limit == config_from(RATE_LIMIT_READS=limit).RATE_LIMIT_READS


@pytest.mark.parametrize("url", ["memory://", "redis://host", "rediss://:secret@host:6380/1"])
def test_counts_are_kept_in_memory_or_in_redis(url: str) -> None:
    assert url == config_from(RATELIMIT_STORAGE_URL=url).RATELIMIT_STORAGE_URL


class TestSecretKey:
    def test_is_made_beside_the_database_for_its_owner_alone_and_kept(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/new/x.db"

        secret = secret_beside(url)

        kept = tmp_path / "new" / "secret_key"
        assert len(secret) >= 32
        assert secret == kept.read_text("ascii") == secret_beside(url)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert [path.name for path in kept.parent.iterdir()] == ["secret_key"]

    def test_is_one_for_all_processes_that_start_together(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/x.db"

        with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as processes:
            secrets = set(processes.map(secret_beside, [url] * 16))

        assert len(secrets) == 1

    def test_that_was_kept_but_is_too_short_ends_the_start_with_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "secret_key").touch()

        with pytest.raises(InvalidSettingError, match="must have at least 32 characters"):
            secret_beside(f"sqlite:///{tmp_path}/x.db")

    def test_that_cannot_be_kept_ends_the_start_with_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "secret_key").mkdir()

        with pytest.raises(InvalidSettingError, match="Cannot keep a secret in"):
            secret_beside(f"sqlite:///{tmp_path}/x.db")


def test_the_readme_has_every_setting_with_its_default_and_meaning() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = []
    for known in fields(Config):
        default = f"`{known.default}`" if known.default != "" else ""
        rows.append(f"| `{known.name}` | {default} | {known.metadata['meaning']} |")

    assert "\n".join(rows) in readme
