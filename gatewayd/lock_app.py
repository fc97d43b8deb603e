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

from gatewayd import addresses
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.emulators.lock import LockEmulator
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_store import LockStore
from gatewayd.groups import only
from gatewayd.keyfiles import public_pem
from gatewayd.ports import Peripheral, RadioError

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
    """Who looks at the lock. serving: at an address, from now on. lost: why, for now."""

    serving: Callable[[str], None]
    lost: Callable[[str], None]


async def emulate(choice: Choice, store: LockStore, machine: Machine, sees: Bystander) -> None:
    """Be the lock until cancelled. RadioError when there was no radio from the beginning."""
    began = False
    while True:
        try:
            async with _open_radio(choice, store) as (peripheral, address):
                began = True
                sees.serving(address)
                lock = LockEmulator(store, machine, SystemClock(), SystemEntropy())
                await lock.run(peripheral)
        except (RadioError, ExceptionGroup) as error:
            lost = only(error, RadioError)
            if lost is None or not began:
                raise
            sees.lost(str(lost))
        await asyncio.sleep(AGAIN_S)


@asynccontextmanager
async def _open_radio(choice: Choice, store: LockStore) -> AsyncIterator[tuple[Peripheral, str]]:
    """The radio chosen, and the address that a gateway's configuration names. RadioError."""
    if choice.hci is not None:
        from gatewayd.adapters.virtual_radio import (  # noqa: PLC0415 - takes a second to load
            LOCK,
            RadioOptions,
            open_radio,
        )

        address = choice.address or own_address(store)
        options = RadioOptions(name="lock", link_cap=1)
        async with open_radio(choice.hci, address=address, serves=LOCK, options=options) as radio:
            yield radio.peripheral, address
        return
    from gatewayd.adapters.bluezero import BluezeroOptions, open_bluezero  # noqa: PLC0415 - Linux

    options_here = BluezeroOptions(adapter=choice.adapter, python=choice.python)
    async with open_bluezero(options_here) as bench:
        yield bench, f"{await bench.ready()}{addresses.PUBLIC}"


def own_address(store: LockStore) -> str:
    """The same for the same key."""
    digest = hashlib.sha256(public_pem(store.load().key.public_key())).digest()
    return addresses.static_random(digest[:6])
