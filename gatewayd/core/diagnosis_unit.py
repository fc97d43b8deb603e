"""Judgements about the daemon's unit: is it opened for what the configuration needs?

The unit as shipped has no network and no device (docs/install.md); drop-ins of the
package open it. Without them the daemon starts, and reaches no broker, relay or wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gatewayd.core.findings import Finding, Severity

UNIT: Final = "unit"

Settings = Mapping[str, tuple[str, ...]]
"""Of its `[Service]`, by name: every value since the last empty one (systemd.syntax(7))."""


@dataclass(frozen=True, slots=True)
class Unit:
    """needs: drop-ins of the package by name, as the configuration asks for them."""

    needs: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Opening:
    """What a drop-in does. off: settings that close; one value of `key` has one of `any_of`."""

    off: tuple[str, ...]
    key: str
    any_of: tuple[str, ...]
    without: str
    """What is not possible."""


_DEVICES: Final = ("PrivateDevices",)
_SERIAL: Final = ("char-188 ", "char-166 ", "char-204 ", "char-4 ", "tty")
OPENINGS: Final[Mapping[str, Opening]] = {
    "uplink.conf": Opening(
        ("PrivateNetwork", "IPAddressDeny"), "RestrictAddressFamilies", ("AF_INET",),
        "the daemon reaches no network",
    ),
    "uplink-certificate.conf": Opening(
        (), "LoadCredential", ("tls.key:",), "the daemon cannot read tls.key",
    ),
    "element.conf": Opening(
        (), "LoadCredential", ("element.pin:",), "the daemon cannot read element.pin",
    ),
    "relay.conf": Opening(_DEVICES, "DeviceAllow", ("gpiochip",), "the daemon reaches no relay"),
    "serial.conf": Opening(_DEVICES, "DeviceAllow", _SERIAL, "the daemon reaches no serial line"),
}  # fmt: skip
_OFF: Final = frozenset({"no", "false", "off", "0", "n", "f", ""})


def judge_unit(seen: Unit) -> Iterator[Finding]:
    """One finding for each drop-in that is missing."""
    missing = [name for name in seen.needs if not _opened(OPENINGS[name], seen.settings)]
    for name in missing:
        yield Finding(
            UNIT,
            Severity.ERROR,
            f"{OPENINGS[name].without}: the unit lacks {name}",
            f"install -D -m 644 -t /etc/systemd/system/gatewayd.service.d"
            f" /usr/share/gatewayd/drop-ins/{name}; systemctl daemon-reload;"
            " systemctl restart gatewayd",
        )
    if not missing:
        opened = ", ".join(seen.needs)
        said = f"opened for what the configuration needs: {opened}" if opened else "closed"
        yield Finding(UNIT, Severity.FINE, said)


def _opened(opening: Opening, settings: Settings) -> bool:
    off = all((settings.get(key) or ("",))[-1].lower() in _OFF for key in opening.off)
    values = settings.get(opening.key, ())
    return off and any(each in f"{value} " for value in values for each in opening.any_of)
