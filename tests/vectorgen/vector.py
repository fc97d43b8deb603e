"""One test vector, and its file."""

from __future__ import annotations

from dataclasses import dataclass

ACCEPT = "accept"


@dataclass(frozen=True)
class Vector:
    """One file."""

    name: str
    about: str
    expect: str
    layer: str
    lines: tuple[tuple[str, bytes | str], ...]

    def text(self) -> str:
        rows = [f"# {self.about}", f"expect: {self.expect}", f"layer: {self.layer}"]
        for name, value in self.lines:
            rows.append(f"{name}: {value.hex() if isinstance(value, bytes) else value}")
        return "\n".join(rows) + "\n"
