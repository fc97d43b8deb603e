"""Carries out docs/install.md: the commands of the page, as they stand, in the virtual machine."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.system import image
from tests.system.guest import PATH
from tests.system.systemd_prepare import wheels

PAGE: Final = image.CHECKOUT / "docs" / "install.md"
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_COMMANDS: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DESK, PROGRAM, UNITS, FILES, START = (
    *("1. At the desk", "2. The program", "3. How it runs"),
    *("4. The gateway's files", "5. Start"),
)


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
    """Type it, as root, in `directory`. The machine has no network: pip takes wheels from disk."""
    began = time.monotonic()
    environment = {
        "PATH": PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels()),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        ["sh", "-eux", "-c", commands(heading)],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(f"{heading}: exit code {done.returncode} after {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout + done.stderr
