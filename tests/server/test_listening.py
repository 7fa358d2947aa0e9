"""Where the server listens, and how many connections it holds."""

import resource
import socket
from collections.abc import Iterator
from contextlib import closing

import click
import pytest

from api.server import CONNECTIONS_MAXIMUM, connections_maximum, free_address
from tests.support.server import free_port


@pytest.fixture
def used_port() -> Iterator[int]:
    """A port that is in use."""
    with closing(socket.create_server(("127.0.0.1", 0))) as used:
        yield used.getsockname()[1]


def test_a_port_in_use_is_refused_with_one_line(used_port: int) -> None:
    with pytest.raises(click.ClickException) as refused:
        free_address("127.0.0.1", used_port)

    expected = f"Port {used_port} is in use; choose another, for example PORT={used_port + 1}."
    assert refused.value.message == expected


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_refused_with_one_line(host: str) -> None:
    with pytest.raises(click.ClickException, match=f"^Cannot listen on {host}, port 8000: .*\\.$"):
        free_address(host, 8000)


def test_a_name_stands_for_its_address() -> None:
    assert free_address("localhost", free_port()) in {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (1024, resource.RLIM_INFINITY, 2 * CONNECTIONS_MAXIMUM, CONNECTIONS_MAXIMUM),
        (1024, 1_000_000, 2 * CONNECTIONS_MAXIMUM, CONNECTIONS_MAXIMUM),
        (256, 1024, 1024, 512),
        (500_000, 1_000_000, 500_000, CONNECTIONS_MAXIMUM),
    ],
)
def test_half_of_the_files_that_may_be_open_are_for_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int, connections: int
) -> None:
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))

    assert connections_maximum() == connections
    assert limits == [(raised, hard)]
