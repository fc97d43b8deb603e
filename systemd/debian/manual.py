"""Manual pages out of the programs' own help: `python3 manual.py DIRECTORY`.

gatewayd(1) is the overview; every command has a page of its own, gatewayd-COMMAND(1), in
which its help stands as a terminal would show it. Runs in the private environment.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

from gatewayd import __version__
from gatewayd.cli import TABLE, load
from gatewayd.cli import main as gatewayd
from gatewayd.cli.command import Group

COLUMNS = "78"
"""What a page has room for."""
HELPER = "gatewayd-radio-helper"


def pages() -> Iterator[tuple[str, str]]:
    """Every page's file name and text."""
    others = ", ".join(f"gatewayd-{name}(1)" for name in TABLE)
    head = page("gatewayd", "1", "a door gateway: keys on phones, without a network", help_of())
    yield "gatewayd.1", f"{head}.SH SEE ALSO\n{others}, {HELPER}(8)\n"
    for name, row in TABLE.items():
        found = load(name)
        below = [each.name for each in found.commands] if isinstance(found, Group) else []
        text = "\n\n".join([help_of(name), *(help_of(name, each) for each in below)])
        yield f"gatewayd-{name}.1", page(f"gatewayd-{name}", "1", row.summary, text)
    # it is for systemd, and has no help
    text = f"{HELPER} USER\n\nStarted by {HELPER}.socket, and serves USER alone.\n"
    yield f"{HELPER}.8", page(HELPER, "8", "what a door gateway needs CAP_NET_ADMIN for", text)


def help_of(*words: str) -> str:
    """What `gatewayd WORDS --help` says."""
    with redirect_stdout(io.StringIO()) as said, suppress(SystemExit):
        gatewayd([*words, "--help"])
    return said.getvalue()


def page(name: str, section: str, summary: str, text: str) -> str:
    """One page (man(7)) whose description is shown as it stands."""
    shown = "\n".join(escaped(line) for line in text.rstrip().splitlines())
    return (
        f'.TH {name} {section} "" "gatewayd {__version__}"\n'
        f".SH NAME\n{name} \\- {escaped(summary)}\n.SH DESCRIPTION\n.nf\n{shown}\n.fi\n"
    )


def escaped(line: str) -> str:
    r"""A line that means nothing to roff: `-` is a minus, and `.` and `'` begin no request."""
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


def main(directory: Path) -> None:
    """Write them all."""
    os.environ["COLUMNS"] = COLUMNS
    directory.mkdir(exist_ok=True)
    for name, text in pages():
        (directory / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
