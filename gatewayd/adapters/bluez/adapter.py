"""One adapter made ready: switched on, not pairable, nobody connected from an earlier life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from gatewayd.adapters.bluez import names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd
from gatewayd.adapters.bluez.bus import BusError, Variant, open_bus
from gatewayd.adapters.gatt.link import DISCONNECT_S
from gatewayd.ports import RadioError

_log: Final = logging.getLogger(__name__)

POWER_TRIES: Final = 40
POWER_RETRY_S: Final = 0.1
OFF_S: Final = 0.5
BOTH_ROLES: Final = "central-peripheral"


async def name_of(address: str) -> str:
    """What the kernel calls the adapter with this address for now, as hci1. RadioError."""
    async with _found(address) as (_, adapter):
        return adapter.rpartition("/")[2]


async def taken_over(address: str | None) -> str:
    """The same, or of the first one, once all but paired devices are forgotten. RadioError.

    A lock that a program left connected when it was killed does not advertise. And of one that was
    connected once, bluetoothd tells the services it serves and not those it advertises, as that it
    belongs to nobody (device_add_eir_uuids in its src/device.c): no scan finds it any more.
    """
    async with _found(address) as (bluetoothd, adapter):
        for device in list(bluetoothd.objects.devices(adapter)):
            if (bluetoothd.objects.get(device, names.DEVICE) or {}).get("Paired"):
                continue
            try:
                await bluetoothd.call(adapter, names.ADAPTER, "RemoveDevice", "o", [device])
            except BusError as error:
                _log.warning("%s is not forgotten: %s", device, error)
        return adapter.rpartition("/")[2]


@contextlib.asynccontextmanager
async def _found(address: str | None) -> AsyncIterator[tuple[Bluetoothd, str]]:
    try:
        async with open_bus() as bus:
            bluetoothd = Bluetoothd(bus)
            await bluetoothd.start()
            await bluetoothd.sweep()
            adapter = bluetoothd.objects.adapter(address)
            if adapter is None:
                raise RadioError(
                    f"there is no adapter {address or 'here'}",
                    "bluetoothctl list shows what there is",
                )
            yield bluetoothd, adapter
    except BusError as error:
        raise RadioError(f"bluetoothd was not asked: {error}") from error


async def switch_on(bluetoothd: Bluetoothd, adapter: str, name: str) -> None:
    """Power, and no pairing: a phone must never see a prompt. BusError when it stays off.

    Just after bluetoothd started it answers Busy for a moment. `name` is what anybody may read
    of the adapter (Core Vol 3 Part C 12.1); otherwise that is the machine's host name.
    """
    if not bluetoothd.objects.powered(adapter):
        await _power(bluetoothd, adapter, on=True)
        await _until_powered(bluetoothd, adapter)
    for flag in ("Pairable", "Discoverable"):
        if (bluetoothd.objects.get(adapter, names.ADAPTER) or {}).get(flag):
            await bluetoothd.set(adapter, names.ADAPTER, flag, Variant("b", False))
    if (bluetoothd.objects.get(adapter, names.ADAPTER) or {}).get("Alias") != name:
        with contextlib.suppress(BusError):  # no reason not to serve
            await bluetoothd.set(adapter, names.ADAPTER, "Alias", Variant("s", name))


async def _until_powered(bluetoothd: Bluetoothd, adapter: str) -> None:
    """The property follows the reply."""
    for _ in range(POWER_TRIES):
        if bluetoothd.objects.powered(adapter):
            return
        await asyncio.sleep(POWER_RETRY_S)
    raise BusError(names.FAILED, "the adapter says that it is on, and is not")


async def power_cycle(bluetoothd: Bluetoothd, adapter: str) -> None:
    """Off and on again. BusError when it does not come back."""
    await _power(bluetoothd, adapter, on=False)
    await asyncio.sleep(OFF_S)
    await _power(bluetoothd, adapter, on=True)


async def _power(bluetoothd: Bluetoothd, adapter: str, *, on: bool) -> None:
    for last in (*[False] * (POWER_TRIES - 1), True):
        try:
            await bluetoothd.set(adapter, names.ADAPTER, "Powered", Variant("b", on))
        except BusError as error:
            if last or error.name not in {names.BUSY, names.IN_PROGRESS}:
                raise
            await asyncio.sleep(POWER_RETRY_S)
        else:
            return


def both_roles(bluetoothd: Bluetoothd, adapter: str) -> bool:
    """Whether bluetoothd says that phones and locks may be connected at the same time.

    Without it a dial may be refused while a phone is connected (bluez issue 584). It needs
    `KernelExperimental = 671b10b5-42c0-4696-9227-eb28d1b049d6` in main.conf. Either way
    the kernel pauses advertising during a dial (docs/decisions/0026).
    """
    known = bluetoothd.objects.get(adapter, names.ADAPTER) or {}
    roles = known.get("Roles", [])
    return isinstance(roles, list) and BOTH_ROLES in roles


async def close_stale(bluetoothd: Bluetoothd, adapter: str, counts: Counter[str]) -> None:
    """Disconnect everybody: bluetoothd keeps links of clients that are no more (bluez issue 89)."""
    stale = list(bluetoothd.objects.connected(adapter))
    counts["stale connections closed"] += len(stale)
    hung_up = await asyncio.gather(
        *(
            bluetoothd.call(device, names.DEVICE, "Disconnect", timeout_s=DISCONNECT_S)
            for device in stale
        ),
        return_exceptions=True,
    )
    for device, result in zip(stale, hung_up, strict=True):
        if isinstance(result, BusError):
            _log.warning("%s is connected from an earlier life and stays so: %s", device, result)
        elif isinstance(result, BaseException):
            raise result
