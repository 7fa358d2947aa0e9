"""The service under the load of a social network, for a moment instead of the ten minutes in `docs/`."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from api.app import create_app
from api.auth.authentication import passwords
from api.config import Config
from api.db import db, utc_now
from api.dev.seed import seed
from benchmarks.mix import CALLERS, OPERATIONS, OTHERS
from benchmarks.servers import SECRET, Server
from benchmarks.soak import soak
from tests.support.server import COSTLY_PASSWORDS, UNLIMITED, running_server


def test_the_load_is_that_of_a_social_network() -> None:
    reads = sum(operation.share for operation in OPERATIONS if operation.is_read)

    assert reads == 90
    assert sum(operation.share for operation in OPERATIONS) == pytest.approx(100)


@pytest.mark.slow
def test_no_request_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_server(tmp_path, **COSTLY_PASSWORDS, **UNLIMITED) as running, ThreadPoolExecutor(1) as loads:
        app = create_app(Config(DATABASE_URL=f"sqlite:///{tmp_path}/microblog.db"))
        with app.app_context():
            seed(
                users=CALLERS + OTHERS,
                posts=500,
                follows=None,
                likes=None,
                password_hash=passwords().hash(SECRET),
                until=utc_now(),
                random_seed=1,
                force=False,
            )
            db.session.commit()
            db.engine.dispose()
        process = psutil.Process(running.pid)
        soak(Server("service", running.port, process, tmp_path / "server.log"), loads, seconds=1, share=0.5)

    printed = capsys.readouterr().out
    assert "\nFailures: none." in printed, printed
    assert re.search(r"^\| all \| 100 % \| \d+ ", printed, re.MULTILINE)
    assert re.search(r"^Memory: .* \(.*flat\)\.$", printed, re.MULTILINE)
