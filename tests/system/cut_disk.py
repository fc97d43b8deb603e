"""A disk for a machine whose power is cut: an ext4 in a file, with a cache that does not survive.

What the machine's kernel has not written is gone with the kernel. What it has written but
not flushed is in a disk's own cache: `volatile_disk.c` notes it, and a cut loses any part.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system import image

SOURCE: Final = Path(__file__).with_name("volatile_disk.c")
SIZE_MB: Final = 32
_BLOCK: Final = 4096
"""What a disk writes wholly or not at all. A torn commit block is no journal for ext4."""
_NOTE: Final = struct.Struct("=QQ")


@dataclass(frozen=True, slots=True)
class CutDisk:
    """file: what the machine's kernel has as its first disk (`ubd0`)."""

    file: Path

    @property
    def _cache(self) -> Path:
        return self.file.with_suffix(".cache")

    @classmethod
    def make(cls, directory: Path, content: Path) -> CutDisk:
        """A file system that holds what `content` holds."""
        disk = cls(directory / "disk.img")
        make = ["mkfs.ext4", "-q", "-b", "4096", "-d", str(content), str(disk.file), f"{SIZE_MB}M"]
        subprocess.run(make, check=True)
        compile_ = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(disk._library), str(SOURCE)]
        image.install(image.BUILD_PACKAGES)
        subprocess.run(compile_, check=True)
        return disk

    @property
    def _library(self) -> Path:
        return self.file.with_suffix(".so")

    @property
    def environment(self) -> dict[str, str]:
        """Of the machine's kernel."""
        return {
            "LD_PRELOAD": str(self._library),
            "GATEWAYD_DISK": str(self.file),
            "GATEWAYD_CACHE": str(self._cache),
        }

    def cut(self, chance: random.Random) -> tuple[int, int]:
        """The power goes, and the machine with it: blocks in the cache, and lost of them."""
        kept = chance.choice((0.0, 0.5, 0.9))
        notes = list(self._notes())
        blocks = lost = 0
        with self.file.open("r+b") as disk:
            for at, before, _ in reversed(notes):
                disk.seek(at)
                disk.write(before)
            for at, _, after in notes:
                for start in range(0, len(after), _BLOCK):
                    blocks += 1
                    if chance.random() >= kept:
                        lost += 1
                        continue
                    disk.seek(at + start)
                    disk.write(after[start : start + _BLOCK])
        self._cache.unlink(missing_ok=True)
        return blocks, lost

    def content(self, directory: Path) -> Path:
        """What is on it now, as a machine would find it that has just started; in `directory`."""
        copy = directory / "copy.img"
        copy.write_bytes(self.file.read_bytes())
        done = subprocess.run(
            ["e2fsck", "-f", "-y", str(copy)], capture_output=True, text=True, check=False
        )
        # 1: the journal was played back, which counts as a change
        assert done.returncode in {0, 1}, done.stdout
        assert "UNEXPECTED INCONSISTENCY" not in done.stdout, done.stdout
        dump = ["debugfs", "-R", f"rdump / {directory}", str(copy)]
        subprocess.run(dump, capture_output=True, check=True)
        return directory

    def _notes(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Where, what stood there, what came. The last may be half a note: no write followed it."""
        data = self._cache.read_bytes() if self._cache.exists() else b""
        at = 0
        while at + _NOTE.size <= len(data):
            place, length = _NOTE.unpack_from(data, at)
            at += _NOTE.size
            if at + 2 * length > len(data):
                return
            yield place, data[at : at + length], data[at + length : at + 2 * length]
            at += 2 * length
