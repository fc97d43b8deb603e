"""A machine whose files say what no machine should say: everything is a finding or unknown."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayd import self_test
from gatewayd.adapters.machine import ThisMachine, bus, files
from gatewayd.adapters.machine.wires import WiredLock, WiredRelay, look
from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core.diagnosis import diagnose
from gatewayd.core.diagnosis_unit import OPENINGS, UNIT, Unit
from gatewayd.core.diagnosis_wires import WIRES
from gatewayd.core.findings import Finding, Severity

DIGITS = b"9" * 5000
"""More than Python makes a number of (sys.set_int_max_str_digits)."""
READ = (
    *("sys/class/rfkill/rfkill0/type", "sys/class/rfkill/rfkill0/soft"),
    *("sys/class/rtc/rtc0/name", "sys/class/rtc/rtc0/since_epoch"),
    *("etc/bluetooth/main.conf", "usr/lib/systemd/system/bluetooth.service"),
    *("etc/systemd/system/gatewayd.service", "etc/systemd/system/gatewayd.service.d/a.conf"),
    *("etc/systemd/journald.conf", "etc/systemd/journald.conf.d/a.conf"),
    *("etc/passwd", "etc/dbus-1/system-local.conf", "proc/self/mountinfo", "proc/cmdline"),
    "sys/module/pinctrl_rp1/parameters/persist_gpio_outputs",
)
LINKS = (*READ, "dev/serial/by-id/a", "dev/ttyX", "sys/class/rtc/rtc1", "etc/dbus-1", "dev/loop")
ODD = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([
        DIGITS, b"1" * 19, b"-1", b"\0", b"console=\0", b"console=" + b"x" * 5000, b"console=",
        b"console=../../ttyX", b"[GATT]\nExchangeMTU=" + DIGITS, b"[Service]\nRestart=" + DIGITS,
        b"1 2 3 4 / \\000 - " + DIGITS, b"\xff[Journal]\nStorage=\0",
    ]),
)  # fmt: skip


def plant(root: Path, name: str, data: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def findings(root: Path, version: str = "5.66") -> tuple[Finding, ...]:
    """All that is found on the machine below `root`."""
    path = root / "usr/sbin/bluetoothd"
    plant(root, "usr/sbin/bluetoothd", f"#!/bin/sh\necho {version}\n".encode())
    path.chmod(0o755)

    async def unit(here: ThisMachine) -> Unit:
        return Unit(tuple(OPENINGS), await here.unit())

    async def looked() -> tuple[Finding, ...]:
        here = ThisMachine(root, {"PATH": "/nonexistent"})
        locks = [WiredLock("gate", "/dev/ttyX"), WiredLock("yard", "/dev/loop")]
        relays = [WiredRelay("shed", "chip", 1)]
        return diagnose({
            bluez.VERSIONS: await self_test.seen(here.versions()),
            bluez.SETTINGS: await self_test.seen(here.settings()),
            host.PERMISSIONS: await self_test.seen(here.access(root / "state")),
            UNIT: await self_test.seen(unit(here)),
            host.CLOCK: await self_test.seen(here.clock(promised=True)),
            host.STORAGE: await self_test.seen(here.disk(root / "state", writing=False)),
            host.JOURNAL: await self_test.seen(here.journal()),
            WIRES: look(locks, relays, lambda _chip, _line: "", root),
        })  # fmt: skip

    return asyncio.run(looked())


def of(check: str, found: tuple[Finding, ...]) -> list[Finding]:
    return [each for each in found if each.check == check]


# --- any file, any link -----------------------------------------------------------------
@given(
    st.dictionaries(st.sampled_from(READ), ODD, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(LINKS), st.sampled_from(LINKS), max_size=3),
)
@example({"sys/class/rtc/rtc0/since_epoch": DIGITS}, {})
@example({"proc/cmdline": b"console=tty\0"}, {})
@example({"etc/bluetooth/main.conf": b"[GATT]\nExchangeMTU=" + DIGITS}, {})
@example({"proc/cmdline": b""}, {"dev/serial/by-id/a": "dev/serial/by-id/a"})
@example({"proc/cmdline": b"console=loop"}, {"dev/loop": "dev/loop"})
@example({}, {"etc/dbus-1": "dev/ttyX", "etc/dbus-1/system-local.conf": "dev/ttyX"})
def test_whatever_files_say_nothing_is_raised(
    contents: dict[str, bytes], links: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        plant(root, "dev/ttyX", b"")
        for path, data in contents.items():
            plant(root, path, data)
        for path, target in links.items():
            link = root / path
            if link.is_file():
                link.unlink()
            if not link.exists():
                with contextlib.suppress(OSError):  # a link that leads to a file is above it
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(root / target)
        assert {each.check for each in findings(root)} >= {host.CLOCK, host.STORAGE, WIRES}


@given(st.one_of(st.text(), st.from_regex(r"\A\d+(\.\d+)*"), st.just("5." + "6" * 5000)))
def test_whatever_a_version_is_nothing_is_raised(text: str) -> None:
    assert all(isinstance(each, int) for each in bluez.version(text))
    assert list(bluez.judge_versions(bluez.Versions(text, text)))
    assert list(bluez.judge_settings(bluez.Settings(text, text)))


@given(st.text())
@example('{"data": [{"/": {"i": {"p": {"data": ' + DIGITS.decode() + "}}}}]}")
def test_whatever_busctl_says_it_is_objects_or_it_is_not(text: str) -> None:
    try:
        objects = bus.parse_objects(text)
    except bus.NotSeenError:
        return
    bus.adapters(objects)


# --- disks that take nothing ---------------------------------------------------------------
@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system of its own, mounted with the options that the test names."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", request.param, "gatewayd-test", place]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount, and not everywhere")
    try:
        yield place
    finally:
        subprocess.run(["/bin/umount", place], check=True)


def about_disk(place: Path, *, writing: bool) -> list[tuple[Severity, str, str]]:
    """What the doctor says of it (`writing`), or the daemon when it starts; tmpfs itself apart."""
    look = ThisMachine().disk(place / "state", writing=writing)
    found = of(host.STORAGE, diagnose({host.STORAGE: asyncio.run(self_test.seen(look))}))
    return [
        (each.severity, each.message, each.remedy)
        for each in found
        if "power cut" not in each.message
    ]


@pytest.mark.parametrize("writing", [True, False], ids=["doctor", "start"])
@pytest.mark.parametrize("disk", ["size=64m,ro"], indirect=True)
def test_a_read_only_disk_is_found_with_and_without_writing(disk: Path, writing: bool) -> None:
    (read_only, _), *_ = [each[1:] for each in about_disk(disk, writing=writing)]
    assert f"{disk} is read-only" in read_only
    assert about_disk(disk, writing=writing)[0][0] is Severity.ERROR


@pytest.mark.parametrize("writing", [True, False], ids=["doctor", "start"])
@pytest.mark.parametrize("disk", ["size=64k"], indirect=True)
def test_a_full_disk_is_to_be_emptied_and_not_replaced(disk: Path, writing: bool) -> None:
    (disk / "fill").write_bytes(bytes(64 * 1024))
    ((severity, message, remedy),) = about_disk(disk, writing=writing)
    assert (severity, message) == (Severity.ERROR, f"{disk} has 0 MiB left")
    assert "vacuum" in remedy


@pytest.mark.parametrize("writing", [True, False], ids=["doctor", "start"])
@pytest.mark.parametrize("disk", ["size=64m,nr_inodes=1"], indirect=True)
def test_a_disk_without_room_for_a_file_is_an_error(disk: Path, writing: bool) -> None:
    few, room = about_disk(disk, writing=writing)[::-1]
    assert few[:2] == (Severity.ERROR, f"{disk} has room for 0 more files")
    assert room[:2] == (Severity.WARNING, f"{disk} has 64 MiB left")


# --- what becomes of it -------------------------------------------------------------------
def test_a_clock_that_says_no_time_does_not_know_it(tmp_path: Path) -> None:
    for said in (DIGITS, b"9" * 19, b"", b"-5", "१७".encode(), b"1 2"):
        plant(tmp_path, "sys/class/rtc/rtc0/since_epoch", said)
        assert files.clock(tmp_path, promised=None).chips == (host.Chip("rtc0", None),)
    plant(tmp_path, "sys/class/rtc/rtc0/since_epoch", b"9" * 18)
    (found,) = of(host.CLOCK, findings(tmp_path))
    assert (found.severity, "differ by more" in found.message) == (Severity.WARNING, True)


def test_a_version_without_end_is_none(tmp_path: Path) -> None:
    (found,) = of(bluez.VERSIONS, findings(tmp_path, "5." + "6" * 5000))
    assert (found.severity, "not versions" in found.message) == (Severity.NOT_LOOKED_AT, True)
    assert bluez.version("5.82+rpt") == (5, 82)


def test_a_setting_without_end_is_not_a_safe_one() -> None:
    settings = bluez.Settings(f"[GATT]\nExchangeMTU = {DIGITS.decode()}\n", "5.66")
    said = [each.message for each in bluez.judge_settings(settings)]
    assert any("drops the largest writes" in each for each in said)


def test_a_lock_whose_names_are_a_loop_is_not_there(tmp_path: Path) -> None:
    plant(tmp_path, "proc/cmdline", b"console=loop,115200 console=\0 console=tty1")
    (tmp_path / "dev/serial/by-id").mkdir(parents=True)
    for name in ("dev/loop", "dev/serial/by-id/loop"):
        (tmp_path / name).symlink_to(tmp_path / name)
    (tmp_path / "dev/null").symlink_to("/dev/null")
    seen = look([WiredLock("a", "/dev/loop"), WiredLock("b", "/dev/null")], [], str, tmp_path)  # type: ignore[arg-type] # no relay: nobody asks
    loop, null = seen.serial
    assert "symbolic links" in loop.trouble
    assert (null.trouble, null.steady, null.console) == ("", "", False)
