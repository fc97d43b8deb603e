"""Replace a small file whole: after a power loss there is the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from gatewayd.keyfiles import PRIVATE_MODE


def replace_file(path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
    """Put `data` at `path`: written beside it, synced, renamed, the directory synced."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # left by a power loss; it never was the file
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
