"""How the disk under the log behaves: room, kind, and how long it takes to keep something."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from gatewayd.adapters.machine.files import read
from gatewayd.core.diagnosis_host import Disk

WRITES: Final = 8
WRITE_BYTES: Final = 4096


def disk(state: Path, root: Path, *, writing: bool = True) -> Disk:
    """The disk under `state`, or under its nearest parent that exists.

    `writing`: also whether it keeps something, and how long that takes.
    """
    place = state.absolute()
    while not place.is_dir():
        place = place.parent
    room = os.statvfs(place)
    sync_ms, barred = None, False
    if writing:
        try:
            sync_ms = writes(place)
        except PermissionError:
            barred = True
    return Disk(
        place=os.fspath(place),
        filesystem=filesystem(place, read(root / "proc/self/mountinfo") or ""),
        free_bytes=room.f_bavail * room.f_frsize,
        free_inodes=room.f_favail if room.f_files else None,
        sync_ms=sync_ms,
        read_only=bool(room.f_flag & os.ST_RDONLY),
        barred=barred,
    )


def filesystem(place: Path, mountinfo: str) -> str:
    """The kind of file system mounted over `place` last and deepest (proc(5))."""
    found, deepest = "unknown", -1
    for line in mountinfo.splitlines():
        before, separator, behind = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) <= _MOUNT_POINT:
            continue
        mount = Path(_unescaped(fields[_MOUNT_POINT]))
        if place.is_relative_to(mount) and len(mount.parts) >= deepest:
            found, deepest = behind.split(" ")[0], len(mount.parts)
    return found


_MOUNT_POINT: Final = 4
_ESCAPES: Final = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return text


def writes(place: Path) -> tuple[float, ...]:
    """How long each of some durable writes took, in ms; empty when the disk takes none.

    PermissionError when it is only we who may not write there.
    """
    import tempfile  # noqa: PLC0415 - loads compressors, for which a daemon has no use

    taken: list[float] = []
    try:
        descriptor, name = tempfile.mkstemp(prefix=".gatewayd-doctor-", dir=place)
        try:
            for _ in range(WRITES):
                began_s = time.monotonic()
                os.write(descriptor, bytes(WRITE_BYTES))
                os.fsync(descriptor)
                taken.append((time.monotonic() - began_s) * 1000)
        finally:
            os.close(descriptor)
            Path(name).unlink()
    except PermissionError:
        raise
    except OSError:
        return ()
    return tuple(taken)
