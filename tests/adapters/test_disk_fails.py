"""Real disks that fail under a log: full, read-only, with I/O errors, slow; and well again.

Full and read-only are an ext4 of its own in a file, where we may mount one. Errors
and slowness are the kernel's answers to this process's own system calls, changed by
strace, which attaches to it and lets it go again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gatewayd.adapters.sqlite import open_log_file
from gatewayd.core.audit import Leaf
from gatewayd.core.model import EntryKind

ROOT = Path(__file__).parents[2]
NO_STRACE = "strace is not installed, or may not trace here"


class Child:
    """`tests.support.storage_child`, spoken to."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.storage_child", str(state)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == ["ready"]

    def line(self) -> list[str]:
        return self.process.stdout.readline().split()

    def ask(self, word: str, lines: int = 1) -> list[list[str]]:
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return [self.line() for _ in range(lines)]

    def places(self) -> list[str]:
        """Where the two entries of one opening went."""
        return [line[0] for line in self.ask("open", 2)]

    def well(self) -> None:
        """The log becomes well by itself, when it is tried as the daemon tries it."""
        for _ in range(100):
            if self.ask("recover")[0][0] == "well":
                return
            time.sleep(0.05)
        raise AssertionError("the log stays ill")

    def kinds(self) -> list[EntryKind]:
        with open_log_file(self.state / "log.db") as file:
            return [Leaf.decode(row.body).kind for row in file.rows(0, file.size())]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(20) == 0


@contextmanager
def child(state: Path) -> Iterator[Child]:
    running = Child(state)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 8 MB, mounted."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("mounting a disk of one's own takes root and mkfs.ext4")
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(8 * 1024 * 1024)
    assert system("mkfs.ext4", "-q", "-m", "0", image) == 0
    if system("mount", "-o", "loop", image, place):
        pytest.skip("this machine mounts no file as a disk")
    yield place
    assert system("umount", place) == 0


def system(*words: str | Path) -> int:
    return subprocess.run(words, check=False).returncode


def fill(place: Path) -> Path:
    """Until not a byte fits any more."""
    ballast = place / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (65536, 1024):
            with suppress(OSError):
                while file.write(os.urandom(size)):
                    pass
    with suppress(OSError):
        os.sync()
    return ballast


def remount(place: Path, how: str) -> None:
    assert system("mount", "-o", f"remount,{how}", place) == 0


GAP = EntryKind.GAP
OPENING = [EntryKind.INTENT, EntryKind.OUTCOME]


def test_a_disk_that_is_full_and_has_room_again(disk: Path) -> None:
    with child(disk) as daemon:
        assert daemon.places() == ["log", "log"]
        ballast = fill(disk)
        answers = [daemon.ask("open", 2) for _ in range(12)]
        full = [each for each in answers if each[0][0] != "log"]
        assert full, "the write-ahead log still had room in blocks that it owns"
        for intent, outcome in full:
            assert (intent[0], intent[-1]) == ("reserve", "LOG_FULL")
            assert outcome[0] == "reserve"
        assert daemon.ask("recover") == [["ill", "LOG_FULL"]]
        ballast.unlink()
        daemon.well()
        assert daemon.places() == ["log", "log"]
        kinds = daemon.kinds()
        assert kinds.count(EntryKind.OUTCOME) == kinds.count(EntryKind.INTENT) == 14
        assert kinds.count(GAP) == 1


def test_a_disk_that_turns_read_only(disk: Path) -> None:
    """As ext4 does it by itself after an error (errors=remount-ro): from one moment to the next."""
    with child(disk) as daemon:
        assert daemon.places() == ["log", "log"]
        remount(disk, "abort")
        answer = daemon.ask("open")[0]
        assert answer[0] == "none", "the reserve is on the same disk"
        assert set(answer[2:]) <= {"LOG_READ_ONLY", "LOG_IO_ERROR"}
        assert daemon.ask("recover")[0][0] == "ill"
    # such a file system is writable again only when it has been mounted anew
    assert system("umount", disk) == 0
    assert system("mount", "-o", "loop", disk.parent / "image", disk) == 0
    with child(disk) as daemon:
        assert daemon.places() == ["log", "log"]
        assert daemon.kinds() == [*OPENING, *OPENING]


@contextmanager
def injected(daemon: Child, what: str, *files: str) -> Iterator[None]:
    """The kernel answers the daemon's system calls on these files in this way."""
    if not shutil.which("strace"):
        pytest.skip(NO_STRACE)
    paths = [word for file in files for word in ("-P", str(daemon.state / file))]
    calls = what.partition(":")[0]
    strace = subprocess.Popen(
        ["strace", "-f", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={what}"]  # noqa: RUF005
        + [*paths, "-p", str(daemon.process.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = strace.stderr.readline()
        if "attached" not in said:
            pytest.skip(NO_STRACE)
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.stderr.close()
        strace.wait(10)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_io_errors_of_the_log_alone(tmp_path: Path, call: str) -> None:
    with child(tmp_path) as daemon:
        assert daemon.places() == ["log", "log"]
        with injected(daemon, f"{call}:error=EIO", "log.db", "log.db-wal"):
            answers = daemon.ask("open", 2)
            assert [each[0] for each in answers] == ["reserve", "reserve"]
            assert answers[0][-1] == "LOG_IO_ERROR"
            assert daemon.ask("recover") == [["ill", "LOG_IO_ERROR"]]
        daemon.well()
        assert daemon.places() == ["log", "log"]
        assert daemon.kinds() == [*OPENING, *OPENING, GAP, *OPENING]


def test_io_errors_of_the_whole_disk(tmp_path: Path) -> None:
    files = ("log.db", "log.db-wal", "log.db.reserve")
    with child(tmp_path) as daemon:
        with injected(daemon, "pwrite64:error=EIO", *files):
            assert daemon.ask("open") == [["none", "INTENT", "LOG_IO_ERROR", "LOG_IO_ERROR"]]
        daemon.well()
        assert daemon.kinds() == [GAP]


def test_a_disk_that_takes_seconds_for_a_write(tmp_path: Path) -> None:
    with child(tmp_path) as daemon:
        with injected(daemon, "fdatasync:delay_enter=3000000", "log.db", "log.db-wal"):
            began_s = time.monotonic()
            answers = daemon.ask("open", 2)
            taken_s = time.monotonic() - began_s
            assert [each[0] for each in answers] == ["reserve", "reserve"]
            assert answers[0][-1] == "LOG_SLOW"
            assert 1.0 <= taken_s < 2.5, "a second for the log, and not one for each entry"
            assert daemon.ask("recover") == [["ill", "LOG_SLOW"]]
        daemon.well()
        kinds = daemon.kinds()
        # the write that was given up came through, and is there once
        assert (kinds.count(EntryKind.INTENT), kinds.count(EntryKind.OUTCOME)) == (1, 1)
