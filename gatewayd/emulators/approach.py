"""When does somebody who carries a phone come near a gateway? Strengths in, arrivals out; no clock.

An arrival is an edge from far to near, once per approach: a gateway that was
near when the phone began to look has not been approached. Signal strength is
convenience and no proof of nearness, because radio can be relayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gatewayd.ports.radio import Sighting


@dataclass(frozen=True, slots=True)
class Nearness:
    """near_dbm and far_dbm: at least, and at most. The rest in seconds.

    absent_s: not heard for so long is far. cool_down_s: after an arrival there
    is no other one at the same gateway for so long.
    """

    near_dbm: int = -70
    far_dbm: int = -82
    absent_s: float = 10.0
    cool_down_s: float = 30.0


class _Heard(Enum):
    STRONG = auto()
    BETWEEN = auto()
    WEAK = auto()


class _Place(Enum):
    FAR = auto()
    COMING = auto()  # strong once: one strong report may be a reflection
    NEAR = auto()


_STEPS: Final = {
    (_Place.FAR, _Heard.STRONG): _Place.COMING,
    (_Place.FAR, _Heard.BETWEEN): _Place.FAR,
    (_Place.FAR, _Heard.WEAK): _Place.FAR,
    (_Place.COMING, _Heard.STRONG): _Place.NEAR,
    (_Place.COMING, _Heard.BETWEEN): _Place.FAR,
    (_Place.COMING, _Heard.WEAK): _Place.FAR,
    (_Place.NEAR, _Heard.STRONG): _Place.NEAR,
    (_Place.NEAR, _Heard.BETWEEN): _Place.NEAR,
    (_Place.NEAR, _Heard.WEAK): _Place.FAR,
}


@dataclass(slots=True)
class _Gateway:
    place: _Place
    heard_s: float
    arrived_s: float | None = None


class Approaches:
    """Every gateway that was heard, and where the phone is to each."""

    def __init__(self, nearness: Nearness) -> None:
        self._nearness = nearness
        self._gateways: dict[str, _Gateway] = {}
        self._looked = False

    def looked(self, sightings: Sequence[Sighting], now_s: float) -> list[str]:
        """One look around, at `now_s` (steady seconds): addresses just arrived at, strongest first.

        A sighting without a strength is not counted.
        """
        arrived = [
            sighting.address
            for sighting in sightings
            if sighting.strength_dbm is not None
            and self._step(sighting.address, sighting.strength_dbm, now_s)
        ]
        for gateway in self._gateways.values():
            if now_s - gateway.heard_s >= self._nearness.absent_s:
                gateway.place = _Place.FAR
        self._looked = True
        return arrived

    def _step(self, address: str, dbm: int, now_s: float) -> bool:
        heard = self._heard(dbm)
        gateway = self._gateways.get(address)
        if gateway is None:
            there_before = not self._looked and heard is not _Heard.WEAK
            gateway = _Gateway(_Place.NEAR if there_before else _Place.FAR, now_s)
            self._gateways[address] = gateway
        before, gateway.heard_s = gateway.place, now_s
        gateway.place = _STEPS[before, heard]
        if before is _Place.NEAR or gateway.place is not _Place.NEAR:
            return False
        last = gateway.arrived_s
        gateway.arrived_s = now_s if self._is_cool(last, now_s) else last
        return gateway.arrived_s == now_s

    def _is_cool(self, last_s: float | None, now_s: float) -> bool:
        return last_s is None or now_s - last_s >= self._nearness.cool_down_s

    def _heard(self, dbm: int) -> _Heard:
        if dbm >= self._nearness.near_dbm:
            return _Heard.STRONG
        return _Heard.WEAK if dbm <= self._nearness.far_dbm else _Heard.BETWEEN
