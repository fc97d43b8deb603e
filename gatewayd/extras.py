"""Whether the libraries that a configuration asks for are installed on this machine.

Those of radios, wires and relays are extras, loaded only where a door needs them.
Part of the composition: it names adapters, and tries to import them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Final

from msgspec.structs import replace

from gatewayd.config import Config, Report

ADAPTERS: Final[Mapping[str, str]] = {
    "bluez": "gatewayd.adapters.bluez",
    "demo": "gatewayd.adapters.virtual_radio",
    "serial": "gatewayd.adapters.serial_line",
    "relay": "gatewayd.adapters.relay.line",
}
"""By the extra of pyproject.toml: who cannot be imported without it."""


def check(config: Config, report: Report) -> None:
    """Add to `report` every library that is asked for and cannot be used."""
    for place, who, extra in _asked(config):
        if not _importable(extra):
            report.add(
                place,
                f"{who} needs libraries that are not installed",
                f"pip install 'gatewayd[{extra}]'",
            )


def _asked(config: Config) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Where, who, and which extra."""
    kind = config.radio.kind
    virtual = kind == "virtual"
    yield (
        ("radio", "hci" if virtual else "kind"),
        f"a radio of the kind {kind}",
        "demo" if virtual else "bluez",
    )
    for index, door in enumerate(config.doors):
        if door.lock is not None and door.lock.serial is not None:
            yield ("door", index, "lock", "serial"), f"door {door.id}", "serial"
        if door.relay is not None:
            yield ("door", index, "relay"), f"door {door.id}", "relay"


def usable(config: Config, tell: Callable[[str], None]) -> Config:
    """Without the doors whose libraries cannot be used; `tell` hears which, and why.

    For doors that came by envelope: nobody is there to install anything, and the others open.
    """
    missing = {
        place[1]: f"{who} is not served: gatewayd[{extra}] is not installed"
        for place, who, extra in _asked(config)
        if place[0] == "door" and not _importable(extra)
    }
    for said in missing.values():
        tell(said)
    doors = tuple(door for index, door in enumerate(config.doors) if index not in missing)
    return replace(config, door=doors)


def _importable(extra: str) -> bool:
    try:
        import_module(ADAPTERS[extra])
    except ImportError:
        return False
    return True
