"""A daemon that systemd runs is stopped for a step, and runs afterwards, whatever ends the step."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatewayd.stand_in import UNIT, Daemon

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no systemd")
SYSTEMCTL = """#!/bin/sh
# one unit, which is as the file beside this says
cd "$(dirname "$0")" || exit 1
echo "$@" >> asked
case "$1" in
    show) cat state ;;
    stop) echo inactive > state ;;
    start) [ ! -e broken ] && echo active > state ;;
esac
"""
STEP = """
import sys
from pathlib import Path
from gatewayd.stand_in import Daemon
where = Path(sys.argv[1])
with Daemon(where / "gatewayd.toml", where, str(where / "systemctl")).aside(
    where / "gatewayd.toml", lambda _: None
):
    print("under way", flush=True)
    sys.stdin.read()
"""
STOPPED = "gatewayd stops for this: no phone opens a door until it runs again"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "state").write_text("active\n")
    return tmp_path


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def daemon(machine: Path) -> Daemon:
    return Daemon(machine / "gatewayd.toml", machine, str(machine / "systemctl"))


def state(machine: Path) -> str:
    return (machine / "state").read_text().strip()


def asked(machine: Path) -> list[str]:
    return (machine / "asked").read_text().split("\n") if (machine / "asked").exists() else []


@pytest.mark.parametrize("before", ["active", "activating", "reloading", "deactivating"])
def test_a_daemon_that_runs_or_is_tried_stands_aside(machine: Path, before: str) -> None:
    (machine / "state").write_text(f"{before}\n")
    said: list[str] = []
    with daemon(machine).aside(machine / "gatewayd.toml", said.append):
        assert state(machine) == "inactive"
        assert not daemon(machine).runs(machine / "gatewayd.toml")
    assert daemon(machine).runs(machine / "gatewayd.toml")
    assert said == [STOPPED, "gatewayd runs again"]
    assert f"stop {UNIT}" in asked(machine)


def test_a_step_that_fails_gives_the_place_back(machine: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        daemon(machine).aside(machine / "gatewayd.toml", lambda _: None),
    ):
        raise KeyboardInterrupt
    assert state(machine) == "active"


def test_a_step_that_is_killed_gives_it_back_too(machine: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, as the step does")
    with subprocess.Popen(
        [sys.executable, "-c", STEP, machine], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as step:
        assert step.stdout is not None
        assert step.stdout.readline() == b"under way\n"
        assert state(machine) == "inactive"
        step.kill()
    deadline = time.monotonic() + 60
    while state(machine) != "active" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state(machine) == "active"


def test_a_daemon_that_does_not_come_back_is_told_of(machine: Path) -> None:
    (machine / "broken").touch()
    said: list[str] = []
    with daemon(machine).aside(machine / "gatewayd.toml", said.append):
        pass
    assert said[1:] == ["gatewayd does not start again: journalctl -u gatewayd says why"]


@pytest.mark.parametrize("at_rest", ["inactive", "failed", ""])
def test_a_daemon_that_does_not_run_is_not_started(machine: Path, at_rest: str) -> None:
    (machine / "state").write_text(at_rest)
    with daemon(machine).aside(machine / "gatewayd.toml", pytest.fail):
        pass
    assert not any(word.startswith(("start", "stop")) for word in asked(machine))


def test_nobody_but_root_and_no_other_gateway_stops_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(machine).aside(machine / "other.toml", pytest.fail):
        pass
    with Daemon(machine / "gatewayd.toml", machine / "absent").aside(
        machine / "gatewayd.toml", pytest.fail
    ):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with daemon(machine).aside(machine / "gatewayd.toml", pytest.fail):
        pass
    assert state(machine) == "active"
    assert asked(machine) == []
