"""Run a command as a person would, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.cli import main


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: str | Path) -> Ran:
    """Call `main`, as the installed program does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def spawn(*arguments: str | Path, cwd: Path | None = None, timeout_s: float = 60) -> Ran:
    """Run the installed program."""
    program = Path(sys.executable).parent / "gatewayd"
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
