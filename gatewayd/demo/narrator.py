"""Tells the story to a person: chapter by chapter while it happens, and the times at the end."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Callable

from gatewayd.demo.stage import Chapter, Record

_WIDTH = 88
_NO_BREAK = "\N{NO-BREAK SPACE}"
_MARKS = {True: "ok  ", False: "NOT "}


class Narrator:
    """Writes lines; where they go is the caller's business."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def open(self) -> None:
        """Before the first chapter."""
        self._write("Vestergade 7, a staircase with two doors, and no network today.")
        self._write("The street door's lock has mains power; the lock on the stairs sleeps to save")
        self._write(
            "its battery. Radios are simulated; everything above the air is the real thing."
        )

    def chapter(self, number: int, chapter: Chapter) -> None:
        """One chapter, once it has been played."""
        self._write("")
        for line in textwrap.wrap(
            f"{number:2}  {chapter.title} [{chapter.seconds:.1f}{_NO_BREAK}s]",
            _WIDTH,
            subsequent_indent="    ",
        ):
            self._write(line.replace(_NO_BREAK, " "))
        for remark in chapter.remarks:
            self._write(f"      ({remark})")
        for check in chapter.checks:
            if check.holds:
                self._write(f"    {_MARKS[True]}{check.what}: {check.seen}")
            else:
                self._write(f"    {_MARKS[False]}{check.what}: {check.seen}")
                self._write(f"        it should be: {check.wanted}")

    def close(self, record: Record) -> None:
        """The times, and how it all went."""
        self._write("")
        self._write("From the tap to the command at the lock's motor, in milliseconds:")
        for name, openings in record.profiles():
            total = statistics.median(each.tap_to_command for each in openings)
            parts = ", ".join(f"{part} {took}" for part, took in openings[0].parts.items())
            self._write(f"    {name:<18}{total:6.0f}   = {parts}")
        self._write("")
        kept = sum(chapter.holds for chapter in record.chapters)
        self._write(
            f"{kept} of {len(record.chapters)} chapters went as they should,"
            f" in {record.seconds:.1f} s."
        )
