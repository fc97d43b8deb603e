"""The guest's part of the harness: services first, then the command, then its exit code.

Started by init as root. Whatever it prints reaches the host's terminal; logs
of the services go to the shared directory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

TIMED_OUT: Final = 124
BROKEN: Final = 125
CANNOT_RUN: Final = 127
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAIN_CONF: Final = Path(__file__).parents[2] / "systemd/bluetooth-main.conf"


def main(share: Path) -> int:
    """Returns what `exit-code` says, too."""
    job = json.loads((share / "job.json").read_text())
    os.environ.clear()
    os.environ.update(
        PATH=f"{Path(sys.executable).parent}:{PATH}",
        HOME="/root",
        LANG="C.UTF-8",
        PYTHONDONTWRITEBYTECODE="1",
        PYTHONUNBUFFERED="1",
        GATEWAYD_VM=str(share),
    )
    os.environ.update(job["environment"])
    try:
        say(f"init done {uptime_s():.0f} s after the kernel")
        services = [] if job["systemd"] else [start_bus(share)]
        if job["monitor"]:
            services.append(start_monitor(share))
        if job["radio"]:
            services += start_radio(share)
        say(f"ready {uptime_s():.0f} s after the kernel")
        code = run(job["command"], job["timeout_s"])
        stop(services)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        code = BROKEN
    (share / "exit-code").write_text(f"{code}\n")
    return code


def say(text: str) -> None:
    """One line for the person in front of the host."""
    print(f"-- {text}", flush=True)


def uptime_s() -> float:
    """Seconds since the kernel began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def start_bus(share: Path) -> subprocess.Popen[bytes]:
    """The system bus, as Debian configures it."""
    Path("/run/dbus").mkdir(exist_ok=True)
    Path("/etc/bluetooth").mkdir(exist_ok=True)
    Path("/etc/bluetooth/main.conf").write_bytes(MAIN_CONF.read_bytes())
    subprocess.run(["dbus-uuidgen", "--ensure"], check=True)
    command = ["dbus-daemon", "--system", "--nofork", "--nopidfile"]
    with (share / "dbus.log").open("wb") as log:
        bus = subprocess.Popen(command, stdout=log, stderr=log)
    _wait_until(Path("/run/dbus/system_bus_socket").exists, "the system bus")
    return bus


def start_monitor(share: Path) -> subprocess.Popen[bytes]:
    """Everything that passes between the kernel and its radios, and between it and bluetoothd.

    As text: with -w, btmon 5.66 ends at the first long ATT answer.
    """
    with (share / "btmon.txt").open("wb") as log:
        return subprocess.Popen(["stdbuf", "-oL", "btmon", "-t"], stdout=log, stderr=log)


def start_radio(share: Path) -> list[subprocess.Popen[bytes]]:
    """One controller with nobody else on its air, and bluetoothd, powered on."""
    with (share / "air.log").open("wb") as log:
        air = subprocess.Popen([sys.executable, "-m", "tests.system.vhci"], stdout=log, stderr=log)
    _wait_until(Path("/sys/class/bluetooth/hci0").exists, "the virtual controller")
    with (share / "bluetoothd.log").open("wb") as log:
        daemon = subprocess.Popen(
            ["/usr/libexec/bluetooth/bluetoothd", "-E", "-n", "-d"], stdout=log, stderr=log
        )
    # it may answer Busy just after it started
    _wait_until(lambda: _bluetoothctl("power", "on"), "a powered adapter")
    return [daemon, air]


def _bluetoothctl(*arguments: str) -> bool:
    done = subprocess.run(
        ["bluetoothctl", "--timeout", "5", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return "succeeded" in done.stdout


def _wait_until(condition: Any, what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no sign of {what} within {seconds:.0f} s")
        time.sleep(0.05)


def run(command: list[str], timeout_s: float) -> int:
    """The command in a process group of its own, so that all of it can be ended."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        say(f"error: {command[0]}: {error.strerror}")
        return CANNOT_RUN
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        say(f"error: not finished after {timeout_s:.0f} s")
        os.killpg(process.pid, signal.SIGABRT)  # pytest prints where it hangs
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return TIMED_OUT
    return code if code >= 0 else 128 - code


def stop(services: list[subprocess.Popen[bytes]]) -> None:
    """Last started, first stopped."""
    for service in reversed(services):
        service.terminate()
        try:
            service.wait(3)
        except subprocess.TimeoutExpired:
            service.kill()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
