"""How far the wall clock may be believed: TRUSTED, HOLDOVER or UNKNOWN, and a floor.

A Pi may have no clock battery, NTP is not authenticated, couriers can replay.
So time is what the operator's time key signed in answer to a fresh nonce of
ours, carried on by CLOCK_BOOTTIME, which never steps; the system's wall clock
is looked at in two places only, both bounded:

* across a power cut, and only where the installer said that the clock has a
  battery (`battery_clock`) and it had agreed with signed time before;
* at provisioning, when it agrees with a time signed a moment ago.

The floor is the time that has certainly passed. It is persisted, rises only,
and no answer below it is believed: what the floor has passed is over in every
clock state.

`Timekeeping` is immutable; store `encode()` with every change of `anchor` or
`floor_s` and call `started` once after `decode`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from firmware_proto import cbor
from firmware_proto.codes import ID_BYTES
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import ClockState, Instant, TimeReading

FRESH_S: Final = 10.0
"""An answer that took longer proves too little; the same N as for TimeProof."""

DRIFT: Final = 100e-6
"""Seconds per second; a Pi's crystal is within 30 ppm at room temperature, less so in a cold
stairwell."""

TRUSTED_BOUND_S: Final = 60.0
"""TRUSTED becomes HOLDOVER when drift has widened the bound to this: after about a week."""

HOLDOVER_BOUND_S: Final = 3600.0
"""HOLDOVER becomes UNKNOWN: after about 400 days."""

BATTERY_ERROR_S: Final = 2.0
"""A battery-backed clock counts whole seconds and is read and set with a delay."""

AGREEMENT_S: Final = 60.0
"""The wall clock counts as right when it is this close to signed time."""

_RESOLUTION_S: Final = 0.5
"""Signed times are whole seconds, so the true time is half a second later on average."""

_FORMAT: Final = 1


class TimeRefusal(Enum):
    """Why an answer is not time."""

    NOT_ASKED = "no question of ours is open, or it had another nonce"
    TOO_LATE = "the answer took too long"
    BELOW_FLOOR = "the answer lies before what has certainly passed"
    PROVISIONED_BEFORE = "this gateway has had a time already"
    WALL_CLOCK_DISAGREES = "the wall clock does not agree with the signed time"


class TimeRefusedError(Exception):
    """The answer is not believed; nothing has changed. BELOW_FLOOR deserves an alarm."""

    def __init__(self, refusal: TimeRefusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class DamagedTimeError(ValueError):
    """The stored value is not what `encode` writes."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """At `boottime_ms` of this boot it was `time_ms`, give or take `bound_ms` (Unix time)."""

    boot_id: str
    boottime_ms: int
    time_ms: int
    bound_ms: int
    signed: bool
    """By the time key; otherwise carried over a restart by the battery-backed clock."""
    wall_agreed: bool
    """The wall clock was right then, so it may carry the time over the next power cut."""

    def elapsed_s(self, instant: Instant) -> float:
        """Seconds since, within the same boot."""
        return instant.boottime_s - self.boottime_ms / 1000

    def now_s(self, instant: Instant) -> float:
        """The estimate."""
        return self.time_ms / 1000 + self.elapsed_s(instant)

    def bound_s(self, instant: Instant) -> float:
        """How wrong the estimate may be."""
        return self.bound_ms / 1000 + DRIFT * self.elapsed_s(instant)


@dataclass(frozen=True, slots=True)
class Question:
    """A nonce of ours, sent at `instant` and not answered yet."""

    nonce: bytes
    instant: Instant


@dataclass(frozen=True, slots=True)
class Timekeeping:
    """What is known of time. All methods return the next state; none changes this one."""

    floor_s: int = 0
    anchor: Anchor | None = None
    battery_clock: bool = False
    """From the configuration, not stored: the hardware may have changed."""
    question: Question | None = None

    # --- reading -----------------------------------------------------------------
    def reading(self, instant: Instant) -> TimeReading:
        """What to make of `instant`.

        Before `started` was called in a new boot, the same as after it.
        """
        anchor = self._anchor_in(instant)
        if anchor is None or anchor.bound_s(instant) > HOLDOVER_BOUND_S:
            return self._unknown(instant)
        bound_s = anchor.bound_s(instant)
        trusted = anchor.signed and bound_s <= TRUSTED_BOUND_S
        passed_s = math.floor(anchor.now_s(instant) - bound_s) if anchor.signed else 0
        floor_s = max(self.floor_s, passed_s)
        return TimeReading(
            state=ClockState.TRUSTED if trusted else ClockState.HOLDOVER,
            now_s=max(math.floor(anchor.now_s(instant)), floor_s),
            bound_s=bound_s,
            floor_s=floor_s,
        )

    def _unknown(self, instant: Instant) -> TimeReading:
        now_s = max(math.floor(instant.wall_s), self.floor_s)
        return TimeReading(ClockState.UNKNOWN, now_s, math.inf, self.floor_s)

    def wall_strays(self, instant: Instant) -> bool:
        """Whether the wall clock has left what is known: somebody has stepped it. Not believed."""
        reading = self.reading(instant)
        known = reading.state is ClockState.TRUSTED
        return known and abs(instant.wall_s - reading.now_s) > reading.bound_s + AGREEMENT_S

    # --- asking ------------------------------------------------------------------
    def asked(self, nonce: bytes, instant: Instant) -> Timekeeping:
        """`nonce` (16 random bytes) is being sent; an earlier question is dropped."""
        if len(nonce) != ID_BYTES:
            raise ValueError("a nonce has 16 bytes")
        return replace(self, question=Question(nonce, instant))

    def answered(self, nonce: bytes, time_s: int, instant: Instant) -> Timekeeping:
        """The time key signed (nonce, time_s), which arrived at `instant`.

        The signature is the caller's to verify (`envelope`). The state is
        TRUSTED afterwards. TimeRefusedError otherwise; a wrong nonce leaves the
        question open, so that nobody can cancel it.
        """
        question = self.question
        if question is None or question.nonce != nonce:
            raise TimeRefusedError(TimeRefusal.NOT_ASKED)
        round_trip_s = instant.boottime_s - question.instant.boottime_s
        same_boot = instant.boot_id == question.instant.boot_id
        if not same_boot or not 0 <= round_trip_s <= FRESH_S:
            raise TimeRefusedError(TimeRefusal.TOO_LATE)
        if time_s < self.reading(instant).floor_s:
            raise TimeRefusedError(TimeRefusal.BELOW_FLOOR)
        half_s = round_trip_s / 2
        # the bound at the moment of the answer; drift is added as time goes on
        bound_s = half_s + _RESOLUTION_S + DRIFT * round_trip_s
        return self._anchored(time_s, time_s + half_s + _RESOLUTION_S, bound_s, instant)

    def provisioned(self, time_s: int, instant: Instant) -> Timekeeping:
        """A time signed at provisioning, without a nonce, so it proves a floor and no more.

        TRUSTED only where this gateway never had a time and the wall clock is
        at most `AGREEMENT_S` past the signed time. TimeRefusedError otherwise;
        `raised(time_s)` is still right then.
        """
        if self.anchor is not None or self.floor_s > 0:
            raise TimeRefusedError(TimeRefusal.PROVISIONED_BEFORE)
        age_s = instant.wall_s - time_s
        if not -1 <= age_s < AGREEMENT_S - 1:
            raise TimeRefusedError(TimeRefusal.WALL_CLOCK_DISAGREES)
        return self._anchored(time_s, max(instant.wall_s, time_s), max(age_s, 0) + 1, instant)

    def _anchored(
        self, signed_s: int, now_s: float, bound_s: float, instant: Instant
    ) -> Timekeeping:
        anchor = Anchor(
            boot_id=instant.boot_id,
            boottime_ms=round(instant.boottime_s * 1000),
            time_ms=round(now_s * 1000),
            bound_ms=math.ceil(bound_s * 1000),
            signed=True,
            wall_agreed=abs(instant.wall_s - now_s) <= AGREEMENT_S,
        )
        floor_s = max(self.floor_s, signed_s)
        return replace(self, floor_s=floor_s, anchor=anchor, question=None)

    # --- the floor ---------------------------------------------------------------
    def raised(self, floor_s: int) -> Timekeeping:
        """Something signed by a root, command or time key says that `floor_s` has passed.

        Never call it with times out of tokens, status lists or NTP.
        """
        return replace(self, floor_s=max(self.floor_s, floor_s))

    def kept(self, instant: Instant) -> Timekeeping:
        """Raise the floor to what has certainly passed by now; call it every few minutes."""
        return self.raised(self.reading(instant).floor_s)

    def lowered(self, above_s: int, to_s: int, instant: Instant) -> Timekeeping:
        """A root key says that a floor above `above_s` was signed wrongly, and where it was right.

        The only way back. What was known of the time is forgotten with it, so
        the next signed time is asked for; a floor at or below `above_s` stays.
        """
        if self.reading(instant).floor_s <= above_s:
            return self
        return replace(self, floor_s=to_s, anchor=None, question=None)

    # --- restarts ----------------------------------------------------------------
    def started(self, instant: Instant) -> Timekeeping:
        """The daemon started. Within the same boot nothing changes.

        In a new boot the battery-backed clock is read once, here, and never
        again: where it steps later, by NTP, it is not believed.
        """
        return replace(self, anchor=self._anchor_in(instant), question=None)

    def _anchor_in(self, instant: Instant) -> Anchor | None:
        """The anchor for the boot of `instant`."""
        last = self.anchor
        if last is None or last.boot_id == instant.boot_id:
            return last
        away_s = instant.wall_s - last.time_ms / 1000
        believable = self.battery_clock and last.wall_agreed
        if not believable or away_s < 0 or instant.wall_s < self.floor_s:
            return None
        return Anchor(
            boot_id=instant.boot_id,
            boottime_ms=round(instant.boottime_s * 1000),
            time_ms=round(instant.wall_s * 1000),
            bound_ms=last.bound_ms + math.ceil((BATTERY_ERROR_S + DRIFT * away_s) * 1000),
            signed=False,
            wall_agreed=True,
        )

    # --- storing -----------------------------------------------------------------
    def encode(self) -> bytes:
        """For `Memory`. An open question dies with the process."""
        anchor = self.anchor
        return cbor.encode(
            [
                _FORMAT,
                self.floor_s,
                None
                if anchor is None
                else [
                    anchor.boot_id,
                    anchor.boottime_ms,
                    anchor.time_ms,
                    anchor.bound_ms,
                    anchor.signed,
                    anchor.wall_agreed,
                ],
            ]
        )

    @classmethod
    def decode(cls, data: bytes, *, battery_clock: bool = False) -> Timekeeping:
        """What `encode` wrote. DamagedTimeError for anything else."""
        try:
            stored = cbor.decode(data)
        except RemoteProtocolError as error:
            raise DamagedTimeError(error.detail) from None
        match stored:
            case [_, int(floor_s), None]:
                known = cls(int(floor_s), None, battery_clock)
            case [_, int(floor_s), list(fields)]:
                known = cls(int(floor_s), _anchor(fields), battery_clock)
            case _:
                raise DamagedTimeError("other fields")
        # one form only: to Python true is a number, too
        if known.encode() != data:
            raise DamagedTimeError("another format")
        return known


def _anchor(fields: list[cbor.Value]) -> Anchor:
    match fields:
        case [
            str(boot_id),
            int(boottime_ms),
            int(time_ms),
            int(bound_ms),
            bool(signed),
            bool(wall_agreed),
        ]:
            numbers = int(boottime_ms), int(time_ms), int(bound_ms)
            return Anchor(boot_id, *numbers, signed, wall_agreed)
        case _:
            raise DamagedTimeError("another form of anchor")
