"""Fixtures of the rate-limit tests."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, needs_redis


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of each back end in turn: the memory of the process, and a Redis server."""
    redis = RedisServer(tmp_path)
    with redis.running() if request.param == "redis" else nullcontext():
        yield redis.url if request.param == "redis" else "memory://"
