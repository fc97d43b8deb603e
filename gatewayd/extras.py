"""Whether the libraries that a configuration asks for are installed on this machine.

Those of radios, wires, relays and secure elements are extras, loaded only where they are needed.
Part of the composition: it names adapters, and tries to import them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from gatewayd import keyfiles
from gatewayd.config import Config, Report, credentials
from gatewayd.core.key_uri import KeyUri
from gatewayd.device_keys import DeviceKey, KeyDeviceError, KeyUse
from gatewayd.keyfiles import KeyFileError

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


@dataclass(frozen=True, slots=True)
class KeyDevices:
    """See `device_keys.KeyDevices`. PINs are credentials of systemd's, or files, like keys."""

    handed_over: Path | None = None
    """As `config.credentials.directory`."""
    try_pin: bool = False
    """Also a PIN after a wrong one; for a person who knows that it is right."""

    def open(self, uri: KeyUri, use: KeyUse) -> DeviceKey:
        """See `device_keys.OpenKey`."""
        with _library_of_elements():
            from gatewayd.adapters.element import keys  # noqa: PLC0415 - an extra
        return keys.open_key(uri, use, self._pin(uri), try_pin=self.try_pin)

    def make(self, uri: KeyUri, label: str, use: KeyUse) -> KeyUri:
        """See `device_keys.KeyDevices`."""
        with _library_of_elements():
            from gatewayd.adapters.element import keys  # noqa: PLC0415 - an extra
        return keys.make_key(uri, label, use, self._pin(uri))

    def _pin(self, uri: KeyUri) -> str | None:
        if uri.pin_source is None:
            return None
        path = credentials.placed(Path(uri.pin_source), self.handed_over)
        try:
            pin = keyfiles.read_file(path, "PIN", private=True).decode("utf-8").rstrip("\r\n")
        except KeyFileError as error:
            raise KeyDeviceError(error.message, error.hint) from None
        except UnicodeDecodeError:
            raise KeyDeviceError(f"PIN {path} is not UTF-8", "write it again") from None
        if not pin:  # to the element it would be a wrong one, and counted
            raise KeyDeviceError(f"PIN {path} is empty", "write it again")
        return pin


@contextmanager
def _library_of_elements() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise KeyDeviceError(
            "secure elements need a library that is not installed",
            "pip install 'gatewayd[pkcs11]'",
        ) from None


def _importable(extra: str) -> bool:
    try:
        import_module(ADAPTERS[extra])
    except ImportError:
        return False
    return True
