"""What can be made to go wrong in an emulated lock. All knobs may be turned at any time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gatewayd.ports import LinkClosedError
from gatewayd.ports.radio import Link


class PowerCut(Enum):
    """Where in a command the power goes."""

    BEFORE_STORING = "the command has arrived and left no trace"
    AFTER_STORING = "the command is stored, nothing has moved"
    MID_TURN = "the motor is half way"
    AFTER_TURN = "it has moved, the result is not stored"
    BEFORE_ANSWER = "the result is stored, the answer has not left"


class PowerLostError(Exception):
    """The emulated lock has no power now. Start a new one on the same store and machine."""


@dataclass(slots=True)
class Faults:
    """The knobs. A jam is a knob of the `Machine` and low battery one of the store.

    answer_after_s: every answer waits so long. mute: commands are taken and
    obeyed, no answer leaves. power_cut: the next command loses power there, once.
    drop_link_at: each link is dropped when so many fragments have crossed it.
    """

    answer_after_s: float = 0.0
    mute: bool = False
    power_cut: PowerCut | None = None
    drop_link_at: int | None = None

    def cut(self, here: PowerCut) -> None:
        """Lose power if this is the place. PowerLostError."""
        if self.strikes(here):
            raise PowerLostError(here.value)

    def strikes(self, here: PowerCut) -> bool:
        """Whether the power goes here; true once."""
        if self.power_cut is not here:
            return False
        self.power_cut = None
        return True


class FaultyLink:
    """A link that the lock itself drops at a chosen fragment."""

    def __init__(self, link: Link, faults: Faults) -> None:
        self._link = link
        self._faults = faults
        self._crossed = 0

    @property
    def mtu(self) -> int:
        """Of the link underneath."""
        return self._link.mtu

    async def read(self) -> bytes:
        """The next fragment."""
        await self._step()
        return await self._link.read()

    async def write(self, fragment: bytes) -> None:
        """One fragment out."""
        await self._step()
        await self._link.write(fragment)

    async def close(self) -> None:
        """Disconnect."""
        await self._link.close()

    async def _step(self) -> None:
        limit = self._faults.drop_link_at
        if limit is not None and self._crossed >= limit:
            await self._link.close()
            raise LinkClosedError("dropped on purpose")
        self._crossed += 1
