"""Runs pytest, and a few tests that failed beside others once more, alone.

Tests run side by side on whatever processors there are, and many talk over radios, lines and
brokers with deadlines of their own: on a machine that does other things as well, one of thousands
misses one now and then. Tried alone it passes, and both tries are shown; a fault fails both. The
system tests do the same (`tests.system.suite`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

AGAIN: Final = 3
"""So many may fail in company and pass alone; more is no coincidence."""
FAILED_BEFORE: Final = Path(".pytest_cache/v/cache/lastfailed")
"""What pytest's own cacheprovider writes: the tests that failed, by node id."""
TOLD: Final = "tried once more, alone:"
"""`.ci/tally.py` looks for it: these tests count as they went alone."""


def main(words: Sequence[str]) -> int:
    """pytest's exit code; of the second run where there was one."""
    FAILED_BEFORE.unlink(missing_ok=True)
    code = _pytest(words)
    failed = _failed() if code == pytest.ExitCode.TESTS_FAILED else []
    if not 0 < len(failed) <= AGAIN:
        return code
    print(TOLD, *failed, flush=True)
    covering = ["--cov", "--cov-append", "--cov-report="] if "--cov" in words else []
    return _pytest([*covering, *failed])


def _pytest(words: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *words], check=False).returncode


def _failed() -> list[str]:
    return list(json.loads(FAILED_BEFORE.read_text()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
