"""How a line looks on a terminal: folded at words, and coloured where colour is wanted.

Where there is no terminal a line stays as it is, for programs and files. Colour is left out, too,
where NO_COLOR is set (https://no-color.org) or TERM is "dumb".
"""

from __future__ import annotations

import os
import textwrap
from enum import Enum
from typing import Final, TextIO

USUAL_COLUMNS: Final = 80
_FEWEST_COLUMNS: Final = 40


class Tint(Enum):
    """What a line means, and its colour (ECMA-48, 8.3.117)."""

    PLAIN = ""
    GOOD = "32"
    CARE = "33"
    BAD = "31"


def shown(text: str, tint: Tint, hang: int | None, stream: TextIO) -> str:
    """One line for this stream; with `hang` a long one goes on below that column."""
    if not stream.isatty():
        return text
    if hang is not None:
        text = _folded(text, hang, columns(stream))
    if tint is Tint.PLAIN or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{tint.value}m{text}\x1b[0m"


def _folded(text: str, hang: int, width: int) -> str:
    if len(text) <= width or width < hang + _FEWEST_COLUMNS:
        return text
    return textwrap.fill(
        text,
        width,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


def columns(stream: TextIO) -> int:
    """As `shutil.get_terminal_size` finds it: COLUMNS, then the terminal, then 80."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):  # no terminal
        return USUAL_COLUMNS
