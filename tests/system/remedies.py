"""The remedies of the product, each with how to take it out and the test that must then fail.

`old` stands exactly once in its file; with `new` in its place the product is as it was
before somebody met the fault. Whoever changes a remedy's text changes it here, too:
`make prove-tests` says which does not fit any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLUEZ: Final = "gatewayd/adapters/bluez"
FAULTS: Final = "tests/system/test_faults.py"
RADIO: Final = "tests/system/test_radio_faults.py"


@dataclass(frozen=True, slots=True)
class Remedy:
    """against: the fault. test: a node id of pytest, in the machine when it is a system test."""

    against: str
    file: str
    old: str
    new: str
    test: str

    @property
    def in_machine(self) -> bool:
        """Whether the real bluetoothd is needed."""
        return self.test.startswith("tests/system/") or "BluetoothdWorld" in self.test


BLUETOOTHD: Final = (
    Remedy(
        "bluetoothd restarted: nothing told",
        f"{BLUEZ}/bluetoothd.py",
        '            self._tell(News.OWNER_LOST, "")\n',
        "",
        f"{RADIO}::test_a_lock_is_dialled_again_after_bluetoothd_was_killed",
    ),
    Remedy(
        "bluetoothd restarted: what was registered is believed to be so still",
        f"{BLUEZ}/keeper.py",
        "        return _Life(self._bluetoothd.generation, path, self._lives[path])",
        "        return _Life(0, path, 0)",
        f"{FAULTS}::test_bluetoothd_is_killed_while_idle",
    ),
    Remedy(
        "daemon killed: phones of its earlier life stay connected",
        f"{BLUEZ}/keeper.py",
        "            adapter.close_stale(self._bluetoothd, path, self._counts),",
        "            asyncio.sleep(0),",
        f"{FAULTS}::test_the_daemon_is_killed_with_everybody_connected",
    ),
    Remedy(
        "connect that never ends: a dial without a bound",
        f"{BLUEZ}/locks.py",
        "            async with asyncio.timeout(self._options.dial_s):",
        "            async with asyncio.timeout(None):",
        f"{RADIO}::test_a_connect_that_never_ends",
    ),
    Remedy(
        "connect that never ends: its end waited for",
        f"{BLUEZ}/locks.py",
        "        await asyncio.wait({attempt}, timeout=ENDED_S)",
        "        await asyncio.wait({attempt})",
        f"{RADIO}::test_a_connect_that_never_ends",
    ),
)
ADAPTER: Final = (
    Remedy(
        "adapter switched off by somebody",
        f"{BLUEZ}/keeper.py",
        "        await adapter.switch_on(self._bluetoothd, path,"
        " gatt_table.short_name(self._options.name))\n",
        "",
        f"{FAULTS}::test_the_adapter_is_switched_off_by_somebody",
    ),
    Remedy(
        "adapter pulled out and put back: its life not ended",
        f"{BLUEZ}/keeper.py",
        "        self._lives[path] += 1\n",
        "",
        f"{FAULTS}::test_the_adapter_is_pulled_out_and_put_back",
    ),
    Remedy(
        "advertisement cleared by somebody",
        f"{BLUEZ}/keeper.py",
        "        return not self._phones.anybody and age_s >= self._options.refresh_s",
        "        return False",
        f"{RADIO}::test_the_advertisement_is_cleared_by_somebody",
    ),
    Remedy(
        "scan silent: a deaf adapter, an unknown lock",
        f"{BLUEZ}/ears.py",
        "                self._silent_s = 0.0\n                self._deaf()",
        "                self._silent_s = 0.0",
        f"{RADIO}::test_a_scan_that_hears_nobody_is_noticed[False]",
    ),
    Remedy(
        "scan silent: a deaf adapter, a lock that bluetoothd knows",
        f"{BLUEZ}/locks.py",
        "            await self._ears.check(adapter, address)\n",
        "",
        f"{RADIO}::test_a_scan_that_hears_nobody_is_noticed[True]",
    ),
    Remedy(
        "a lock is heard and not reached: nobody is told",
        f"{BLUEZ}/ears.py",
        "            self._stuck(address)\n",
        "",
        f"{RADIO}::test_a_lock_that_is_heard_and_not_reached",
    ),
    Remedy(
        "a fault that lasts: no rung of the ladder is taken",
        f"{BLUEZ}/remedies.py",
        "        if rung is Rung.POWER_CYCLE and path is not None:",
        "        if rung is None and path is not None:",
        f"{RADIO}::test_a_scan_that_hears_nobody_is_noticed[False]",
    ),
)
LOCKS: Final = (
    Remedy(
        "lock's table changed: the remembered one is believed",
        f"{BLUEZ}/locks.py",
        "                    await self._forget_table(adapter, path, address, tries, error)",
        "                    tries.last = str(error)",
        f"{RADIO}::test_a_lock_comes_back_with_another_table",
    ),
    Remedy(
        "lock out of reach: it keeps the turn",
        f"{BLUEZ}/locks.py",
        "                needed = self._waiting or not (connected or self._keeper.simultaneous)",
        "                needed = False",
        f"{RADIO}::test_a_lock_out_of_reach_is_no_reason_to_keep_another_waiting",
    ),
    Remedy(
        "lock out of reach for a while: its kept link is not dialled again",
        "gatewayd/locks.py",
        "            wait_s = await self.look()\n",
        "            wait_s = 0.0\n",
        "tests/daemon/test_locks.py::test_a_warm_link_comes_back_by_itself",
    ),
    Remedy(
        "dial cancelled: its connection leaks",
        f"{BLUEZ}/locks.py",
        "            if not kept:\n                client.link.drop()",
        "            if not kept:\n                pass",
        f"{RADIO}::test_a_dial_that_is_cancelled_leaves_no_connection",
    ),
)
PHONES: Final = (
    Remedy(
        "phone that says nothing keeps its place",
        f"{BLUEZ}/phones.py",
        "        if device not in self._links:\n"
        '            self._counts["phones that said nothing"] += 1\n'
        "            self._hang_up(device)",
        "        pass",
        f"{FAULTS}::test_phones_that_say_nothing_take_every_place",
    ),
    Remedy(
        "a notification reaches every phone",
        "firmware_proto/framing.py",
        "            return channel == self._channel or"
        " (channel == UNASSIGNED_CHANNEL and not self._spoke)",
        "            return True",
        f"{FAULTS}::test_ten_phones_at_once",
    ),
    Remedy(
        "a phone is not noticed to be gone",
        f"{BLUEZ}/phones.py",
        '                self._gone(device, "disconnected")',
        "                pass",
        f"{FAULTS}::test_a_phone_vanishes_at_every_step",
    ),
)
BELOW: Final = (
    Remedy(
        "bluetoothd drops long writes (bluez issue 570)",
        "systemd/bluetooth-main.conf",
        "ExchangeMTU = 512",
        "ExchangeMTU = 517",
        "tests/contract/test_radio_contract.py::test_every_size_up_to_the_mtu[BluetoothdWorld-517]",
    ),
    Remedy(
        "one role at a time",
        "systemd/bluetooth-main.conf",
        "KernelExperimental = 671b10b5-42c0-4696-9227-eb28d1b049d6",
        "KernelExperimental = false",
        "tests/system/test_adapter.py::test_an_adapter_can_do_both_roles_at_once",
    ),
)
"""What a gateway's bluetoothd is told, as the machine's is."""
ANYWHERE: Final = (
    Remedy(
        "a lock's answer is lost: the command is sent again",
        "gatewayd/locks.py",
        "            except (LinkClosedError, TimeoutError):\n"
        "                await self._drop()\n"
        "                return SILENT",
        "            except (LinkClosedError, TimeoutError):\n"
        "                await self._drop()\n"
        "                return UNREACHABLE",
        "tests/daemon/test_locks.py::test_silence_is_unknown_and_resolved_later",
    ),
    Remedy(
        "noise on a wired lock's line",
        "firmware_proto/serial_framing.py",
        "    return message if crc == _crc(message) and ",
        "    return message if ",
        "tests/proto/test_serial_framing.py",
    ),
    Remedy(
        "a pulse longer than the strike bears",
        "gatewayd/adapters/relay/keeper.py",
        "                self._pulse(command, min(int(milliseconds), self._limit_ms))",
        "                self._pulse(command, int(milliseconds))",
        "tests/adapters/test_relay.py::"
        "test_no_setting_and_no_command_makes_a_pulse_longer_than_a_strike_bears",
    ),
    Remedy(
        "a hung task is still called alive",
        "gatewayd/core/heartbeat.py",
        "    return now_s > sign",
        "    return False",
        "tests/daemon/test_watchdog.py::test_a_hung_task_stops_the_feeding",
    ),
    Remedy(
        "a record sent once more is taken",
        "firmware_proto/records.py",
        '            raise RemoteProtocolError(Fault.REPLAYED, "record: an old one")',
        "            pass",
        "tests/proto/test_records.py",
    ),
)
REMEDIES: Final = (*BLUETOOTHD, *ADAPTER, *LOCKS, *PHONES, *BELOW, *ANYWHERE)
