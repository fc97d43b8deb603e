"""What carries an emulated lock's words: radio, unless somebody gives it another wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_proto.framing import Framing, GattFraming
from firmware_proto.lock_session import LockServerSession
from gatewayd.ports.radio import Link


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


class _LinkFraming(GattFraming):
    """Cuts for the MTU of the moment: some radios learn it only after a lock's first words."""

    def __init__(self, link: Link) -> None:
        super().__init__(link.mtu, None)
        self._link = link

    def cut(self, message: bytes) -> list[bytes]:
        self.mtu = self._link.mtu
        return super().cut(message)


RADIO: Final = Wire(_LinkFraming, LockServerSession, greets=True, reports=True)
