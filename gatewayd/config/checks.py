"""What no single field can say: names that clash, zones and brokers that cannot be meant."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gatewayd import addresses
from gatewayd.config import doors
from gatewayd.config.decode import Report
from gatewayd.config.model import Config, Door, Radio, Uplink
from gatewayd.keyfiles import open_to_others

_SCHEMES: Final = ("mqtt", "mqtts")


def check(config: Config, report: Report, *, unbound: bool = False) -> None:
    """Add to `report` what is wrong across fields; `unbound`: doors need not be bound yet."""
    with _looking_at(("gateway", "state"), report):
        _state(config.gateway.state, report)
    _radio(config.radio, report)
    check_doors(config.doors, report, unbound=unbound)
    if config.uplink is not None:
        _uplink(config.uplink, report)
    if config.helpdesk is not None and config.uplink is None:
        report.add(
            ("helpdesk",),
            "helpdesk has no use without [uplink]: no order would arrive",
            "name the broker, or leave the section out",
        )
    if config.metrics is not None and config.metrics.file.suffix != ".prom":
        report.add(
            ("metrics", "file"),
            f"metrics.file: {config.metrics.file} does not end in .prom",
            "node_exporter reads no other files: /run/gatewayd/gatewayd.prom",
        )


@contextmanager
def _looking_at(place: tuple[str, str], report: Report) -> Iterator[None]:
    """A file that cannot even be looked at is a problem, too."""
    try:
        yield
    except OSError as error:
        problem = f"{error.filename} cannot be looked at: {error.strerror}"
        report.add(place, problem, f"{'.'.join(place)} names it: is the name right?")


def _state(state: Path, report: Report) -> None:
    place = ("gateway", "state")
    if (state.exists() or state.is_symlink()) and not state.is_dir():
        report.add(place, f"{state} is not a directory", "name a directory for the log")
    elif not state.parent.is_dir():
        report.add(place, f"{state.parent} does not exist", f"mkdir -p {state.parent}")


def _radio(radio: Radio, report: Report) -> None:
    virtual = radio.kind == "virtual"
    if virtual and radio.hci is None:
        report.add(
            ("radio",),
            "radio.hci is missing: a virtual radio needs its controller",
            'hci = "unix:/run/air/gateway.hci", or kind = "bluez" for this machine\'s Bluetooth',
        )
    useless = {
        "hci": not virtual and radio.hci is not None,
        "adapter": virtual and radio.adapter is not None,
        "lock_adapter": virtual and radio.lock_adapter is not None,
    }
    for name, there in useless.items():
        if there:
            report.add(
                ("radio", name),
                f'radio.{name} has no use with kind = "{radio.kind}"',
                "leave it out, or choose the other kind",
            )
    if radio.lock_adapter is not None and radio.lock_adapter == radio.adapter:
        report.add(
            ("radio", "lock_adapter"),
            "radio.lock_adapter is the adapter that serves phones",
            "leave it out: one adapter then does both",
        )
    if radio.lock_adapter is not None and radio.adapter is None and not virtual:
        report.add(
            ("radio", "lock_adapter"),
            "radio.lock_adapter is named, but radio.adapter is not",
            "the first adapter there is could be the very same: name both",
        )


def check_doors(found: Sequence[Door], report: Report, *, unbound: bool = False) -> None:
    """Add to `report` what is wrong with doors, wherever they are described."""
    doors.distinct([each.id for each in found], ("id",), report)
    doors.check(found, report, unbound=unbound)
    for index, door in enumerate(found):
        if not _is_zone(door.zone):
            import difflib  # noqa: PLC0415 - for whoever mistypes; a daemon that runs needs none

            near = difflib.get_close_matches(door.zone, zoneinfo.available_timezones(), n=1)
            report.add(
                ("door", index, "zone"),
                f"door[{index + 1}].zone: there is no time zone '{door.zone}'",
                f"did you mean '{near[0]}'?" if near else "as Europe/Copenhagen; is tzdata there?",
            )


def _is_zone(name: str) -> bool:
    """Opens one file; `available_timezones` opens 1800, and loads two megabytes of modules."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return not name.startswith(("posix/", "right/"))


def _uplink(uplink: Uplink, report: Report) -> None:
    place = ("uplink", "broker")
    parts = _split(uplink.broker)
    if parts is None or parts.scheme not in _SCHEMES or not parts.hostname:
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
    if parts.scheme == "mqtt" and not addresses.is_loopback(parts.hostname):
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
            continue
        with _looking_at(place, report):
            if not path.is_file():
                hint = "see docs/configuration.md"
                report.add(place, f"uplink.{name}: {path} does not exist", hint)
            elif name == "key" and open_to_others(path.stat()):
                report.add(place, f"uplink.key: {path} can be read by others", f"chmod 600 {path}")
    if (uplink.certificate is None) != (uplink.key is None):
        report.add(
            ("uplink",), "certificate and key belong together", "name both of them, or neither"
        )


def _split(broker: str) -> SplitResult | None:
    """None for what is no address, or has a port that there is not."""
    try:
        parts = urlsplit(broker)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts
