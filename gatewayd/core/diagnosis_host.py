"""Judgements about the machine: its clock, its disk, its journal, who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatewayd.core.findings import Finding, Severity

CONFIGURATION: Final = "configuration"
PERMISSIONS: Final = "permissions"
CLOCK: Final = "clock battery"
STORAGE: Final = "storage"
JOURNAL: Final = "journal"


# --- the clock -------------------------------------------------------------------------
LIVED_IN_S: Final = 1_735_689_600
"""2025-01-01: a clock before this was never set since its battery last failed."""
CLOCKS_AGREE_S: Final = 120


@dataclass(frozen=True, slots=True)
class Chip:
    """A real-time clock; `time_s` is None when it cannot be read."""

    name: str
    time_s: int | None


@dataclass(frozen=True, slots=True)
class Clock:
    """`promised`: the configuration's `gateway.battery_clock`, None when there is none."""

    chips: tuple[Chip, ...]
    wall_s: int
    promised: bool | None


def judge_clock(seen: Clock) -> Iterator[Finding]:
    """Will this machine know the time after a power cut without a network?"""
    set_ones = [each for each in seen.chips if (each.time_s or 0) >= LIVED_IN_S]
    if not seen.chips:
        yield Finding(
            CLOCK,
            Severity.ERROR if seen.promised else Severity.WARNING,
            "there is none"
            + (", though gateway.battery_clock promises one" if seen.promised else "")
            + ": after a power cut keys with a schedule wait for the network",
            "fit a DS3231 (or, on a Pi 5, the battery), or set gateway.battery_clock = false"
            if seen.promised
            else "fit a DS3231, or on a Pi 5 its battery; then gateway.battery_clock = true",
        )
    elif not set_ones:
        yield Finding(
            CLOCK,
            Severity.ERROR if seen.promised else Severity.WARNING,
            f"{seen.chips[0].name} does not know the time: it has lost it, or was never set",
            "when the time is right: hwclock --systohc; if it is lost again, a new battery",
        )
    elif all(abs((each.time_s or 0) - seen.wall_s) > CLOCKS_AGREE_S for each in set_ones):
        yield Finding(
            CLOCK,
            Severity.WARNING,
            f"{set_ones[0].name} and the system differ by more than {CLOCKS_AGREE_S} s",
            "when the system's time is right: hwclock --systohc",
        )
    elif seen.promised is False:
        yield Finding(
            CLOCK,
            Severity.NOTE,
            f"{set_ones[0].name} keeps the time; the configuration does not count on it",
            "if a battery feeds it (unplug for an hour to see): gateway.battery_clock = true",
        )
    else:
        # A chip looks the same with and without a battery until the power is cut.
        yield Finding(
            CLOCK,
            Severity.FINE,
            f"{set_ones[0].name} knows the time; whether it has a battery shows when unplugged",
        )


# --- the disk ----------------------------------------------------------------------------
SLOW_MS: Final = 100.0
"""Every opening waits for one such write before the lock is told anything."""
TOO_SLOW_MS: Final = 1000.0
LITTLE_BYTES: Final = 500 * 1024 * 1024
NOTHING_BYTES: Final = 20 * 1024 * 1024
LITTLE_INODES: Final = 1000
NOTHING_INODES: Final = 20
"""SQLite's files and those of an update."""
VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the log is. `sync_ms`: how long each of some small durable writes took.

    None: nobody tried. Empty: none could be made. `barred`: whoever looks may not write.
    """

    place: str
    filesystem: str
    free_bytes: int
    free_inodes: int | None
    """None where the file system makes them as it goes."""
    sync_ms: tuple[float, ...] | None
    read_only: bool = False
    barred: bool = False

    @property
    def full(self) -> bool:
        """No room for what the next minutes bring."""
        no_names = self.free_inodes is not None and self.free_inodes < NOTHING_INODES
        return no_names or self.free_bytes < NOTHING_BYTES


def judge_disk(seen: Disk) -> Iterator[Finding]:
    """Durable, fast enough, and with room."""
    found = list(_about_disk(seen))
    if found:
        yield from found
    else:
        durable = f", durable in {max(seen.sync_ms):.0f} ms at worst" if seen.sync_ms else ""
        room = f"{seen.free_bytes // 1024**2} MiB free"
        yield Finding(STORAGE, Severity.FINE, f"{seen.place}: {seen.filesystem}, {room}{durable}")


def _about_disk(seen: Disk) -> Iterator[Finding]:
    slowest = max(seen.sync_ms or (0.0,))
    if seen.read_only or (seen.sync_ms == () and not seen.full):
        how = "is read-only" if seen.read_only else "cannot be written"
        yield Finding(
            STORAGE,
            Severity.ERROR,
            f"{seen.place} {how}: no log, and without one only emergencies get in",
            "dmesg says why; a card that turned read-only is worn out: replace it",
        )
    elif seen.barred:
        yield Finding(
            STORAGE,
            Severity.NOT_LOOKED_AT,
            f"we may not write to {seen.place}, so nobody knows whether it keeps anything",
            "ask as root: sudo",
        )
    elif slowest > SLOW_MS:
        yield Finding(
            STORAGE,
            Severity.ERROR if slowest > TOO_SLOW_MS else Severity.WARNING,
            f"{seen.place}: a durable write took {slowest:.0f} ms, and every opening waits for one",
            "use a card of class A2 or an SSD, and let nothing else write to it",
        )
    if seen.filesystem in VOLATILE:
        yield Finding(
            STORAGE,
            Severity.ERROR,
            f"{seen.place} is on {seen.filesystem}: a power cut takes the log with it",
            "mount a partition of a disk or card there",
        )
    if seen.free_bytes < LITTLE_BYTES:
        yield Finding(
            STORAGE,
            Severity.ERROR if seen.free_bytes < NOTHING_BYTES else Severity.WARNING,
            f"{seen.place} has {seen.free_bytes // 1024**2} MiB left",
            "journalctl --vacuum-size=50M; apt-get clean",
        )
    if seen.free_inodes is not None and seen.free_inodes < LITTLE_INODES:
        yield Finding(
            STORAGE,
            Severity.ERROR if seen.free_inodes < NOTHING_INODES else Severity.WARNING,
            f"{seen.place} has room for {seen.free_inodes} more files",
            "systemctl start gatewayd-bluetooth-cache; else df --inodes, and find who makes files",
        )


# --- the journal ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Journal:
    """`storage` as journald.conf(5) has it; `on_disk`: /var/log/journal exists."""

    storage: str
    on_disk: bool


def judge_journal(seen: Journal) -> Iterator[Finding]:
    """A card wears out under a journal that nobody reads."""
    persistent = seen.storage == "persistent" or (seen.storage == "auto" and seen.on_disk)
    if persistent:
        yield Finding(
            JOURNAL,
            Severity.NOTE,
            "journald writes to the disk all day, which wears out cards",
            "Storage=volatile in /etc/systemd/journald.conf, unless the disk is an SSD",
        )
    else:
        yield Finding(JOURNAL, Severity.FINE, f"Storage={seen.storage}: not on the disk")


# --- who may do what ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class State:
    """The directory of the log: whose it is, and its mode."""

    place: str
    owner: str
    mode: int


@dataclass(frozen=True, slots=True)
class Access:
    """`user`: does the daemon's user exist? `policy`, `helper`: are those files of ours there?

    forgets: is there a timer that empties bluetoothd's cache of strangers' names?
    """

    user: bool
    policy: bool
    helper: bool
    forgets: bool
    state: State | None


def judge_access(seen: Access) -> Iterator[Finding]:
    """The daemon is nobody but itself, and may do what it must."""
    found = list(_about_access(seen))
    yield from found or (Finding(PERMISSIONS, Severity.FINE, "the daemon is a user of its own"),)


def _about_access(seen: Access) -> Iterator[Finding]:
    if not seen.user:
        yield Finding(
            PERMISSIONS,
            Severity.ERROR,
            "there is no user gatewayd",
            "install the package, which makes it",
        )
    if not seen.policy:
        yield Finding(
            PERMISSIONS,
            Severity.WARNING,
            "no D-Bus policies of ours: any program on this machine may disconnect phones",
            "install the package; where it is, add /usr/share/gatewayd/system-local.conf to"
            " /etc/dbus-1/system-local.conf, then: systemctl reload dbus",
        )
    if not seen.helper:
        yield Finding(
            PERMISSIONS,
            Severity.NOTE,
            "no radio helper: an adapter is not restarted past a bluetoothd that hangs",
            "systemctl enable --now gatewayd-radio-helper.socket; systemctl restart gatewayd",
        )
    if not seen.forgets:
        yield Finding(
            PERMISSIONS,
            Severity.WARNING,
            "nothing empties bluetoothd's cache: strangers may fill the disk with names",
            "systemctl enable --now gatewayd-bluetooth-cache.timer",
        )
    if seen.state is not None and (seen.state.owner != "gatewayd" or seen.state.mode & 0o077):
        yield Finding(
            PERMISSIONS,
            Severity.WARNING,
            f"{seen.state.place} belongs to {seen.state.owner}, mode {seen.state.mode:04o}",
            f"chown -R gatewayd: {seen.state.place}; chmod 700 {seen.state.place}",
        )


# --- the configuration ---------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Configuration:
    """What `gatewayd check` found: what is wrong, and its hint."""

    path: str
    problems: tuple[tuple[str, str], ...]


def judge_configuration(seen: Configuration) -> Iterator[Finding]:
    """Every problem is one finding."""
    for message, hint in seen.problems:
        yield Finding(CONFIGURATION, Severity.ERROR, message, hint or f"mend {seen.path}")
    if not seen.problems:
        yield Finding(CONFIGURATION, Severity.FINE, f"{seen.path} and its keys fit together")
