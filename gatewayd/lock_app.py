"""Composition root of `gatewayd lock emulate`: the emulated lock with a real radio and clock.

The radio is this machine's Bluetooth through bluezero, or a virtual
controller. A radio that is lost is opened again, as a lock gets new batteries:
its memory is on disk and its mechanism stays where it is.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_proto.claiming import SECRET_BYTES
from firmware_proto.codes import LOCK_SERVICE_UUID, UNCLAIMED_LOCK_UUID
from gatewayd import addresses
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.emulators.lock import LockEmulator
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.groups import only
from gatewayd.keyfiles import public_pem
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Peripheral

AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """hci: of a virtual controller, `unix:<path>`; address: there, derived from the lock's key.

    Otherwise Bluetooth; adapter: the address of one, python: that which runs bluezero.
    """

    hci: str | None = None
    address: str | None = None
    adapter: str | None = None
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class Bystander:
    """Who looks at the lock, and may touch it.

    serving: at an address, from now on, with this memory. lost: why, for now. touching: called
    once, in the loop, with what reaches the lock that there is. blinks: for so many milliseconds.
    """

    serving: Callable[[str, LockMemory], None]
    lost: Callable[[str], None]
    touching: Callable[[Hands], None] = lambda _: None
    blinks: Callable[[int], None] = lambda _: None


class Hands:
    """What a person can do at the lock: press its button, open its door and close it."""

    def __init__(self) -> None:
        self.lock: LockEmulator | None = None

    def press(self) -> None:
        """The button inside the housing."""
        if self.lock is not None:
            self.lock.owner.press()

    def move_door(self, *, is_open: bool) -> None:
        """The leaf."""
        if self.lock is not None:
            self.lock.body.move_door(is_open=is_open)


async def emulate(choice: Choice, store: LockStore, machine: Machine, sees: Bystander) -> None:
    """Be the lock until cancelled. RadioError when there was no radio from the beginning."""
    began = False
    hands = Hands()
    sees.touching(hands)
    while True:
        try:
            async with _open_radio(choice, store) as (peripheral, address):
                began = True
                lock = hands.lock = LockEmulator(store, machine, SystemClock(), SystemEntropy())
                lock.owner.on_identify = sees.blinks
                sees.serving(address, lock.body.memory)
                await lock.run(peripheral)
            continue  # it belongs to somebody else now, and advertises so
        except (RadioError, ExceptionGroup) as error:
            lost = only(error, RadioError)
            if lost is None or not began:
                raise
            sees.lost(str(lost))
        await asyncio.sleep(AGAIN_S)


@asynccontextmanager
async def _open_radio(choice: Choice, store: LockStore) -> AsyncIterator[tuple[Peripheral, str]]:
    """The radio chosen, and the address that a gateway's configuration names. RadioError.

    It advertises for the gateway of its owner, or as nobody's lock.
    """
    claimed = store.load().claimed
    if choice.hci is not None:
        from gatewayd.adapters.virtual_radio import (  # noqa: PLC0415 - takes a second to load
            LOCK,
            UNCLAIMED,
            RadioOptions,
            open_radio,
        )

        address = choice.address or own_address(store)
        options = RadioOptions(name="lock", link_cap=1)
        serves = LOCK if claimed else UNCLAIMED
        async with open_radio(choice.hci, address=address, serves=serves, options=options) as radio:
            yield radio.peripheral, address
        return
    from gatewayd.adapters.bluezero import BluezeroOptions, open_bluezero  # noqa: PLC0415 - Linux

    options_here = BluezeroOptions(
        adapter=choice.adapter,
        python=choice.python,
        advertised=LOCK_SERVICE_UUID if claimed else UNCLAIMED_LOCK_UUID,
    )
    async with open_bluezero(options_here) as bench:
        yield bench, f"{await bench.ready()}{addresses.PUBLIC}"


def new_secret() -> bytes:
    """For the label of a new lock."""
    return SystemEntropy().token_bytes(SECRET_BYTES)


def own_address(store: LockStore) -> str:
    """The same for the same key."""
    digest = hashlib.sha256(public_pem(store.load().key.public_key())).digest()
    return addresses.static_random(digest[:6])
