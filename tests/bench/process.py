"""What another process holds: memory, descriptors, threads; and how an installed one starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import units

MB = 1_000_000
_KIB = 1024
_CACHE = "PYTHONPYCACHEPREFIX"
_NO_CACHE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True, slots=True)
class Memory:
    """In MB, 10^6 bytes. rss: resident, pages of libraries that others use as well included.

    pss: those divided by their users. anonymous: what no file stands behind.
    """

    rss: float
    pss: float
    anonymous: float


def memory(pid: int | str = "self") -> Memory:
    """Of all mappings together. OSError when there is no such process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {
        name: int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)
    }
    return Memory(*(sizes[name] * _KIB / MB for name in ("Rss", "Pss", "Anonymous")))


def descriptors(pid: int) -> int:
    """How many are open. OSError when there is no such process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """How many there are. OSError when there is no such process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@contextmanager
def as_installed(directory: Path) -> Iterator[None]:
    """Children find compiled modules and the unit's environment, as where it was installed.

    Compiling at every start costs a second, and megabytes that are never given back.
    The first child writes them: let it go before anything is measured.
    """
    ours = {**units.environment(), _CACHE: str(directory.absolute())}
    before = {name: os.environ.get(name) for name in (*ours, _NO_CACHE)}
    os.environ.pop(_NO_CACHE, None)
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
