"""Write the test vectors and the worked example of PROTOCOL.md: `python -m tests.vectorgen`."""

from __future__ import annotations

from pathlib import Path

import firmware_proto
from tests.vectorgen import document, vectors

ROOT = Path(firmware_proto.__file__).parent


def write() -> None:
    """Replace all vectors, and the worked example."""
    folder = ROOT / "vectors"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    for vector in vectors.vectors():
        (folder / f"{vector.name}.txt").write_text(vector.text(), encoding="utf-8")
    protocol = ROOT / "PROTOCOL.md"
    text = protocol.read_text(encoding="utf-8")
    protocol.write_text(document.replaced(text), encoding="utf-8")


write()
