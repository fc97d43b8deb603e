"""Lays out what systemd, as PID 1 of the virtual machine, starts: run by init just before it.

The machine's root is the host's, with everything that somebody installed there
and enabled. Of that nothing is to start but what a gateway has: journald, udevd
and the bus, and what these start when it is asked for, as Debian ships them.
Standard library only.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

UNITS: Final = Path("/etc/systemd/system")
SHIPPED: Final = Path("/lib/systemd/system")
WANTED: Final = {
    "sysinit.target": ("systemd-journald.service", "systemd-udevd.service"),
    "sockets.target": (
        *("dbus.socket", "systemd-journald.socket", "systemd-journald-dev-log.socket"),
        *("systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    ),
}
TARGET: Final = "system-tests.target"
SERVICE: Final = "system-tests.service"

TARGET_UNIT: Final = f"""\
[Unit]
Description=System tests
Requires=basic.target
Wants={SERVICE}
After=basic.target
AllowIsolate=yes
"""
# -immediate: systemd's own tidying is not what is tested, and could hang
SERVICE_UNIT: Final = """\
[Unit]
Description=System tests
After=basic.target dbus.socket
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
Type=oneshot
WorkingDirectory={checkout}
ExecStart={python} -m tests.system.guest {share}
StandardInput=null
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
# what a test leaves running ends with the machine
KillMode=process
TimeoutStartSec=infinity
"""
JOURNAL: Final = """\
[Journal]
Storage=volatile
RateLimitIntervalSec=0
"""


def lay_out(python: str, checkout: str, share: str) -> None:
    """Forget what the host enabled; write our target. For a root that is forgotten afterwards."""
    for directory in (UNITS, SHIPPED):
        for kind in ("wants", "requires"):
            for links in directory.glob(f"*.{kind}"):
                shutil.rmtree(links)
    # of a host that is a container; the machine is none, whatever its root says
    # (the last would read all of the host's manual, and hostfs keeps a descriptor for every page)
    for mark in ("/.dockerenv", "/usr/sbin/policy-rc.d", "/var/lib/man-db/auto-update"):
        Path(mark).unlink(missing_ok=True)
    # what could be downloaded, if there were a network, takes apt seconds to read
    shutil.rmtree("/var/lib/apt/lists", ignore_errors=True)
    for cache in Path("/var/cache/apt").glob("*.bin"):
        cache.unlink()
    # they would mount the host's disks and start its terminals
    shutil.rmtree("/lib/systemd/system-generators")
    for target, units in WANTED.items():
        links = UNITS / f"{target}.wants"
        links.mkdir()
        for unit in units:
            (links / unit).symlink_to(SHIPPED / unit)
    # as Debian's bluez is installed: udev starts it when an adapter appears, or the bus
    (UNITS / "bluetooth.target.wants").mkdir()
    (UNITS / "bluetooth.target.wants" / "bluetooth.service").symlink_to(
        SHIPPED / "bluetooth.service"
    )
    service = SERVICE_UNIT.format(python=python, checkout=checkout, share=share)
    (UNITS / SERVICE).write_text(service)
    (UNITS / TARGET).write_text(TARGET_UNIT)
    settings = Path("/etc/systemd/journald.conf.d")
    settings.mkdir(exist_ok=True)
    (settings / "system-tests.conf").write_text(JOURNAL)


if __name__ == "__main__":
    lay_out(*sys.argv[1:])
