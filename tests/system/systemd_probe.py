"""What a process can do here, tried out: one line per attempt, `name: ok` or how it failed.

Run by Debian's Python inside and outside of the units' sandboxes. Standard
library only, and a file of its own: it is copied to where the unit can read it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

NEW_UTS = 0x04000000
LINUX32 = 0x0008
libc = ctypes.CDLL(None, use_errno=True)


def called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def write(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("x")
    if path.endswith("probe"):
        Path(path).unlink()


def read(path: str) -> None:
    with Path(path).open("rb") as file:
        file.read(16)


def address_family(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def suid_file() -> None:
    path = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/gatewayd")) / "suid"
    path.write_text("")
    try:
        path.chmod(0o4700)
    finally:
        path.unlink()


def writable_code() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def others() -> None:
    if not Path("/proc/1/status").exists():
        raise FileNotFoundError(errno.ENOENT, "")


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write /etc": lambda: write("/etc/gatewayd/probe"),
    "write /var/lib": lambda: write("/var/lib/probe"),
    "write the state": lambda: write("/var/lib/gatewayd/probe"),
    "read a key's file": lambda: read("/etc/gatewayd/gateway.pem"),
    "read a credential": lambda: read("/run/credentials/gatewayd.service/gateway.pem"),
    "list homes": lambda: os.listdir("/root"),  # noqa: PTH208 - listed at once
    "see other processes": others,
    "read the boot id": lambda: read("/proc/sys/kernel/random/boot_id"),
    "internet socket": lambda: address_family(socket.AF_INET, socket.SOCK_STREAM),
    "netlink socket": lambda: address_family(socket.AF_NETLINK, socket.SOCK_RAW),
    "Bluetooth socket": lambda: address_family(31, socket.SOCK_RAW, 1),
    "local socket": lambda: address_family(socket.AF_UNIX, socket.SOCK_STREAM),
    "GPIO chip": lambda: os.close(os.open("/dev/gpiochip0", os.O_RDWR)),
    "serial line": lambda: os.close(os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)),
    "writable code": writable_code,
    "SUID file": suid_file,
    "namespace": lambda: called(libc.unshare(NEW_UTS)),
    "other personality": lambda: called(libc.personality(LINUX32)),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "change root": lambda: os.chroot("/"),
    "be nicer": lambda: os.nice(1),
}


def outcome(attempt: Callable[[], object]) -> str:
    """`ok`, the error's name, or the signal: in a child, as system calls may be deadly."""
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return signal.Signals(-code).name
    return errno.errorcode.get(code, str(code)) if code else "ok"


def main(path: str) -> None:
    lines = [f"{name}: {outcome(attempt)}\n" for name, attempt in ATTEMPTS.items()]
    Path(path).write_text("".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
