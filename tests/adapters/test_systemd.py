"""sd_notify, against a socket of our own."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.adapters.systemd import Nobody, Systemd, from_environment, watchdog_interval_s


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(1)
        yield listening


def test_every_call_is_one_datagram(ear: socket.socket) -> None:
    supervisor = from_environment({"NOTIFY_SOCKET": str(ear.getsockname())})
    assert isinstance(supervisor, Systemd)
    supervisor.ready()
    supervisor.status("two doors\nREADY=0")
    supervisor.alive()
    supervisor.stopping()
    supervisor.close()
    heard = [ear.recv(500) for _ in range(4)]
    # a line break in a status must not become a second assignment
    assert heard == [b"READY=1", b"STATUS=two doors\\nREADY=0", b"WATCHDOG=1", b"STOPPING=1"]


def test_abstract_addresses() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # Linux autobind: an abstract name of its choosing
        listening.settimeout(1)
        name = listening.getsockname()
        assert isinstance(name, bytes)
        supervisor = Systemd("@" + name[1:].decode())
        supervisor.ready()
        supervisor.close()
        assert listening.recv(50) == b"READY=1"


def test_nobody_listens_and_nothing_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Systemd(str(tmp_path / "absent"))
    with caplog.at_level(logging.WARNING):
        supervisor.alive()
    supervisor.close()
    assert "systemd was not told WATCHDOG" in caplog.text


def test_without_systemd_every_call_is_harmless() -> None:
    supervisor = from_environment({})
    assert isinstance(supervisor, Nobody)
    supervisor.ready()
    supervisor.status("unheard")
    supervisor.alive()
    supervisor.stopping()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], interval: float | None) -> None:
    assert watchdog_interval_s(environment) == interval
