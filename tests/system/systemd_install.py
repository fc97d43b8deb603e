"""Carries out docs/install.md: the commands of the page, as they stand, in the virtual machine."""

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
_COMMANDS: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM, FILES, START = "2. The program", "3. The gateway's files", "4. Start"
REMOVE, PURGE = "Taking it away", "Taking everything away"


def commands(heading: str) -> str:
    """What the page says to type below a heading. LookupError when it says nothing."""
    parts = _HEADING.split(PAGE.read_text("utf-8"))
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        if title == heading:
            (found,) = _COMMANDS.findall(text) or [""]
            if found:
                return str(found)
    raise LookupError(f"nothing to type below {heading!r} in {PAGE}")


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
