"""SoftHSM: a secure element of software, and what goes wrong with real ones.

A process that has loaded its library sees no token that is made later, so with each
fresh one this process begins anew.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pkcs11
import pytest

from gatewayd.adapters.element import token
from gatewayd.core.key_uri import KeyUri

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711"
_TOOL = shutil.which("softhsm2-util")
needed = pytest.mark.skipif(
    _TOOL is None or not LIBRARY.exists(), reason="SoftHSM is not installed (Debian: softhsm2)"
)

_HOLD = """
import fcntl, pathlib, sys
files = [path.open("r+b") for path in pathlib.Path(sys.argv[1]).iterdir()]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@cache
def cabinet() -> Path:
    """Where all tokens of this run are; removed when Python ends."""
    kept = tempfile.TemporaryDirectory(prefix="softhsm")
    atexit.register(kept.cleanup)
    directory = Path(kept.name)
    (directory / "tokens").mkdir()
    conf = directory / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {directory}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(conf)  # children need it, too
    return directory


def tool(*words: str) -> None:
    assert _TOOL is not None
    subprocess.run([_TOOL, *words], check=True, capture_output=True)


@dataclass
class Token:
    """One that nobody had before."""

    label: str
    pin: Path

    @property
    def uri(self) -> KeyUri:
        return KeyUri(module_path=str(LIBRARY), token=self.label, pin_source=str(self.pin))

    @property
    def directory(self) -> Path:
        """Where SoftHSM keeps it."""
        label = self.label.encode()
        (found,) = (
            each
            for each in (cabinet() / "tokens").iterdir()
            if label + b" " in (each / "token.object").read_bytes()
            or (each / "token.object").read_bytes().count(label.ljust(32))
        )
        return found

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """It answers nothing meanwhile: another process holds all of its files."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, self.directory], stdin=pipe, stdout=pipe
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield
            holder.communicate()

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """Its files are elsewhere."""
        here, elsewhere = self.directory, cabinet() / "unplugged"
        here.rename(elsewhere)
        try:
            yield
        finally:
            elsewhere.rename(here)


def fresh(directory: Path) -> Token:
    """With its PIN in a file in `directory`."""
    pin = directory / "element.pin"
    pin.touch(mode=0o600)
    pin.write_text(f"{PIN}\n")
    cabinet()
    label = f"token {os.urandom(4).hex()}"
    tool("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN)
    forget()
    return Token(label, pin)


def forget() -> None:
    """What a process knows of elements, it has forgotten when it is started again."""
    token.element.cache_clear()
    if str(LIBRARY) in pkcs11._loaded:
        pkcs11.unload(str(LIBRARY))


def lose_sessions() -> None:
    """As a suspend or another program can do: every session of this process is closed."""
    library = ctypes.CDLL(str(LIBRARY))
    count = ctypes.c_ulong()
    assert library.C_GetSlotList(ctypes.c_char(1), None, ctypes.byref(count)) == 0
    slots = (ctypes.c_ulong * count.value)()
    assert library.C_GetSlotList(ctypes.c_char(1), slots, ctypes.byref(count)) == 0
    for slot in slots:
        library.C_CloseAllSessions(ctypes.c_ulong(slot))
