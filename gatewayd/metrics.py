"""The status as Prometheus reads it: the text format, for the textfile collector of node_exporter.

Nothing is in it that the status does not have, so nothing of persons. Labels
are this gateway's doors, and words of our own: what a lock or a stranger says
never names a series. https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gatewayd.core.lock_condition import Trouble
from gatewayd.status import Status

PREFIX: Final = "gatewayd_"
_CLOCKS: Final = ("trusted", "holdover", "unknown")
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Sample = tuple[Mapping[str, str], float]


def text(status: Status, *, connected: bool | None) -> str:
    """All that is known; what is not is left out. connected: None without a broker."""
    return "".join(
        _family(name, help_, samples)
        for name, help_, samples in (*_of_gateway(status, connected), *_of_locks(status))
        if samples
    )


def _of_gateway(status: Status, connected: bool | None) -> Iterable[tuple[str, str, list[Sample]]]:
    storage = status.storage
    yield "info", "Always 1.", [({"version": status.version}, 1)]
    yield (
        "clock_state",
        "1 for how sure the time is.",
        [({"state": each}, float(each == status.clock)) for each in _CLOCKS],
    )
    yield "uplink_connected", "Whether a session with the broker stands.", _known(connected)
    yield (
        "serving",
        "Whether phones can connect; without BlueZ nobody says.",
        _known(status.radio in {"advertising", "full"} if status.radio else None),
    )
    yield "log_unpulled_days", "How long the oldest entry waits.", _known(status.unpulled_days)
    for name in ("credential", "certificate"):
        term = getattr(status, name)
        yield (
            f"{name}_end_timestamp_seconds",
            f"When our {name} ends.",
            _known(None if term is None else term[1]),
        )
    for name in ("strangers", "faults", "radio_losses", "radio_sent_away", "radio_repairs"):
        help_ = "At least so many since the start: cut to a power of two."
        yield name, help_, _known(getattr(status, name))
    if storage is not None:
        free = storage.free_percent
        yield "storage_free_ratio", "Room left under the log.", _known(free and free / 100)
        yield "storage_kept", "Whether the last look wrote and read.", _known(storage.kept)


def _of_locks(status: Status) -> Iterable[tuple[str, str, list[Sample]]]:
    locks = status.locks.items()
    yield (
        "lock_reached",
        "Whether the last dial found it.",
        [({"door": door}, float(lock.reached)) for door, lock in locks if lock.reached is not None],
    )
    yield (
        "lock_battery_ratio",
        "As the lock says.",
        [
            ({"door": door}, lock.battery_percent / 100)
            for door, lock in locks
            if lock.battery_percent is not None
        ],
    )
    yield (
        "lock_strength_dbm",
        "How strongly it was received.",
        [({"door": door}, lock.rssi_dbm) for door, lock in locks if lock.rssi_dbm is not None],
    )
    yield (
        "lock_trouble",
        "1 while it stands.",
        [
            ({"door": door, "trouble": each.value}, float(each.value in lock.troubles))
            for door, lock in locks
            for each in Trouble
        ],
    )


def _known(value: float | None) -> list[Sample]:
    return [] if value is None else [({}, float(value))]


def _family(name: str, help_: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {PREFIX}{name} {help_}", f"# TYPE {PREFIX}{name} gauge"]
    for labels, value in samples:
        shown = ",".join(f'{key}="{each.translate(_ESCAPES)}"' for key, each in labels.items())
        lines.append(f"{PREFIX}{name}{f'{{{shown}}}' if shown else ''} {value:.15g}")
    return "\n".join(lines) + "\n"
