"""The unit files that we ship, as programs read them."""

from __future__ import annotations

from pathlib import Path

UNITS = Path(__file__).parents[2] / "systemd"
DAEMON, HELPER = "gatewayd.service", "gatewayd-radio-helper.service"


def settings(path: Path, section: str = "Service") -> dict[str, list[str]]:
    """The settings of one section, each with all its values."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def environment(unit: str = DAEMON) -> dict[str, str]:
    """What systemd puts into a program's environment, because its unit says so."""
    lines = settings(UNITS / unit)["Environment"]
    return dict(word.split("=", 1) for line in lines for word in line.split())
