"""What a lock remembers across power loss, and the pure rules by which it changes.

The shell turns each change into one atomic write before it moves or answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)

from firmware_proto.claiming import NOBODYS
from firmware_proto.codes import EventKind, Outcome, Reason
from firmware_proto.lock_messages import Claim
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.statements import Anchoring
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_state import Turn

RESULTS_KEPT: Final = 128
EVENTS_KEPT: Final = 256

NEVER_SEEN: Final = Verdict(Outcome.REFUSED, Reason.COMMAND_NEVER_SEEN)


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command by its id. `content` is SHA-256 over the message; `verdict` None while it runs."""

    id: bytes
    content: bytes
    turn: Turn
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One line of the lock's own log; indexes have no holes but those that `EVENTS_KEPT` tears."""

    index: int
    clock_ms: int
    kind: EventKind
    value: int


@dataclass(frozen=True, slots=True)
class LockMemory:
    """Everything durable.

    `key` and `key_id` are the lock's static key and the name a gateway knows
    it by, `claim_secret` stands on its label, too. `door`, the operator's keys and
    `serial` were set at `Claim`; without one the door is `NOBODYS` and there are
    none. `generation` is the highest gateway generation seen for the door. `clock_ms` is the lock's
    millisecond clock at the last write: after a power loss it goes on from
    there, and every new connection is told it anew. `offset_ms` is Unix time minus that
    clock, None until a gateway has told the time.
    """

    key: EllipticCurvePrivateKey = field(repr=False)
    key_id: bytes
    door: str
    gateways_key: EllipticCurvePublicKey | None = field(repr=False)
    generation: int = 0
    epoch: int = 1
    secret: ResumptionSecret | None = field(default=None, repr=False)
    commands: tuple[StoredCommand, ...] = ()
    events: tuple[StoredEvent, ...] = ()
    next_index: int = 1
    clock_ms: int = 0
    offset_ms: int | None = None
    battery: Battery = field(default_factory=Battery)
    jammed: bool = False
    claim_secret: bytes | None = field(default=None, repr=False)
    root_key: EllipticCurvePublicKey | None = field(default=None, repr=False)
    command_key: EllipticCurvePublicKey | None = field(default=None, repr=False)
    serial: int = 0
    ajar_ms: int | None = None

    @property
    def claimed(self) -> bool:
        """Whether it belongs to somebody."""
        return self.door != NOBODYS

    @property
    def standing(self) -> tuple[int, int, int]:
        """Who is obeyed; a connection from before this changed is obeyed no more."""
        return self.epoch, self.generation, self.serial

    # --- commands -----------------------------------------------------------------
    def command(self, command_id: bytes) -> StoredCommand | None:
        """What is known of a command; the oldest beyond `RESULTS_KEPT` are forgotten."""
        return next((known for known in self.commands if known.id == command_id), None)

    @property
    def running(self) -> StoredCommand | None:
        """The command that has no verdict yet: at start, the one the power loss interrupted."""
        return next((known for known in self.commands if known.verdict is None), None)

    def begun(self, command: StoredCommand) -> Self:
        """A new command, to be written before anything moves."""
        return replace(self, commands=(*self.commands, command)[-RESULTS_KEPT:])

    def settled(self, command_id: bytes, verdict: Verdict) -> Self:
        """The running command ended, to be written before the latch goes home."""
        return replace(
            self,
            commands=tuple(
                replace(known, verdict=verdict) if known.id == command_id else known
                for known in self.commands
            ),
        )

    # --- events --------------------------------------------------------------------
    def noted(self, kind: EventKind, value: int, clock_ms: int) -> Self:
        """One more line in the event log; when it is full the oldest goes."""
        event = StoredEvent(self.next_index, clock_ms, kind, value)
        return replace(
            self, events=(*self.events, event)[-EVENTS_KEPT:], next_index=self.next_index + 1
        )

    def events_after(self, index: int, limit: int) -> tuple[StoredEvent, ...]:
        """At most `limit` events with a higher index, in order."""
        return tuple(event for event in self.events if event.index > index)[:limit]

    def acknowledged(self, upto: int) -> Self:
        """A gateway keeps everything up to this index; it may go here."""
        return replace(self, events=tuple(event for event in self.events if event.index > upto))

    # --- gateways ------------------------------------------------------------------
    def raised(self, generation: int, clock_ms: int) -> Self:
        """A higher generation proved itself: sessions of lower ones end here."""
        return replace(self, generation=generation, secret=None).noted(
            EventKind.NEW_GENERATION, generation, clock_ms
        )

    def forgot_sessions(self) -> Self:
        """After a claim or a lost store: a new epoch, so that no gateway resumes."""
        return replace(self, epoch=self.epoch + 1, secret=None)

    # --- owners --------------------------------------------------------------------
    def taken(self, claim: Claim, generation: int, clock_ms: int) -> Self:
        """It belongs to this operator from now on."""
        taken = replace(
            self.forgot_sessions(),
            door=claim.door,
            root_key=claim.root_key,
            gateways_key=claim.gateways_key,
            command_key=claim.command_key,
            serial=claim.serial,
            generation=generation,
        )
        return taken.noted(EventKind.CLAIMED, taken.epoch, clock_ms)

    def anchored(self, anchoring: Anchoring, clock_ms: int) -> Self:
        """The operator has other keys from now on."""
        return replace(
            self,
            gateways_key=anchoring.gateways_key,
            command_key=anchoring.command_key,
            serial=anchoring.serial,
        ).noted(EventKind.ANCHORED, anchoring.serial, clock_ms)

    def released(self) -> Self:
        """It belongs to nobody: what is left is what it is, and how often that happened."""
        return replace(
            self,
            door=NOBODYS,
            root_key=None,
            gateways_key=None,
            command_key=None,
            serial=0,
            generation=0,
            epoch=self.epoch + 1,
            secret=None,
            commands=(),
            events=(),
            next_index=1,
            offset_ms=None,
            ajar_ms=None,
        )
