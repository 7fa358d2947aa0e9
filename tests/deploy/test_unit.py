"""The systemd unit and its environment file: systemd accepts them, and they agree with the service."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from sqlalchemy import make_url

from api.config import ROOT, SETTINGS, Config

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "microblog.service"
HOME, STATE = "/opt/microblog", "/var/lib/microblog"
# Of 10, by the count of `systemd-analyze security`.
EXPOSURE_MAXIMUM = 1.5

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


def directives(name: str) -> list[str]:
    """Return the values of a directive of the unit."""
    found: list[str] = re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    return found


def analyze(*arguments: str) -> tuple[int, str]:  # pragma: no cover -- needs systemd
    """Run `systemd-analyze`; return its exit status and what it prints."""
    ended = subprocess.run(
        [str(shutil.which("systemd-analyze")), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


@pytest.mark.slow
@needs_systemd
class TestSystemd:  # pragma: no cover -- needs systemd
    def test_finds_no_mistake(self, tmp_path: Path) -> None:
        unit = tmp_path / UNIT.name
        unit.write_text(UNIT.read_text("utf-8").replace(HOME, str(ROOT)), "utf-8")

        assert analyze("verify", "--man=no", str(unit)) == (0, "")

    def test_finds_no_mistake_in_an_instance(self, tmp_path: Path) -> None:
        unit = tmp_path / "microblog@8000.service"
        text = UNIT.read_text("utf-8").replace(HOME, str(ROOT)).partition("[Install]")[0]
        unit.write_text(text + (DEPLOY / "microblog-instance.conf").read_text("utf-8"), "utf-8")

        assert analyze("verify", "--man=no", str(unit)) == (0, "")

    def test_finds_mistakes_of_other_units(self, tmp_path: Path) -> None:
        unit = tmp_path / UNIT.name
        unit.write_text(UNIT.read_text("utf-8").replace(HOME, str(tmp_path)), "utf-8")

        assert "is not executable" in analyze("verify", "--man=no", str(unit))[1]

    def test_finds_little_exposure(self) -> None:
        status, printed = analyze(
            "security", "--offline=true", f"--threshold={10 * EXPOSURE_MAXIMUM:.0f}", "--no-pager", str(UNIT)
        )

        assert status == 0, printed


def test_it_migrates_the_database_before_it_serves() -> None:
    flask = f"{HOME}/.venv/bin/flask"

    assert directives("ExecStartPre") == [f"{flask} db upgrade"]
    assert directives("ExecStart") == [f"{flask} serve"]
    assert directives("WorkingDirectory") == [HOME]
    assert directives("TimeoutStartSec") == ["infinity"]


def test_running_requests_have_time_to_finish() -> None:
    [seconds] = directives("TimeoutStopSec")

    assert int(seconds.removesuffix("s")) > SETTINGS["STOP_SECONDS"].load_default
    assert directives("KillMode") == ["mixed"]


def test_the_environment_file_has_settings_of_production(tmp_path: Path) -> None:
    settings = {name: value for name, value in dotenv_values(DEPLOY / "microblog.env").items() if value}
    database = Path(str(make_url(str(settings["DATABASE_URL"])).database))

    assert database == Path(STATE) / "microblog.db"
    assert directives("StateDirectory") == [Path(STATE).name]
    settings |= {"SECRET_KEY": 48 * "x", "DATABASE_URL": f"sqlite:///{tmp_path / database.name}"}
    config = Config(**settings)  # Accepts nothing that is not a setting.
    assert (config.ENVIRONMENT, config.TRUSTED_PROXIES) == ("production", 1)


def test_the_environment_file_has_no_secret() -> None:
    (DEPLOY / "microblog.env").read_text("utf-8").index("\nSECRET_KEY=\n")
