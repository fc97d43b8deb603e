"""Judgements about BlueZ: versions that do not go together, and what bluetoothd was told.

Every rule names where it is known from. BlueZ is what runs as bluetoothd, the
kernel is what `uname -r` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gatewayd.core.findings import Finding, Severity, number

VERSIONS: Final = "kernel and BlueZ"
SETTINGS: Final = "main.conf"

Version = tuple[int, ...]

SIMULTANEOUS_ROLES: Final = "671b10b5-42c0-4696-9227-eb28d1b049d6"
MAIN_CONF: Final = "/etc/bluetooth/main.conf"
"""Which bluetoothd reads unless it is told another."""
THEN: Final = "then: systemctl restart bluetooth"


# --- versions ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Versions:
    """As the programs name them: `6.12.93+rpt-rpi-v8`, `5.82`."""

    kernel: str
    bluez: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Kernels of one series from `kernel` on, below `mended`, with BlueZ below `bluez`."""

    kernel: Version
    mended: Version | None
    bluez: Version
    message: str
    remedy: str


# https://github.com/bluez/bluez/issues/2269 and .../2268 and
# https://github.com/raspberrypi/linux/issues/7473: bluetoothd sends too many
# bytes, which kernels checked from 6.12.93 and 6.18.34 on; 6.18.37 lets them pass again.
_REFUSED: Final = "this kernel refuses every advertisement of this BlueZ: no phone sees the door"
_NEWER: Final = "install BlueZ 5.87 or newer, or stay with kernel 6.12.87: apt-mark hold it"
KNOWN_BAD: Final = (
    Pair((6, 12, 93), None, (5, 87), _REFUSED, _NEWER),
    Pair((6, 18, 34), (6, 18, 37), (5, 87), _REFUSED, _NEWER),
)

# https://www.home-assistant.io/integrations/bluetooth/ names this floor from wide use.
OLDEST_KERNEL: Final = (5, 15, 62)
OLDEST_BLUEZ: Final = (5, 63)
# https://github.com/bluez/bluez/issues/584: before, the kernel dialled nobody while it
# believed of most controllers that they could not do both at once.
BOTH_AT_ONCE_KERNEL: Final = (6, 12)
# LEAdvertisement1.MinInterval is experimental before (BlueZ commit 7e028287a).
INTERVALS_BLUEZ: Final = (5, 77)
# https://github.com/bluez/bluez/issues/570: before, a write of 511 or 512 bytes is dropped.
LARGE_WRITES_BLUEZ: Final = (5, 69)
LARGEST_SAFE_MTU: Final = 512


def version(text: str) -> Version:
    """The numbers at the head of a version; empty when it has none, or one beyond belief."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", text)
    numbers = [number(each) for each in found[0].split(".")] if found else []
    known = tuple(each for each in numbers if each is not None)
    return known if len(known) == len(numbers) else ()


def judge_versions(seen: Versions) -> Iterator[Finding]:
    """Each alone, and both together."""
    kernel, bluez = version(seen.kernel), version(seen.bluez)
    both = f"kernel {seen.kernel} with BlueZ {seen.bluez}"
    if not kernel or not bluez:
        yield Finding(
            VERSIONS,
            Severity.NOT_LOOKED_AT,
            f"{both}: not versions",
            "uname -r; bluetoothd --version",
        )
        return
    found = list(_about_versions(kernel, bluez, both))
    yield from found or (Finding(VERSIONS, Severity.FINE, f"{both}: nothing is known against it"),)


def _about_versions(kernel: Version, bluez: Version, both: str) -> Iterator[Finding]:
    for pair in KNOWN_BAD:
        same_series = kernel[:2] == pair.kernel[:2]
        mended = pair.mended is not None and kernel >= pair.mended
        if same_series and kernel >= pair.kernel and not mended and bluez < pair.bluez:
            yield Finding(VERSIONS, Severity.ERROR, f"{both}: {pair.message}", pair.remedy)
    if kernel < OLDEST_KERNEL or bluez < OLDEST_BLUEZ:
        yield Finding(
            VERSIONS,
            Severity.WARNING,
            f"{both}: older than what is known to work for months",
            "install a newer release: kernel 5.15.62 and BlueZ 5.63 at least",
        )
    elif kernel < BOTH_AT_ONCE_KERNEL:
        yield Finding(
            VERSIONS,
            Severity.NOTE,
            f"{both}: locks may not be reached while a phone is connected",
            "if locks are out of reach while phones knock: kernel 6.12, or a second adapter",
        )


# --- main.conf -----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Settings:
    """What bluetoothd was told: the text of main.conf, and its version.

    restart: `Restart=` of its unit; None where no unit of systemd's starts it. file: the name
    of what it reads.
    """

    text: str
    bluez: str
    restart: str | None = None
    file: str = MAIN_CONF


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting of main.conf, the value that a gateway wants, and what happens without it."""

    section: str
    key: str
    value: str
    without: str
    severity: Severity = Severity.WARNING


# What each means: https://github.com/bluez/bluez/blob/master/src/main.conf. Known from
# https://github.com/bluez/bluez/issues/67 (pairing prompts), .../425 (dialling on its own);
# TemporaryTimeout as in Home Assistant OS, whose default of 30 s is too short for scan and dial;
# KernelExperimental: https://github.com/bluez/bluez/issues/584.
WANTED: Final = (
    Wanted(
        "General", "ReverseServiceDiscovery", "false", "phones may be asked to pair",
    ),
    Wanted(
        "General", "TemporaryTimeout", "195", "locks are forgotten between scan and dial",
    ),
    Wanted(
        "General", "KernelExperimental", SIMULTANEOUS_ROLES,
        "phones that are connected are sent away when a lock is not reached",
    ),
    Wanted(
        "General", "JustWorksRepairing", "never", "strangers may replace a pairing",
    ),
    Wanted(
        "General", "ControllerMode", "le", "the radio also spends its time on classic Bluetooth",
        Severity.NOTE,
    ),
    Wanted(
        "LE", "MinConnectionInterval", "6", "fast phones are slowed down when they connect",
        Severity.NOTE,
    ),
    Wanted(
        "LE", "MaxConnectionInterval", "40", "slow phones are hurried when they connect",
        Severity.NOTE,
    ),
    Wanted(
        "Policy", "ReconnectAttempts", "0", "bluetoothd dials locks on its own, beside us",
    ),
    Wanted(
        "Policy", "AutoEnable", "true", "an adapter that comes back stays switched off",
    ),
)  # fmt: skip

DEFAULTS: Final = {
    ("General", "JustWorksRepairing"): "never",
    ("LE", "MaxConnectionInterval"): "40",  # the kernel's (net/bluetooth/hci_core.c)
    ("Policy", "AutoEnable"): "false",
}
ONE_CHANNEL_BLUEZ: Final = (5, 67)
"""From here on EATT is off by default (BlueZ commit ab3ff0d2c): nothing orders its channels."""
AUTO_ENABLE_BLUEZ: Final = (5, 65)
"""From here on adapters are switched on by default (BlueZ commit 180cf0993)."""

NEVER_AGAIN: Final = frozenset({"no", "on-success"})
"""Of `Restart=` (systemd.service(5)): nothing happens after a crash. Debian 12's unit sets none."""


def key_file(text: str) -> Mapping[tuple[str, str], str]:
    """The settings of a GKeyFile by section and key; a later value wins.

    A comment has a line of its own: behind a value it belongs to the value.
    """
    found: dict[tuple[str, str], str] = {}
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and not line.startswith("#") and "=" in line:
            key, _, value = line.partition("=")
            found[section, key.strip()] = value.strip()
    return found


def judge_settings(seen: Settings) -> Iterator[Finding]:
    """What a gateway wants of bluetoothd, one finding per setting that differs."""
    given = key_file(seen.text)
    defaults = dict(DEFAULTS)
    if version(seen.bluez) >= AUTO_ENABLE_BLUEZ:
        defaults["Policy", "AutoEnable"] = "true"
    found = [
        _differs(wanted, given, seen.file)
        for wanted in WANTED
        if not _is(wanted, {**defaults, **given}.get((wanted.section, wanted.key)))
    ]
    found += _about_this_bluez(seen, given)
    yield from found or (Finding(SETTINGS, Severity.FINE, "as a gateway wants it"),)


def _about_this_bluez(seen: Settings, given: Mapping[tuple[str, str], str]) -> Iterator[Finding]:
    """What matters to some versions only, and whether a crash is the end."""
    if version(seen.bluez) < INTERVALS_BLUEZ and given.get(("General", "Experimental")) != "true":
        yield Finding(
            SETTINGS,
            Severity.WARNING,
            f"BlueZ {seen.bluez} advertises every 1.28 s, whatever we ask: phones find it late",
            f"Experimental = true in [General] of {seen.file}, {THEN}",
        )
    default = "3" if version(seen.bluez) < ONE_CHANNEL_BLUEZ else "1"
    if given.get(("GATT", "Channels"), default) != "1":
        yield Finding(
            SETTINGS,
            Severity.WARNING,
            "parts of a message may overtake each other on their way to some phones",
            f"Channels = 1 in [GATT] of {seen.file}, {THEN}",
        )
    mtu = number(given.get(("GATT", "ExchangeMTU"), "517"))
    safe = mtu is not None and mtu <= LARGEST_SAFE_MTU
    if version(seen.bluez) < LARGE_WRITES_BLUEZ and not safe:
        yield Finding(
            SETTINGS,
            Severity.WARNING,
            f"BlueZ {seen.bluez} drops the largest writes of phones without a word",
            f"ExchangeMTU = {LARGEST_SAFE_MTU} in [GATT] of {seen.file}, {THEN}",
        )
    if seen.restart in NEVER_AGAIN:
        yield Finding(
            SETTINGS,
            Severity.WARNING,
            f"bluetooth.service has Restart={seen.restart}: nobody starts bluetoothd again when"
            " it crashes",
            "install the package, which says so; or Restart=on-failure in [Service]: systemctl edit"
            " bluetooth",
        )


def _is(wanted: Wanted, value: str | None) -> bool:
    if value is None:
        return False
    if wanted.key == "KernelExperimental":  # a list, or everything
        return value == "true" or wanted.value in {each.strip() for each in value.split(",")}
    return value == wanted.value


def _differs(wanted: Wanted, given: Mapping[tuple[str, str], str], file: str) -> Finding:
    value = given.get((wanted.section, wanted.key))
    is_now = "is not set" if value is None else f"is {value}"
    return Finding(
        SETTINGS,
        wanted.severity,
        f"{wanted.key} {is_now}: {wanted.without}",
        f"{wanted.key} = {wanted.value} in [{wanted.section}] of {file}, {THEN}",
    )
