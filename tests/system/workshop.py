"""Takes remedies out, one after another, in copies of the checkout; says what then happens.

`python -m tests.system.workshop NUMBER...` of `remedies.REMEDIES`. Runs where the tests can
run: on any machine, or in the one of tests.system.vm. One line of JSON per remedy,
after `proof: `; everything else is for people. Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.system.remedies import REMEDIES, Remedy

CHECKOUT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("gatewayd", "firmware_proto", "tests", "systemd", "docs", "pyproject.toml")
MARK: Final = "proof: "
LONGEST_S: Final = "60"
"""Of one test, for the tests themselves."""
LIMIT_S: Final = 150.0
"""Of one run of pytest, should even that hang."""
PASSED, FAILED, HUNG = 0, 1, 124
MAIN_CONF: Final = Path("/etc/bluetooth/main.conf")


def main(numbers: Sequence[int]) -> int:
    """Every remedy; 0 whatever becomes of them."""
    remedies = [REMEDIES[number] for number in numbers]
    good = {test: _whole(test) for test in dict.fromkeys(each.test for each in remedies)}
    for number, remedy in zip(numbers, remedies, strict=True):
        began_s = time.monotonic()
        verdict = _without(remedy) if good[remedy.test] else "its test fails with it, too"
        seconds = round(time.monotonic() - began_s)
        line = {"number": number, "verdict": verdict, "seconds": seconds}
        print(f"{MARK}{json.dumps(line)}", flush=True)
    return 0


def _whole(test: str) -> bool:
    """Whether the test passes as things are."""
    with _copy() as copy:
        code, said = _run(test, copy)
    print(f"with it: {test}: {'passes' if code == PASSED else said}", flush=True)
    return code == PASSED


def _without(remedy: Remedy) -> str:
    """What becomes of the test; empty when it fails, as it must."""
    with _copy() as copy:
        file = copy / remedy.file
        text = file.read_text()
        if text.count(remedy.old) != 1:
            return f"its text stands {text.count(remedy.old)} times in {remedy.file}, not once"
        file.write_text(text.replace(remedy.old, remedy.new))
        code, said = _run(remedy.test, copy)
    print(f"without: {remedy.against}: {said}", flush=True)
    if code in {FAILED, HUNG}:
        return ""
    return "its test passes without it" if code == PASSED else f"its test ended with {code}: {said}"


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="proof-") as directory:
        for name in COPIED:
            source, target = CHECKOUT / name, Path(directory, name)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        yield Path(directory)


def _run(test: str, copy: Path) -> tuple[int, str]:
    """pytest's exit code, and its last word about what went wrong."""
    if "GATEWAYD_VM" in os.environ:
        MAIN_CONF.write_bytes((copy / "systemd/bluetooth-main.conf").read_bytes())
    system = ["-m", "system"] if "GATEWAYD_VM" in os.environ else []
    quiet = ["-q", "-x", "--tb=line", "--color=no", "-p", "no:cacheprovider", "-p", "no:pytest_cov"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *system, *quiet, test],
            cwd=copy,
            env=os.environ | {"GATEWAYD_LONGEST_S": LONGEST_S, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return HUNG, f"hung for {LIMIT_S:.0f} s"
    said = [line for line in done.stdout.splitlines() if line.startswith(("E ", "FAILED", "ERROR"))]
    said += [line for line in done.stdout.splitlines() if ": " in line and "rror" in line]
    return done.returncode, (said or done.stdout.splitlines() or ["nothing"])[0].strip()[:150]


if __name__ == "__main__":
    sys.exit(main([int(each) for each in sys.argv[1:]]))
