"""Composition root of `gatewayd phone`: the emulated phone with a real radio and clock."""

from __future__ import annotations

from pathlib import Path

from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import PHONE, open_radio
from gatewayd.emulators.phone import Phone, Report
from gatewayd.emulators.wallet import Wallet
from gatewayd.ports import Entropy


async def open_door(
    hci: str, wallet: Path, door: str, address: str | None, request: bytes
) -> Report:
    """Walk up and open, as `request` (16 bytes, new), which can be asked about later.

    RadioError without a controller, KeyFileError for a wallet that is none.
    """
    held = Wallet.load(wallet)
    entropy = SystemEntropy()
    async with open_radio(hci, address=_random_address(entropy), dials=PHONE) as radio:
        return await Phone(radio.central, held, SystemClock(), entropy).open_door(
            door, address=address, request=request
        )


async def ask_result(
    hci: str, wallet: Path, door: str, request: bytes, address: str | None
) -> Report:
    """What became of an earlier request; opens nothing. Errors as `open_door`."""
    held = Wallet.load(wallet)
    entropy = SystemEntropy()
    async with open_radio(hci, address=_random_address(entropy), dials=PHONE) as radio:
        return await Phone(radio.central, held, SystemClock(), entropy).ask_result(
            door, request, address=address
        )


def _random_address(entropy: Entropy) -> str:
    """A new static random address each time, as phones do (Core 5.4, Vol 6, Part B, 1.3.2.1)."""
    first, *others = entropy.token_bytes(6)
    return ":".join(f"{octet:02X}" for octet in (first | 0xC0, *others))
