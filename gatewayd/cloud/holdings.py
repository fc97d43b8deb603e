"""Which gateway serves which door, at which generation, and moved by what: so that nobody counts.

A door's generation rises whenever another gateway takes it over. What moves it
stays with the door: a lock belongs to the operator, not to a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd.config import stated
from gatewayd.config.model import Door
from gatewayd.core.model import DoorId


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One door."""

    door: str
    gateway: str
    generation: int
    """The highest that was ever given for it."""
    body: bytes | None = None
    """What moves it, as the body of BINDINGS of this door alone; None: nobody has told us."""


class OthersDoorError(Exception):
    """A door belongs to a gateway that nobody said is replaced."""

    def __init__(self, door: str, gateway: str) -> None:
        super().__init__(f"{door} is served by {gateway}")
        self.door = door
        self.gateway = gateway


def granted(held: Holding | None, gateway: str, replaces: str | None, least: int) -> int:
    """The generation at which `gateway` gets a door of that holding. OthersDoorError.

    `least`: for doors whose generations were given by hand before; 0 otherwise.
    """
    if held is None:
        return max(least, 1)
    if held.gateway == gateway:
        return max(least, held.generation)
    if held.gateway != replaces:
        raise OthersDoorError(held.door, held.gateway)
    return max(least, held.generation + 1)


def generations(holdings: Iterable[Holding]) -> dict[str, int]:
    """As a credential names them."""
    return {each.door: each.generation for each in holdings}


def bindings(holdings: Iterable[Holding]) -> bytes | None:
    """The body of BINDINGS for all of these doors of which it is known what moves them."""
    doors: list[Door] = []
    keys: dict[DoorId, ec.EllipticCurvePublicKey] = {}
    for each in holdings:
        if each.body is not None:
            bound = stated.bindings(each.body)
            doors += bound.doors
            keys |= bound.lock_keys
    return stated.body(doors, keys) if doors else None


def apart(body: bytes) -> Mapping[str, bytes]:
    """A body of BINDINGS, door by door. RemoteProtocolError (MALFORMED)."""
    bound = stated.bindings(body)
    return {door.id: stated.body([door], bound.lock_keys) for door in bound.doors}
