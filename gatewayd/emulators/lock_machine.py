"""The mechanical half of an emulated lock: it turns, jams, and outlives the electronics' power.

The ledger is the witness of tests and of the demo: it is written where a real
lock would have steel, so it shows what happened and not what was reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_proto.codes import Mechanism
from gatewayd.emulators.lock_state import Part, Position, Turn


@dataclass(frozen=True, slots=True)
class Moved:
    """One completed movement; `command` is None when the lock moved by itself."""

    turn: Turn
    command: bytes | None


@dataclass(slots=True)
class Machine:
    """A motor that takes `motor_ms` per turn and moves a bolt and a latch.

    `blocked`: the motor stalls before anything moves. `calibrated`: a lock that
    starts without it refuses to move. `on_turning` is called when a command
    has reached the motor and `on_moved` with every completed movement, for
    whoever measures or tells a story.
    """

    motor_ms: int = 250
    blocked: bool = False
    calibrated: bool = True
    positions: dict[Part, Position] = field(
        default_factory=lambda: {Part.BOLT: Position.WITHDRAWN, Part.LATCH: Position.THROWN}
    )
    ledger: list[Moved] = field(default_factory=list)
    on_turning: Callable[[Turn], None] | None = None
    on_moved: Callable[[Moved], None] | None = None

    @property
    def openings(self) -> int:
        """How often the latch was really drawn."""
        return sum(moved.turn is Turn.UNLATCH for moved in self.ledger)

    def openings_for(self, command: bytes) -> int:
        """How often the latch was really drawn for this command."""
        return sum(moved.turn is Turn.UNLATCH and moved.command == command for moved in self.ledger)

    def mechanism(self, *, jammed: bool) -> Mechanism:
        """What the electronics find at start, given whether they remember a jam."""
        if not self.calibrated:
            return Mechanism.UNCALIBRATED
        return Mechanism.JAMMED if jammed else Mechanism.OK

    async def turn(self, turn: Turn, command: bytes | None) -> bool:
        """Move; False when the motor stalled. Cancelling it is cutting the power mid-turn."""
        if self.on_turning is not None:
            self.on_turning(turn)
        if self.blocked:
            await asyncio.sleep(self.motor_ms / 1000)
            return False
        if self.positions[turn.part] is not turn.target:
            self.positions[turn.part] = Position.BETWEEN
        await asyncio.sleep(self.motor_ms / 1000)
        self.positions[turn.part] = turn.target
        moved = Moved(turn, command)
        self.ledger.append(moved)
        if self.on_moved is not None:
            self.on_moved(moved)
        return True
