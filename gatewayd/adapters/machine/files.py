"""What files say: main.conf, rfkill, real-time clocks, journald, users."""

from __future__ import annotations

import os
import pwd
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gatewayd.core.diagnosis_bluez import MAIN_CONF, key_file
from gatewayd.core.diagnosis_host import Access, Chip, Clock, Journal, State
from gatewayd.core.findings import number
from gatewayd.ports.machine import NotSeenError

USER: Final = "gatewayd"
POLICIES: Final = (
    "usr/share/dbus-1/system.d/gatewayd.conf",
    "etc/dbus-1/system.d/gatewayd.conf",
)
FOR_EVERYBODY: Final = "etc/dbus-1/system-local.conf"
HELPER: Final = "run/gatewayd-radio-helper.socket"
FORGETS: Final = "timers.target.wants/gatewayd-bluetooth-cache.timer"
"""The link that `systemctl enable` makes."""
JOURNALD: Final = (
    "usr/lib/systemd/journald.conf.d", "run/systemd/journald.conf.d", "etc/systemd/journald.conf.d",
)  # fmt: skip

BLUETOOTH: Final = "bluetooth.service"
DAEMON: Final = "gatewayd.service"
_CONFIG_FILE: Final = re.compile(r" (?:-f|--configfile[ =]) *(/[\w./+-]{1,200})(?: |$)", re.ASCII)
UNITS: Final = ("usr/lib/systemd/system", "run/systemd/system", "etc/systemd/system")
"""Those that count most come last."""


def read(path: Path) -> str | None:
    """The text of a small file; None where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def main_conf(root: Path) -> str:
    """The file with bluetoothd's settings: another where its unit says so (bluetoothd(8))."""
    told = _CONFIG_FILE.search(_bluetooth(root, "ExecStart", "") or "")
    return told[1] if told else MAIN_CONF


def settings(root: Path, name: str) -> str:
    """Their text. A bluetoothd without any has its defaults, which is as good as an empty one."""
    path = root / name.lstrip("/")
    text = read(path)
    if text is None and path.exists():
        raise NotSeenError(f"{path} cannot be read", "ask as root: sudo")
    return text or ""


def blocked(root: Path) -> tuple[str, ...]:
    """The Bluetooth adapters that rfkill holds."""
    found = []
    for directory in sorted((root / "sys/class/rfkill").glob("*")):
        soft, hard = read(directory / "soft"), read(directory / "hard")
        if (read(directory / "type") or "").strip() == "bluetooth" and "1" in f"{soft}{hard}":
            found.append((read(directory / "name") or directory.name).strip())
    return tuple(found)


def clock(root: Path, *, promised: bool | None) -> Clock:
    """Every real-time clock."""
    directory = root / "sys/class/rtc"
    chips = tuple(_chip(each) for each in sorted(directory.glob("rtc*")))
    return Clock(chips, int(time.time()), promised)


def _chip(directory: Path) -> Chip:
    name = (read(directory / "name") or directory.name).strip()
    return Chip(name, number((read(directory / "since_epoch") or "").strip()))


def restart(root: Path) -> str | None:
    """`Restart=` of bluetoothd's unit; None: no unit."""
    return _bluetooth(root, "Restart", "no")


def _bluetooth(root: Path, key: str, default: str) -> str | None:
    """A setting of its unit's service, drop-ins included (systemd.unit(5)); None: no unit."""
    units = [root / each / BLUETOOTH for each in UNITS]
    main = next((each for each in reversed(units) if each.is_file()), None)
    if main is None:
        return None
    return _last(
        main, [each.with_name(f"{BLUETOOTH}.d") for each in units], "Service", key, default
    )


def journal(root: Path) -> Journal:
    """journald.conf and its drop-ins."""
    if not (root / "etc/systemd").is_dir():
        raise NotSeenError("there is no systemd here")
    main = root / "etc/systemd/journald.conf"
    storage = _last(main, [root / each for each in JOURNALD], "Journal", "Storage", "auto")
    return Journal(storage.lower(), (root / "var/log/journal").is_dir())


def unit(root: Path) -> dict[str, tuple[str, ...]]:
    """The service settings of the daemon's unit, as systemd adds them up."""
    units = [root / each / DAEMON for each in UNITS]
    main = next((each for each in reversed(units) if each.is_file()), None)
    if main is None:
        raise NotSeenError(f"there is no {DAEMON} here", "install the package")
    found: dict[str, tuple[str, ...]] = {}
    for path in _drop_ins(main, [each.with_name(f"{DAEMON}.d") for each in units]):
        for key, value in _assigned(read(path) or "", "Service"):
            found[key] = (*found.get(key, ()), value) if value else ()
    return found


def _assigned(text: str, wanted: str) -> Iterator[tuple[str, str]]:
    """Every assignment of a section (systemd.syntax(7))."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == wanted and "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def _last(main: Path, directories: list[Path], section: str, key: str, value: str) -> str:
    """A setting of systemd's, in the order in which files count; `value` is its default."""
    for path in _drop_ins(main, directories):
        value = key_file(read(path) or "").get((section, key), value)
    return value


def _drop_ins(main: Path, directories: list[Path]) -> list[Path]:
    """A file and those that add to it; of two with one name the later directory's counts."""
    drop_ins: dict[str, Path] = {}
    for directory in directories:
        drop_ins.update({each.name: each for each in directory.glob("*.conf")})
    return [main, *(drop_ins[name] for name in sorted(drop_ins))]


def access(root: Path, state: Path) -> Access:
    """Users, policies, and whose the log's directory is."""
    users = (read(root / "etc/passwd") or "").splitlines()
    return Access(
        user=any(each.startswith(f"{USER}:") for each in users),
        policy=any((root / each).is_file() for each in POLICIES)
        and "org.bluez" in (read(root / FOR_EVERYBODY) or ""),
        helper=(root / HELPER).exists(),
        forgets=any((root / each / FORGETS).is_symlink() for each in UNITS),
        state=_state(state),
    )


def _state(state: Path) -> State | None:
    try:
        status = state.stat()
    except OSError:
        return None
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    return State(os.fspath(state), owner, stat.S_IMODE(status.st_mode))
