"""The composition root's radio: the one that the configuration names, in both roles."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gatewayd import __version__, addresses
from gatewayd.config import Config
from gatewayd.health import NO_AROUND, Around
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Central, Link, Peripheral

ADVERTISING_MS: Final = (20.0, 30.0)
"""A gateway has mains power: it is found at once, and again at once after a link went."""


@dataclass(frozen=True, slots=True)
class Radio:
    """Both roles of a gateway, on whichever radio, and what the operator's status tells of it."""

    peripheral: Peripheral
    central: Central
    around: Around = NO_AROUND


class _Silence:
    """Both roles of a gateway that is not on the air."""

    async def accept(self) -> Link:
        """Nobody comes."""
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async def dial(self, address: str) -> Link:
        """Nobody is reached."""
        raise RadioError(f"{address} is not dialled: this gateway is retired")


SILENT: Final = Radio(_Silence(), _Silence())


@asynccontextmanager
async def open_radio(config: Config) -> AsyncIterator[Radio]:
    """One radio in both roles; RadioError.

    It holds one link more than phones may keep, so that a newcomer can be
    let in to be judged. Only the libraries of the radio that is asked for are
    loaded: a machine at a door has no simulator, and little memory (see `extras`).
    """
    link_cap = config.radio.max_phone_links + 1
    if config.radio.kind == "bluez":
        from gatewayd.adapters import bluez, helper_client  # noqa: PLC0415 - see above

        options = bluez.BluezOptions(
            adapter=config.radio.adapter,
            lock_adapter=config.radio.lock_adapter,
            name=f"gatewayd {__version__} {config.gateway.id}",
            info=f"gatewayd {__version__}".encode(),
            link_cap=link_cap,
            advertising_interval_ms=ADVERTISING_MS,
            helper=helper_client.where_there_is_one(),
        )
        async with bluez.open_bluez(options) as radio:
            around = Around(radio.health, lambda: radio.central.strengths, radio.adapters)
            yield Radio(radio.peripheral, radio.central, around)
        return
    from gatewayd.adapters import virtual_radio  # noqa: PLC0415 - see above

    async with virtual_radio.open_radio(
        config.radio.hci or "",
        address=radio_address(config.gateway.id),
        serves=virtual_radio.PHONE,
        dials=virtual_radio.LOCK,
        options=virtual_radio.RadioOptions(
            link_cap=link_cap, advertising_interval_ms=ADVERTISING_MS
        ),
    ) as simulated:
        yield Radio(simulated.peripheral, simulated.central)


def radio_address(gateway: str) -> str:
    """One that stays the same."""
    return addresses.static_random(hashlib.sha256(gateway.encode()).digest()[:6])
