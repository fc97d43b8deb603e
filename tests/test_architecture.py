"""The direction of imports, and proof that breaking it is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 350

# What the two pure parts may import, whole. The contracts in pyproject.toml
# name what is forbidden; this list also stops what nobody thought of.
STANDARD = {
    "__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib",
    "hmac", "itertools", "math", "operator", "re", "struct", "types", "typing",
}  # fmt: skip
WIRE = STANDARD | {"base64", "binascii", "cryptography", "firmware_proto"}
CORE = STANDARD | {
    "base64",
    "contextlib",
    "cryptography",
    "datetime",
    "firmware_proto",
    "gatewayd",
    "html",
    "warnings",
    "zlib",
    "zoneinfo",
}

# The program with a capability: nothing but the standard library, nothing of the daemon.
HELPER = STANDARD | {
    "contextlib", "ctypes", "gatewayd", "logging", "os", "pwd", "selectors", "socket", "sys",
    "time",
}  # fmt: skip


def imported_from(package: str, graph: grimp.ImportGraph) -> set[str]:
    modules = {package} | graph.find_descendants(package)
    found = set().union(*(graph.find_modules_directly_imported_by(each) for each in modules))
    return {each.partition(".")[0] for each in found}


def test_the_pure_parts_import_nothing_but_what_is_listed() -> None:
    graph = grimp.build_graph(
        "firmware_proto", "gatewayd", include_external_packages=True, cache_dir=None
    )
    assert imported_from("firmware_proto", graph) <= WIRE
    assert imported_from("gatewayd.core", graph) <= CORE


def test_the_privileged_helper_knows_nothing_of_the_daemon() -> None:
    graph = grimp.build_graph("gatewayd", include_external_packages=True, cache_dir=None)
    assert imported_from("gatewayd.radio_helper", graph) <= HELPER
    parts = {"gatewayd.radio_helper"} | graph.find_descendants("gatewayd.radio_helper")
    used = set().union(*(graph.find_modules_directly_imported_by(each) for each in parts))
    assert {each for each in used if each.startswith("gatewayd")} <= parts


def test_no_module_is_longer_than_one_purpose_needs() -> None:
    modules = (
        path
        for package in ("firmware_proto", "gatewayd")
        for path in (ROOT / package).rglob("*.py")
    )
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules
        if (count := len(path.read_text("utf-8").splitlines())) > MOST_LINES
    }
    assert not long, "two concepts in one file? Each deserves a name of its own"


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [program, "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=directory, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    leave = shutil.ignore_patterns("__pycache__")
    for package in ("firmware_proto", "gatewayd"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=leave)
    return tmp_path


def test_every_contract_is_kept(copy: Path) -> None:
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("firmware_proto/codes.py", "import time"),
        ("firmware_proto/codes.py", "import datetime"),
        ("firmware_proto/codes.py", "from gatewayd import ports"),
        ("gatewayd/core/model.py", "import asyncio"),
        ("gatewayd/core/model.py", "from pathlib import Path"),
        ("gatewayd/core/model.py", "import gatewayd.ports"),
        ("gatewayd/core/model.py", "if TYPE_CHECKING:\n    import sqlite3"),
        ("gatewayd/ports/radio.py", "import gatewayd.adapters.clock"),
        ("gatewayd/adapters/clock.py", "import gatewayd.adapters.systemd"),
        ("gatewayd/cli/command.py", "import gatewayd.adapters.clock"),
        ("gatewayd/radio_helper/wire.py", "import gatewayd.core.model"),
        ("gatewayd/emulators/__init__.py", "import gatewayd.config"),
    ],
)
def test_a_violation_is_noticed(copy: Path, module: str, line: str) -> None:
    path = copy / module
    text = path.read_text("utf-8")
    path.write_text(f"{text}\nfrom typing import TYPE_CHECKING\n{line}\n", "utf-8")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout
