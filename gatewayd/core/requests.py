"""Is this `Open` new, a repetition, or company for one that is already running?

A phone that lost its connection asks again with the same request id and must
get the same answer, for 24 hours and across restarts. Two people at one door
must not make the motor turn twice. Everything is decided here, synchronously,
before anything is awaited; the caller authorises and records `New`, `Join` and
`NoOp` on their own.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from firmware_proto import cbor
from firmware_proto.codes import Action, Presence
from gatewayd.core.model import INTERRUPTED, CommandId, DoorId, PastRequest, Verdict


# --- what is asked ----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Request:
    """An `Open`, reduced to what must be compared. Make it with `request`."""

    key: bytes
    """HMAC over token identity and request id: names the request, not the holder."""
    content: bytes
    """HMAC over door, action and presence."""
    action: Action


def request(  # noqa: PLR0913 - these six, and nothing else, are what an `Open` is
    secret: bytes,
    identity: bytes,
    request_id: bytes,
    *,
    door: DoorId,
    action: Action,
    presence: Presence,
) -> Request:
    """Reduce an `Open`.

    Args:
        secret: this gateway's own random key, 32 bytes, the same across restarts.
        identity: `TokenIdentity.digest()`; a request id is scoped to the token.
        request_id: 16 bytes chosen by the phone.
        door: the door asked for.
        action: exactly one bit.
        presence: how the phone came to ask.
    """
    return Request(
        key=request_key(secret, identity, request_id),
        content=_keyed(secret, "content", [door, int(action), int(presence)]),
        action=action,
    )


def request_key(secret: bytes, identity: bytes, request_id: bytes) -> bytes:
    """The key under which the log finds a past request (for `GetResult`, too)."""
    return _keyed(secret, "request", [identity, request_id])


def _keyed(secret: bytes, purpose: str, fields: list[cbor.Encodable]) -> bytes:
    return hmac.digest(secret, cbor.encode([purpose, *fields]), hashlib.sha256)


# --- what the door is doing -----------------------------------------------------------
@dataclass(frozen=True, slots=True)
class InFlight:
    """The opening that runs at this door now; a door has at most one."""

    request: Request
    command: CommandId


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The last opening that the lock confirmed, and until when the latch stays pulled.

    `until_s` is on the clock of `Instant.boottime_s`.
    """

    action: Action
    until_s: float


# --- answers ------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class New:
    """Decide, record, act."""


@dataclass(frozen=True, slots=True)
class Join:
    """The same is being done right now: decide and record, then share its verdict."""

    command: CommandId


@dataclass(frozen=True, slots=True)
class NoOp:
    """The door is open already: decide and record, then answer CONFIRMED, ALREADY_OPEN."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Asked before: answer the same again. Nothing is decided, recorded or moved."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Busy:
    """Something else is being done at this door: REFUSED, BUSY."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A known request id with other content: the fault ID_REUSED."""


Admission = New | Join | NoOp | Replay | Busy | Conflict


def admit(
    asked: Request,
    *,
    past: PastRequest | None,
    in_flight: InFlight | None,
    last_confirmed: Confirmed | None,
    now_s: float,
) -> Admission:
    """What to do with `asked`. `now_s` is `Instant.boottime_s`.

    `past` is what the log knows of `asked.key`. A past request without verdict
    that is not in flight was cut short: it is UNKNOWN, and never tried again.
    """
    if in_flight is not None and in_flight.request.key == asked.key:
        return Join(in_flight.command) if in_flight.request == asked else Conflict()
    if past is not None:
        if past.content != asked.content:
            return Conflict()
        return Replay(past.verdict or INTERRUPTED)
    if in_flight is not None:
        return Join(in_flight.command) if in_flight.request.action == asked.action else Busy()
    if last_confirmed is not None and _still_open(asked, last_confirmed, now_s):
        return NoOp()
    return New()


def _still_open(asked: Request, last: Confirmed, now_s: float) -> bool:
    # only opening is idempotent within the latch time; a bolt may have been moved since
    return asked.action == last.action == Action.OPEN and now_s < last.until_s
