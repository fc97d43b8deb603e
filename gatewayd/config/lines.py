"""Where in a TOML text a value stands: the standard parser does not say.

Works on text that `tomllib` has accepted, so only well-formed TOML is read
here. Values inside inline tables and arrays are found by the line of the key
that holds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Path = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_BLANK = r"[ \t]*"  # never a line break: a statement keeps to its line
_KEYS = rf"{_KEY}(?:{_BLANK}\.{_BLANK}{_KEY})*"
_HEADER = re.compile(rf"{_BLANK}(\[\[?){_BLANK}({_KEYS}){_BLANK}\]")
_ASSIGNMENT = re.compile(rf"{_BLANK}({_KEYS}){_BLANK}=")
_ONE_KEY = re.compile(_KEY)
# what can open, close or hide a bracket, longest first
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]|\n',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Line numbers, counted from 1, of tables and keys."""

    known: Mapping[Path, int]

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it; 1 when there is none."""
        for length in range(len(path), 0, -1):
            line = self.known.get(path[:length])
            if line is not None:
                return line
        return 1


def locate(text: str) -> Lines:
    """Find every table header and every key of a well-formed TOML text."""
    known: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for line, start in _statements(text):
        header = _HEADER.match(text, start)
        if header is not None:
            names = _names(header[2])
            table = _inside(names[:-1], counts) + names[-1:]
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                known.setdefault(table, line)
                table = (*table, counts[table])
            known.setdefault(table, line)
            continue
        assignment = _ASSIGNMENT.match(text, start)
        if assignment is not None:
            path = table
            for name in _names(assignment[1]):
                path = (*path, name)
                known.setdefault(path, line)
    return Lines(known)


def _statements(text: str) -> list[tuple[int, int]]:
    """Line number and offset of every line that is not the inside of a value."""
    found = [(1, 0)]
    line, depth = 1, 0
    for token in _TOKEN.finditer(text):
        what = token[0]
        line += what.count("\n")
        if what in "[{":
            depth += 1
        elif what in "]}":
            depth -= 1
        elif what == "\n" and depth == 0:
            found.append((line, token.end()))
    return found


def _names(dotted: str) -> Path:
    return tuple(each.strip("\"'") for each in _ONE_KEY.findall(dotted))


def _inside(names: Path, counts: Mapping[Path, int]) -> Path:
    """`[door.policy]` belongs to the last `[[door]]`."""
    path: Path = ()
    for name in names:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    return path
