"""The trials of a set-up: openings that the installer watches, and how well locks are reached.

A trial is an opening like any other: its intent is on disk before the lock
moves, and an outcome that is unknown is asked about and never tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from firmware_proto.codes import ID_BYTES, DoorState, Outcome, Reason
from firmware_proto.lock_messages import State
from gatewayd.actuators import Workshop
from gatewayd.adapters.clock import SystemClock
from gatewayd.conditions import Conditions
from gatewayd.config import model as config_model
from gatewayd.config.on_site import TestOpening, Walk
from gatewayd.core.model import Command, CommandId, DoorId, EntryKind, Fact, Verdict
from gatewayd.ports import RadioError
from gatewayd.ports.lock import Lock
from gatewayd.ports.process import Clock
from gatewayd.ports.radio import Central, Link, Sighting
from gatewayd.setup_site import SetupError, Site, entropy, open_radio

LISTEN_S: Final = 3.0
REST_S: Final = 0.3
"""Between two dials: the lock has to advertise again."""
HOME_S: Final = 1.0
"""After the latch was held: until it is home, so that the next trial moves it again."""
_OPENED: Final = Outcome.CONFIRMED
_UNDERWAY: Final = Verdict(Outcome.UNKNOWN, Reason.OK)


class Senses(Conditions):
    """What locks and contacts tell while a trial runs: also where the leaf of the door is."""

    def __init__(self, doors: Iterable[DoorId], clock: Clock) -> None:
        super().__init__(doors, clock)
        self.leaf: dict[DoorId, DoorState] = {}

    def heard(self, door: DoorId, state: State) -> None:
        """See `Conditions`."""
        super().heard(door, state)
        self.leaf[door] = state.door_state

    def contact(self, door: DoorId, leaf: DoorState) -> None:
        """See `Conditions`."""
        super().contact(door, leaf)
        self.leaf[door] = leaf


class _NoRadio:
    """`ports.radio.Central` of a site whose locks and relays are all on wires."""

    async def dial(self, address: str) -> Link:
        raise RadioError(f"{address}: no radio was opened")


@asynccontextmanager
async def _bench(site: Site, door: config_model.Door) -> AsyncIterator[tuple[Lock, Senses]]:
    """What moves a door, and what it says of itself."""
    id_, clock = DoorId(door.id), SystemClock()
    async with AsyncExitStack() as stack:
        central: Central = _NoRadio()
        if door.lock is not None and door.lock.address is not None:
            central = await stack.enter_async_context(open_radio(site))
        senses = Senses([id_], clock)
        workshop = Workshop(central, site.gateway, site.secrets, clock, entropy(), stack, senses)
        lock = workshop.actuator(door).lock
        try:
            yield lock, senses
        finally:
            await lock.close()


def _served(site: Site, name: str) -> config_model.Door:
    """A door with what moves it. SetupError when nothing does."""
    site.door(name)
    for door in site.served.doors:
        if door.id == name:
            return door
    raise SetupError(f"{name} is bound to nothing", f"sudo gatewayd setup bind-door {name}")


# --- openings ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Tried:
    """One opening, and what the lock or the contact says of the leaf, if it has a sense for it."""

    opening: TestOpening
    sensed: DoorState


async def test_open(site: Site, name: str, leaf: Literal["open", "closed"]) -> Tried:
    """Open a door once, as the installer asks. StorageError, and nothing has moved."""
    door = _served(site, name)
    async with _bench(site, door) as (lock, senses):
        command = CommandId(entropy().token_bytes(ID_BYTES))
        intent = await site.log.append(
            _fact(site, door, EntryKind.INTENT, _UNDERWAY),
            command=Command(command, DoorId(door.id)),
        )
        began_s = asyncio.get_running_loop().time()
        verdict = await lock.unlatch(command, door.latch_ms)
        took_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        await site.log.append(
            _fact(site, door, EntryKind.OUTCOME, verdict, intent), settles=command
        )
        if verdict.outcome is Outcome.UNKNOWN:
            known = await lock.result_of(command)
            if known is not None and known.outcome is not Outcome.UNKNOWN:
                verdict = known
                await site.log.append(
                    _fact(site, door, EntryKind.RESOLVED, verdict, intent), settles=command
                )
        await asyncio.sleep(door.latch_ms / 1000 + HOME_S if verdict.outcome is _OPENED else 0)
    opening = TestOpening(
        door=door.id,
        leaf=leaf,
        time_s=site.now_s,
        outcome=_WORDS[verdict.outcome],
        reason=verdict.reason.name.lower(),
        took_ms=took_ms,
    )
    site.keep(site.setup.with_opening(opening))
    return Tried(opening, senses.leaf.get(DoorId(door.id), DoorState.UNKNOWN))


_WORDS: Final[dict[Outcome, Literal["confirmed", "refused", "unknown"]]] = {
    Outcome.CONFIRMED: "confirmed",
    Outcome.REFUSED: "refused",
    Outcome.UNKNOWN: "unknown",
}


def _fact(
    site: Site, door: config_model.Door, kind: EntryKind, verdict: Verdict, about: int = 0
) -> Fact:
    return Fact(site.timekeeper.reading(), kind, DoorId(door.id), verdict, about)


# --- walks ------------------------------------------------------------------------------------
def walkable(site: Site) -> list[str]:
    """Doors with a lock to be dialled; a relay answers nobody."""
    return [door.id for door in site.served.doors if door.lock is not None]


async def walk(site: Site, name: str, dials: int, told: Callable[[int, int | None], None]) -> Walk:
    """Dial the lock of a door so often; `told` hears of each: its number, and ms or None."""
    door = _served(site, name)
    strengths = await _strengths(site, door)
    took: list[int] = []
    async with _bench(site, door) as (lock, _):
        for number in range(1, dials + 1):
            began_s = asyncio.get_running_loop().time()
            try:
                await lock.prepare()
            except RadioError:
                told(number, None)
            else:
                took.append(round((asyncio.get_running_loop().time() - began_s) * 1000))
                told(number, took[-1])
            await lock.close()
            await asyncio.sleep(REST_S)
    done = Walk(
        door=door.id,
        time_s=site.now_s,
        dials=dials,
        took_ms=tuple(took),
        strength_dbm=tuple(strengths),
    )
    site.keep(site.setup.with_walk(done))
    return done


async def _strengths(site: Site, door: config_model.Door) -> list[int]:
    """How strong each advertisement of a lock is heard; nothing of one on a wire."""
    if door.lock is None or door.lock.address is None:
        return []
    wanted = door.lock.address.removesuffix("/P")
    found: list[int] = []

    def heard(sighting: Sighting) -> None:
        if sighting.address == wanted and sighting.strength_dbm is not None:
            found.append(sighting.strength_dbm)

    async with open_radio(site) as central:
        await central.look(LISTEN_S, heard)
    return found
