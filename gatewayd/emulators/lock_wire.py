"""What carries an emulated lock's words: radio, a serial line, or a half-duplex line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_proto.framing import Framing, GattFraming, WholeFrames
from firmware_proto.lock_session import LineLockServerSession, LockServerSession
from gatewayd.ports import Link


@dataclass(frozen=True, slots=True)
class Wire:
    """How a lock behaves on one kind of transport.

    greets: says Hello as soon as there is a connection; else when the gateway
    attaches. reports: tells changes of state unasked.
    """

    framing: Callable[[Link], Framing]
    session: type[LockServerSession]
    greets: bool
    reports: bool


RADIO: Final = Wire(
    lambda link: GattFraming(link.mtu, None), LockServerSession, greets=True, reports=True
)
LINE: Final = Wire(lambda _: WholeFrames(), LineLockServerSession, greets=False, reports=True)
HALF_DUPLEX_LINE: Final = Wire(
    lambda _: WholeFrames(), LineLockServerSession, greets=False, reports=False
)
