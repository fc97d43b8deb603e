"""Run a command in a virtual machine that has Bluetooth: `python3 -m tests.system.vm run -- CMD`.

A user-mode Linux (no KVM needed), the host's root read-only below a tmpfs, no
network. The command's output comes back line by line with a prefix, its exit
code is ours. See docs/system-tests.md. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from tests.system import image, systemd_prepare

PREFIX: Final = "vm| "
RUNS: Final = image.CACHE / "runs"
KEPT_RUNS: Final = 20
BOOT_S: Final = 60.0
"""How long the machine may take until the guest's part begins to speak."""
GRACE_S: Final = 45.0
"""On top of the command's own time: the services before it and the power-off after it."""
COMMAND_S: Final = 600.0
TIMED_OUT: Final = 124
BROKEN: Final = 125
INTERRUPTED: Final = 130
"""Exit code when the machine itself failed, not the command (as in `timeout` and `env`)."""
CONSOLE_TAIL: Final = 25
PYTEST: Final = (
    *("-m", "system", "-s", "-v", "-l", "--tb=short", "--color=no", "--durations=15"),
    # imports are what takes long in there
    *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:pytest_cov"),
)
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What to do in the guest. radio: one controller, bluetoothd, powered on, before the command.

    timeout_s: of the command. monitor: btmon writes down everything between kernel and radio.
    systemd: as PID 1, with the bus, udev and bluetoothd as Debian's units start them.
    """

    command: Sequence[str]
    radio: bool = True
    monitor: bool = False
    systemd: bool = False
    timeout_s: float = COMMAND_S
    memory_mb: int = 2048
    python: str = ""
    disk: str = ""
    """A file of the host that is the machine's first disk."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the machine is to end, too
    try:
        if options.what == "prepare":
            made = image.prepare()
            print(f"kernel {made.version} is {made.kernel}")
            return 0
        command = [word for word in options.command if word != "--"]
        if options.what == "test":
            command = [python(), "-m", "pytest", *PYTEST, *(command or _tests(options.systemd))]
        job = Job(
            *(command, options.radio and not options.systemd, options.monitor, options.systemd),
            *(options.timeout, options.memory, python()),
        )
        return run(job)
    except image.PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return BROKEN
    except KeyboardInterrupt:  # the machine has been ended on the way here
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.system.vm", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("prepare", help="install, download and unpack what is needed, no more")
    for name, text in (
        ("run", "boot, start bluetoothd on one virtual controller, run the command, power off"),
        ("test", "the same for pytest -m system; the tests make their controllers themselves"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--timeout", type=float, default=COMMAND_S, help="seconds")
        command.add_argument("--memory", type=int, default=2048, help="megabytes")
        command.add_argument(
            "--monitor", action="store_true", help="btmon writes btmon.txt: all HCI and MGMT"
        )
        command.add_argument("--systemd", action="store_true", help="systemd is PID 1")
        command.add_argument(
            "--radio",
            action=argparse.BooleanOptionalAction,
            default=name == "run",
            help="a controller and bluetoothd before the command starts",
        )
        command.add_argument("command", nargs=argparse.REMAINDER, metavar="...")
    return parser


def _tests(systemd: bool) -> list[str]:
    """What is tested when nothing is named."""
    if systemd:
        return sorted(str(path) for path in image.INIT.parent.glob("test_systemd*.py"))
    return ["tests/system"]


def run(job: Job) -> int:
    """Boot, run, power off. Returns the command's exit code, TIMED_OUT or BROKEN."""
    made = image.prepare()
    if job.systemd:
        systemd_prepare.prepare()
    image.compile_python(job.python or python())
    share = make_share()
    describe(job, share)
    started = time.monotonic()
    machine = Machine(job, made, share)
    try:
        code = machine.wait()
    finally:
        machine.kill()
    took = time.monotonic() - started
    print(f"{PREFIX}exit code {code} after {took:.0f} s in all; files in {share}", flush=True)
    return code


class Machine:
    """One user-mode Linux with all its processes; dies with us.

    line: what is at the other end of its second serial line; else that is the third.
    environment: of the kernel, on top of what every one has.
    """

    def __init__(
        self,
        job: Job,
        made: image.Image,
        share: Path,
        *,
        line: socket.socket | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._job = job
        self._share = share
        self._spoke = threading.Event()
        output, theirs = os.pipe()
        cable = socket.socketpair()
        if line is not None:
            cable = (line, cable[1])
        with (share / "console.log").open("wb") as console:
            self._linux = subprocess.Popen(
                _linux_command(job, made, share, theirs, [end.fileno() for end in cable]),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(theirs, *(end.fileno() for end in cable)),
                env={"TMPDIR": "/dev/shm", "PATH": os.defpath, **(environment or {})},  # noqa: S108 - the guest's memory
                start_new_session=True,  # ^C is for us: we then end the machine
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads yet
            )
        os.close(theirs)
        for end in cable:
            end.close()
        self._reader = threading.Thread(
            target=self._echo, args=(output,), name="output", daemon=True
        )
        self._reader.start()

    def wait(self) -> int:
        """Until it has powered off, or its time is over."""
        booted = self._wait_for_first_word()
        try:
            if booted:
                self._linux.wait(self._job.timeout_s + GRACE_S)
        except subprocess.TimeoutExpired:
            print(f"{PREFIX}the machine does not end: killed", file=sys.stderr)
            return TIMED_OUT
        finally:
            self.kill()
        self._reader.join(5)
        try:
            return int((self._share / "exit-code").read_text())
        except (OSError, ValueError):
            self._explain()
            return BROKEN

    def _wait_for_first_word(self) -> bool:
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline and self._linux.poll() is None:
            if self._spoke.wait(0.2):
                return True
        return self._spoke.is_set()

    def _explain(self) -> None:
        lines = (self._share / "console.log").read_text(errors="replace").splitlines()
        for line in lines[-CONSOLE_TAIL:]:
            print(f"console.log| {line}", file=sys.stderr)
        print(f"error: the machine broke down; see {self._share}", file=sys.stderr)

    def _echo(self, output: int) -> None:
        with os.fdopen(output, "rb") as lines:
            for line in lines:
                self._spoke.set()
                _print_line(line, sys.stdout)

    def kill(self) -> None:
        """Make sure that nothing is left running: the guest's processes are the host's, too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._linux.pid, signal.SIGKILL)
        self._linux.wait()


def _print_line(line: bytes, out: TextIO) -> None:
    text = line.decode(errors="replace").rstrip("\r\n")
    print(f"{PREFIX}{text}", file=out, flush=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _linux_command(
    job: Job, made: image.Image, share: Path, output: int, cable: list[int]
) -> list[str]:
    return [
        str(made.kernel),
        f"mem={job.memory_mb}M",
        *("rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/busybox"),
        *("loglevel=5", "panic=-1", f"umid=gatewayd-{os.getpid()}", f"uml_dir={share}"),
        # the console is the kernel's log, the serial line the command's output
        *("con=null", "con0=null,fd:1", "ssl=null", f"ssl0=null,fd:{output}"),
        # a cable from the second line to the third
        *(f"ssl1=fd:{cable[0]}", f"ssl2=fd:{cable[1]}"),
        *([f"ubd0={job.disk}"] if job.disk else []),
        *("--", "sh", str(image.INIT), str(share)),
    ]


def make_share() -> Path:
    """The one directory that both sides write to: the job goes in, logs and exit code come out."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for old in sorted(RUNS.iterdir())[: -KEPT_RUNS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    share = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    share.mkdir()
    return share


def describe(job: Job, share: Path) -> None:
    """What the guest's part of the harness is to do."""
    (share / "job.json").write_text(
        json.dumps(
            {
                "command": list(job.command),
                "radio": job.radio,
                "monitor": job.monitor,
                "systemd": job.systemd,
                "timeout_s": job.timeout_s,
                "environment": _environment(),
            }
        )
    )
    values = {
        "CHECKOUT": image.CHECKOUT,
        "PYTHON": job.python or python(),
        "SYSTEMD": "yes" if job.systemd else "",
    }
    (share / "job.sh").write_text(
        "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    )


def _environment() -> dict[str, str]:
    """What the command sees besides PATH and HOME: our own variables, nothing secret."""
    return {name: value for name, value in os.environ.items() if name.startswith("GATEWAYD_")}


def python() -> str:
    """The interpreter that has our dependencies."""
    ours = image.CHECKOUT / ".venv" / "bin" / "python"
    return str(ours) if ours.exists() else sys.executable


if __name__ == "__main__":
    sys.exit(main())
