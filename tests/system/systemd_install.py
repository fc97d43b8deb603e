"""Carries out pages of ours: their commands, as they stand, in the virtual machine."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.system import image
from tests.system.guest import PATH

PAGE: Final = image.CHECKOUT / "docs" / "install.md"
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PROGRAM, FILES, START = "2. The program", "3. The gateway's files", "4. Start"
REMOVE, PURGE = "Taking it away", "Taking everything away"


def commands(heading: str, page: Path = PAGE) -> str:
    """What the page says to type below a heading. LookupError when it says nothing."""
    (found,) = blocks(heading, page) or [""]
    if found:
        return found
    raise LookupError(f"nothing to type below {heading!r} in {page}")


def blocks(heading: str, page: Path, kind: str = "sh") -> list[str]:
    """All that is below a heading of a page and of this kind."""
    text = page.read_text("utf-8")
    code = re.compile(rf"^```{kind}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = ""
    # a comment in what is to be typed is no heading
    titles = list(_HEADING.finditer(_CODE.sub(_blank, text)))
    for title, after in zip(titles, [*titles[1:], None], strict=True):
        if title[1] == heading:
            found += text[title.end() : after.start() if after else len(text)]
    return code.findall(found)


def _blank(code: re.Match[str]) -> str:
    return " " * len(code[0])


def carry_out(heading: str, directory: Path = image.CHECKOUT) -> None:
    """Type it, as root, in `directory`. The machine has no network."""
    began = time.monotonic()
    done = attempt(commands(heading), directory)
    print(f"{heading}: exit code {done.returncode} after {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout + done.stderr


def attempt(typed: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Type anything else; it may fail."""
    environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
    return subprocess.run(
        ["sh", "-eux", "-c", typed],
        cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
