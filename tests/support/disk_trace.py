"""Every change that a process made to a directory, as strace saw it, and what a power cut leaves.

A disk keeps what was synced before the cut. Of the rest it may have kept any part, in
any order, and of one write some sectors and not others; changes of names come in
their order (a journal's), and only the directory's own fsync makes them certain.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,unlink,unlinkat"
_STRACE = ("strace", "-f", "-y", "-xx", "-s", "2000000")
_LINE = re.compile(r"^(?P<pid>\d+) +(?P<text>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_PATH = re.compile(r"(?P<fd>\d+)<(?P<path>[^>]*)>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Change:
    """One completed call. `file` is an inode's number; `what` says how to read the rest."""

    what: str  # write, truncate, sync, create, rename, unlink, sync names, said
    file: int = -1
    at: int = 0
    data: bytes = b""
    name: str = ""
    to: str = ""
    durable: bool = False


def record(command: Sequence[str], said_to_it: str, directory: Path, cwd: Path) -> list[Change]:
    """Run a command that changes `directory`, which must be empty; all of what it did."""
    trace = directory.parent / "trace"
    run = subprocess.run(
        [*_STRACE, "-o", trace, "-e", f"trace={CALLS}", *command],
        input=said_to_it, text=True, cwd=cwd, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    changes = list(_changes(trace, f"{directory}/"))
    said = b"".join(each.data for each in changes if each.what == "said").decode()
    assert said == run.stdout, "the trace missed something"
    return changes


def _whole_lines(trace: Path) -> Iterator[str]:
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        found = _LINE.match(line)
        assert found, line
        pid, text = found["pid"], found["text"]
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
        elif text.startswith("<... "):
            yield begun.pop(pid) + text.partition("resumed>")[2].lstrip()
        else:
            yield text


def _changes(trace: Path, directory: str) -> Iterator[Change]:
    reader = _Reader(directory)
    for line in _whole_lines(trace):
        call = _CALL.match(line)
        if call is not None and int(call["result"]) >= 0:
            yield from reader.read(call["name"], call["arguments"])


@dataclass(slots=True)
class _Reader:
    """Which name is which file, as the calls go by. `directory` ends with a slash."""

    directory: str
    names: dict[str, int] = field(default_factory=dict)
    dsync: set[int] = field(default_factory=set)
    made: int = 0

    def read(self, name: str, arguments: str) -> Iterator[Change]:
        strings = [bytes.fromhex(each.replace("\\x", "")) for each in _STRING.findall(arguments)]
        if name == "openat":
            yield from self._open(strings[0].decode(), arguments)
        elif name.startswith(("rename", "unlink")):
            yield from self._rename(*(each.decode() for each in strings))
        else:
            yield from self._change(name, arguments, strings)

    def _open(self, opened: str, arguments: str) -> Iterator[Change]:
        if not opened.startswith(self.directory):
            return
        if opened not in self.names and "O_CREAT" in arguments:
            self.made += 1
            self.names[opened] = self.made
            yield Change("create", self.made, name=self._short(opened))
        if "O_DSYNC" in arguments:
            self.dsync.add(self.names[opened])
        if "O_TRUNC" in arguments:
            yield Change("truncate", self.names[opened])

    def _rename(self, source: str, target: str = "") -> Iterator[Change]:
        file = self.names.pop(source, None)
        if file is None:
            return
        if target:
            self.names[target] = file
            yield Change("rename", name=self._short(source), to=self._short(target))
        else:
            yield Change("unlink", name=self._short(source))

    def _change(self, name: str, arguments: str, strings: list[bytes]) -> Iterator[Change]:
        on = _PATH.match(arguments)
        path = _plain(on["path"]) if on else ""
        if name == "write" and on and on["fd"] == "1":
            yield Change("said", data=strings[0])
        elif f"{path}/" == self.directory:
            yield Change("sync names")
        elif path in self.names:
            yield _change_of(name, arguments, strings, self.names[path], self.dsync)
        else:
            assert not path.startswith(self.directory), f"a file from nowhere: {path}"

    def _short(self, name: str) -> str:
        return name.removeprefix(self.directory)


def _plain(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


def _change_of(
    name: str, arguments: str, strings: list[bytes], file: int, dsync: set[int]
) -> Change:
    last = arguments.rpartition(", ")[2]
    match name:
        case "pwrite64":
            return Change("write", file, int(last), strings[0], durable=file in dsync)
        case "ftruncate":
            return Change("truncate", file, int(last))
        case "fsync" | "fdatasync":
            return Change("sync", file)
    raise AssertionError(f"not modelled: {name}({arguments[:80]}")


@dataclass(slots=True)
class Disk:
    """What stands on the disk after the first `cut` changes."""

    changes: Sequence[Change]
    cut: int
    _synced: dict[int, int] = field(default_factory=dict)
    _named: int = -1

    def __post_init__(self) -> None:
        for index, each in enumerate(self.changes[: self.cut]):
            if each.what == "sync":
                self._synced[each.file] = index
            elif each.what == "sync names":
                self._named = index

    def said(self) -> list[list[str]]:
        """The lines that had been said by then."""
        text = b"".join(each.data for each in self.changes[: self.cut] if each.what == "said")
        return [line.split() for line in text.decode().splitlines()]

    def lay(self, directory: Path, kept: float, chance: random.Random) -> None:
        """Make the files. `kept`: which part of what was not synced survived, 0 to 1."""
        contents: dict[int, bytearray] = {}
        names: dict[str, int] = {}
        lost_a_name = False
        for index, each in enumerate(self.changes[: self.cut]):
            if each.what in {"create", "rename", "unlink"}:
                lost_a_name |= index > self._named and chance.random() >= kept
                if not lost_a_name:
                    _rename(names, each)
            elif each.what in {"write", "truncate"}:
                certain = each.durable or index <= self._synced.get(each.file, -1)
                _write(contents.setdefault(each.file, bytearray()), each, certain, kept, chance)
        for name, file in names.items():
            (directory / name).write_bytes(contents.get(file, b""))


def _rename(names: dict[str, int], each: Change) -> None:
    if each.what == "create":
        names[each.name] = each.file
    elif each.what == "rename":
        names[each.to] = names.pop(each.name)
    else:
        del names[each.name]


def _write(
    content: bytearray, each: Change, certain: bool, kept: float, chance: random.Random
) -> None:
    if each.what == "truncate":
        if certain or chance.random() < kept:
            del content[each.at :]
            content.extend(bytes(each.at - len(content)))
        return
    for start in range(0, len(each.data), SECTOR):
        if certain or chance.random() < kept:
            sector, at = each.data[start : start + SECTOR], each.at + start
            content.extend(bytes(max(0, at + len(sector) - len(content))))
            content[at : at + len(sector)] = sector
