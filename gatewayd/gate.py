"""Whether a gateway is well enough to stay as it is after an update: what `selftest` judges.

The daemon writes how it is into a file on a tmpfs that systemd removes with
it; whoever may read files may judge. There is no socket to speak to, so
nothing of the daemon's listens for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.findings import Finding, Severity
from gatewayd.status import MAX_STATUS_BYTES, LockStatus, Status, decode, encode

FILE: Final = "health.json"
WRITE_EVERY_S: Final = 10.0
STALE_S: Final = 35.0
"""The watchdog of the unit would have ended a daemon that is silent for longer."""
CHECKS: Final = ("daemon", "advertising", "storage", "locks", "clock", "uplink")
MAX_BYTES: Final = 2 * MAX_STATUS_BYTES


class Local(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a status does not say, for it is of this machine only. Times as in `Instant`."""

    boot_id: Annotated[str, Meta(max_length=64)]
    written_s: float
    wall_s: float
    floor_s: int
    uplink: Literal["none", "up", "down"]
    status: msgspec.Raw


def write(local: Local) -> bytes:
    """The file."""
    return msgspec.json.encode(local)


def read(data: bytes) -> tuple[Local, Status]:
    """What the daemon wrote. RemoteProtocolError: MALFORMED, for what it did not."""
    try:
        local = msgspec.json.decode(data, type=Local)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(Fault.MALFORMED, str(error)) from None
    return local, decode(bytes(local.status))


def is_now(local: Local, boot_id: str, boottime_s: float) -> bool:
    """Whether a daemon that lives has written it."""
    return local.boot_id == boot_id and 0 <= boottime_s - local.written_s <= STALE_S


def of(status: Status, **fields: str | float) -> Local:
    """`fields`: those of `Local` but the status."""
    return msgspec.convert({**fields, "status": msgspec.Raw(encode(status))}, Local)


def judge(
    local: Local, status: Status, *, offline: Collection[str], need_uplink: bool
) -> tuple[Finding, ...]:
    """One finding per check. offline: doors whose locks are known not to answer."""
    return (
        Finding("daemon", Severity.FINE, f"gatewayd {status.version} runs"),
        _advertising(status),
        _storage(status),
        _locks(status.locks, offline),
        _clock(local, status),
        _uplink(local, need_uplink=need_uplink),
    )


def not_there(why: str) -> tuple[Finding, ...]:
    """Where nobody wrote how he is, nothing is known of the rest."""
    remedy = "systemctl status gatewayd"
    return (Finding("daemon", Severity.ERROR, why, remedy),)


def _advertising(status: Status) -> Finding:
    if not status.radio:
        return Finding("advertising", Severity.FINE, "a simulated radio serves phones")
    if status.radio in {"advertising", "full"}:
        return Finding("advertising", Severity.FINE, f"phones can connect: {status.radio}")
    text = f"phones cannot connect: {status.radio}"
    return Finding("advertising", Severity.ERROR, text, "gatewayd doctor")


def _storage(status: Status) -> Finding:
    kept = None if status.storage is None else status.storage.kept
    if kept:
        return Finding("storage", Severity.FINE, "the log was written and read back")
    text = "the log was not looked at yet" if kept is None else "the log keeps nothing"
    return Finding("storage", Severity.ERROR, text, "gatewayd doctor looks at the disk")


def _locks(locks: Mapping[str, LockStatus], offline: Collection[str]) -> Finding:
    asked = {door: lock.reached for door, lock in locks.items() if door not in offline}
    silent = sorted(door for door, reached in asked.items() if reached is False)
    unasked = sorted(door for door, reached in asked.items() if reached is None)
    if silent:
        text = f"not reached: {', '.join(silent)}"
        remedy = "if it was so before: --offline DOOR, and look after the lock"
        return Finding("locks", Severity.ERROR, text, remedy)
    if unasked:
        text = f"not dialled yet: {', '.join(unasked)}"
        return Finding("locks", Severity.ERROR, text, "--wait: each is dialled in ten minutes")
    known = sorted(set(offline) & locks.keys())
    if known:
        return Finding("locks", Severity.NOTE, f"known to be offline: {', '.join(known)}")
    return Finding("locks", Severity.FINE, "every lock was reached")


def _clock(local: Local, status: Status) -> Finding:
    if status.clock in {"trusted", "holdover"}:
        return Finding("clock", Severity.FINE, f"the time is known: {status.clock}")
    if local.wall_s >= local.floor_s:
        return Finding("clock", Severity.NOTE, "the time is unknown, and not before what was known")
    text = f"the clock is {local.floor_s - local.wall_s:.0f} s before a time that has passed"
    return Finding("clock", Severity.ERROR, text, "gatewayd cloud time, or set the clock")


def _uplink(local: Local, *, need_uplink: bool) -> Finding:
    if local.uplink == "up":
        return Finding("uplink", Severity.FINE, "connected to the broker")
    if local.uplink == "none":
        return Finding("uplink", Severity.FINE, "no broker is configured")
    if need_uplink:
        return Finding(
            "uplink", Severity.ERROR, "no session with the broker", "is there a network?"
        )
    return Finding("uplink", Severity.NOTE, "no session with the broker: doors need none")
