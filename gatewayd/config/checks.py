"""What no single field can say: names that clash, zones and brokers that cannot be meant."""

from __future__ import annotations

import difflib
import ipaddress
import zoneinfo
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gatewayd.config.decode import Report
from gatewayd.config.model import Config, Uplink
from gatewayd.keyfiles import open_to_others

_SCHEMES: Final = ("mqtt", "mqtts")


def check(config: Config, report: Report) -> None:
    """Add to `report` what is wrong across fields."""
    _state(config.gateway.state, report)
    _doors(config, report)
    if config.uplink is not None:
        _uplink(config.uplink, report)


def _state(state: Path, report: Report) -> None:
    place = ("gateway", "state")
    if state.exists() and not state.is_dir():
        report.add(place, f"{state} is not a directory", "name a directory for the log")
    elif not state.parent.is_dir():
        report.add(place, f"{state.parent} does not exist", f"mkdir -p {state.parent}")


def _doors(config: Config, report: Report) -> None:
    _distinct([each.id for each in config.doors], ("id",), report)
    # a lock bound twice would open two doors with one key's worth of permission
    _distinct([each.lock.address for each in config.doors], ("lock", "address"), report)
    zones = zoneinfo.available_timezones()
    for index, door in enumerate(config.doors):
        if door.zone not in zones:
            near = difflib.get_close_matches(door.zone, zones, n=1)
            report.add(
                ("door", index, "zone"),
                f"door[{index + 1}].zone: there is no time zone '{door.zone}'",
                f"did you mean '{near[0]}'?" if near else "as Europe/Copenhagen; is tzdata there?",
            )


def _distinct(values: list[str], field: tuple[str, ...], report: Report) -> None:
    for index, value in enumerate(values):
        first = values.index(value)
        if first != index:
            report.add(
                ("door", index, *field),
                f"door[{index + 1}].{'.'.join(field)}: {value} is door[{first + 1}]'s already",
                "every door has its own name and its own lock",
            )


def _uplink(uplink: Uplink, report: Report) -> None:
    place = ("uplink", "broker")
    parts = urlsplit(uplink.broker)
    if parts.scheme not in _SCHEMES or not parts.hostname or not _port_is_valid(parts):
        report.add(
            place,
            "uplink.broker is not the address of a broker",
            "mqtts://broker.example:8883, or mqtt://127.0.0.1:1883 on the same machine",
        )
        return
    if parts.username is not None or parts.password is not None:
        report.add(
            place,
            "uplink.broker has a password in it",
            "the certificate of this gateway is what the broker knows it by",
        )
    if parts.scheme == "mqtt" and not is_loopback(parts.hostname):
        report.add(
            place,
            f"uplink.broker would send in the clear to {parts.hostname}",
            "use mqtts://; plain mqtt:// is for a broker on this very machine",
        )
    _tls_files(uplink, parts.scheme, report)


def _tls_files(uplink: Uplink, scheme: str, report: Report) -> None:
    named = {
        "authorities": uplink.authorities,
        "certificate": uplink.certificate,
        "key": uplink.key,
    }
    for name, path in named.items():
        place = ("uplink", name)
        if path is None:
            continue
        if scheme == "mqtt":
            report.add(place, f"uplink.{name} has no use with mqtt://", "use mqtts://")
        elif not path.is_file():
            report.add(place, f"uplink.{name}: {path} does not exist", "see docs/configuration.md")
        elif name == "key" and open_to_others(path.stat()):
            report.add(place, f"uplink.key: {path} can be read by others", f"chmod 600 {path}")
    if (uplink.certificate is None) != (uplink.key is None):
        report.add(
            ("uplink",), "certificate and key belong together", "name both of them, or neither"
        )


def _port_is_valid(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
