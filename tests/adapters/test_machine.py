"""The doctor's eyes: files below a root of our own, programs of our own, and a real bus."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from gatewayd.adapters.machine import ThisMachine, bus, files, storage
from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core.diagnosis_radio import Adapter
from gatewayd.core.diagnosis_unit import OPENINGS, Unit, judge_unit
from gatewayd.core.findings import Severity
from gatewayd.ports import RadioError
from gatewayd.ports.machine import NotSeenError
from tests.support.private_bus import private_bus

ROOT = Path(__file__).parents[2]
OBJECTS = {
    "/org/bluez": {"org.bluez.AgentManager1": {}},
    "/org/bluez/hci1": {"org.bluez.Adapter1": {"Address": {"type": "s", "data": "00:00"}}},
    "/org/bluez/hci0": {
        "org.bluez.Adapter1": {
            "Address": {"type": "s", "data": "B8:27:EB:00:00:01"},
            "Powered": {"type": "b", "data": True},
            "Roles": {"type": "as", "data": ["central", "peripheral"]},
            "Modalias": {"type": "s", "data": "usb:v1D6Bp0246d0542"},
        },
        "org.bluez.LEAdvertisingManager1": {"ActiveInstances": {"type": "y", "data": 2}},
    },
}
HCI0 = Adapter("hci0", "B8:27:EB:00:00:01", True, frozenset({"central", "peripheral"}), 2)
HCI1 = Adapter("hci1", "00:00", False, frozenset(), None)


def put(root: Path, name: str, text: str, mode: int = 0o644) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


class Programs:
    """A PATH with programs that say what they are told to say."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.directory}:/usr/bin:/bin"}

    def say(self, name: str, out: str = "", err: str = "", code: int = 0) -> None:
        put(self.directory, f"{name}.out", out)
        put(self.directory, f"{name}.err", err)
        script = f'cat "{self.directory}/{name}.out"; cat "{self.directory}/{name}.err" >&2'
        put(self.directory, name, f"#!/bin/sh\n{script}\nexit {code}\n", 0o755)

    def objects(self, objects: object) -> None:
        self.say("busctl", json.dumps({"type": "a{oa{sa{sv}}}", "data": [objects]}))


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    made = Programs(tmp_path / "bin")
    made.objects(OBJECTS)
    made.say("systemctl", "active\n")
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def machine(root: Path, programs: Programs) -> ThisMachine:
    root.mkdir()
    return ThisMachine(root, programs.environment)


# --- the daemon's unit -----------------------------------------------------------------
async def test_the_unit_as_systemd_adds_it_up(machine: ThisMachine, root: Path) -> None:
    with pytest.raises(NotSeenError, match=r"no gatewayd\.service"):
        await machine.unit()
    shipped = ROOT / "systemd"
    put(root, "usr/lib/systemd/system/gatewayd.service", (shipped / "gatewayd.service").read_text())
    for name, opening in OPENINGS.items():
        closed = await machine.unit()
        assert (closed["PrivateNetwork"], closed["CapabilityBoundingSet"]) == (("yes",), ())
        (missing,) = judge_unit(Unit((name,), closed))
        assert opening.without in missing.message
        link = root / "etc/systemd/system/gatewayd.service.d" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/nowhere")  # as of a package that is gone
        assert await machine.unit() == closed
        link.unlink()
        link.symlink_to(shipped / "drop-ins" / name)
        (fine,) = judge_unit(Unit((name,), await machine.unit()))
        assert fine.severity is Severity.FINE
        link.unlink()
    # a later directory's file of the same name counts
    put(root, "run/systemd/system/gatewayd.service.d/a.conf", "[Service]\nPrivateNetwork=no\n")
    assert (await machine.unit())["PrivateNetwork"] == ("yes", "no")
    text = "; x=y\n# PrivateNetwork=1\n[Unit]\nPrivateNetwork=2\n[Service]\n\nPrivateNetwork=\n=\n"
    put(root, "etc/systemd/system/gatewayd.service.d/a.conf", text)
    assert (await machine.unit())["PrivateNetwork"] == ()


# --- bluetoothd ------------------------------------------------------------------------
async def test_bluetooth_as_bluetoothd_tells_it(machine: ThisMachine, root: Path) -> None:
    put(root, "sys/class/rfkill/rfkill0/type", "wlan\n")
    put(root, "sys/class/rfkill/rfkill0/soft", "1\n")
    for number, (soft, hard) in enumerate((("0", "0"), ("1", "0"), ("0", "1")), 1):
        directory = f"sys/class/rfkill/rfkill{number}"
        put(root, f"{directory}/type", "bluetooth\n")
        put(root, f"{directory}/name", f"hci{number}\n")
        put(root, f"{directory}/soft", f"{soft}\n")
        put(root, f"{directory}/hard", f"{hard}\n")
    seen = await machine.bluetooth()
    assert (seen.running, seen.serving) == (True, True)
    assert seen.adapters == (HCI0, HCI1)
    assert seen.blocked == ("hci2", "hci3")


async def test_a_daemon_asks_by_itself(root: Path) -> None:
    said: dict[str, dict[str, dict[str, object]]] = {
        "/org/bluez/hci0": {
            "org.bluez.Adapter1": {
                "Address": "B8:27:EB:00:00:01", "Powered": True,
                "Roles": ["central", "peripheral"], "Modalias": "usb:v1D6Bp0246d0542",
            },
            "org.bluez.LEAdvertisingManager1": {"ActiveInstances": 2},
        }
    }  # fmt: skip

    async def ask() -> dict[str, dict[str, dict[str, object]]]:
        if not said:
            raise RadioError("bluetoothd is gone")
        return said

    machine = ThisMachine(root, {"PATH": "/nonexistent"}, ask)
    seen = await machine.bluetooth()
    assert (seen.running, seen.serving, seen.adapters) == (True, True, (HCI0,))
    assert (await machine.versions()).bluez == "5.66"
    assert (await machine.disk(root, writing=False)).sync_ms is None
    said.clear()
    with pytest.raises(NotSeenError, match="gone"):
        await machine.bluetooth()


async def test_no_bluetoothd_is_an_observation(machine: ThisMachine, programs: Programs) -> None:
    for said in (
        "Call failed: The name org.bluez was not provided by any .service files",
        "Call failed: The name is not activatable",
    ):
        programs.say("busctl", err=said, code=1)
        seen = await machine.bluetooth()
        assert (seen.running, seen.adapters) == (False, ())


@pytest.mark.parametrize(
    ("said", "why", "remedy"),
    [
        ("Call failed: Access denied", "does not let this user", "ask as root: sudo"),
        ("Failed to connect to bus: No such file or directory", "No such file", ""),
        ("", "busctl failed", ""),
    ],
)
async def test_a_bus_that_cannot_be_asked_is_none(
    machine: ThisMachine, programs: Programs, said: str, why: str, remedy: str
) -> None:
    programs.say("busctl", err=said, code=1)
    with pytest.raises(NotSeenError, match=why) as caught:
        await machine.bluetooth()
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(
    "answer",
    ["", "not json", "[]", "{}", '{"data": []}', '{"data": [1]}', '{"data": [{"/": 1}]}',
     '{"data": [{"/": {"i": {"p": 1}}}]}', '{"data": [{"/": {"i": {"p": {}}}}]}', "[" * 100_000],
    ids=range(10),
)  # fmt: skip
async def test_an_answer_that_is_none(
    machine: ThisMachine, programs: Programs, answer: str
) -> None:
    programs.say("busctl", answer)
    with pytest.raises(NotSeenError, match="something else than objects"):
        await machine.bluetooth()


@pytest.mark.parametrize(
    ("name", "data"), [("Roles", "central"), ("Roles", [1]), ("Address", 5), ("Powered", "yes")]
)
async def test_an_adapter_of_other_types(
    machine: ThisMachine, programs: Programs, name: str, data: object
) -> None:
    programs.objects({"/org/bluez/hci0": {"org.bluez.Adapter1": {name: {"data": data}}}})
    with pytest.raises(NotSeenError, match="another way"):
        await machine.bluetooth()


async def test_whether_the_daemon_runs(machine: ThisMachine, programs: Programs) -> None:
    programs.say("systemctl", "inactive\n", code=3)
    assert (await machine.bluetooth()).serving is False
    (programs.directory / "systemctl").chmod(0o644)
    assert (await bus.Programs({"PATH": str(programs.directory)}).is_active("x")) is False


async def test_the_version_that_runs_counts_and_then_the_installed_one(
    machine: ThisMachine, programs: Programs, root: Path
) -> None:
    assert (await machine.versions()).bluez == "5.66"
    assert (await machine.versions()).kernel == os.uname().release
    programs.objects({"/org/bluez/hci0": {"org.bluez.Adapter1": {"Modalias": {"data": "usb:x"}}}})
    with pytest.raises(NotSeenError, match="no bluetoothd"):
        await machine.versions()
    put(root, "usr/sbin/bluetoothd", "#!/bin/sh\necho 5.82\n", 0o755)
    put(root, "usr/libexec/bluetooth/bluetoothd", "#!/bin/sh\necho broken\n", 0o755)
    assert (await machine.versions()).bluez == "5.82"
    programs.say("busctl", err="Failed to connect to bus", code=1)
    assert (await machine.settings()).bluez == "5.82"


async def test_a_program_that_hangs_is_given_up(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(programs.directory, "busctl", "#!/bin/sh\nexec sleep 60\n", 0o755)
    monkeypatch.setattr(bus, "DEADLINE_S", 0.2)
    with pytest.raises(NotSeenError, match="did not answer"):
        await bus.Programs(programs.environment).managed_objects()


async def test_a_program_that_is_not_there() -> None:
    with pytest.raises(NotSeenError, match="cannot run"):
        await bus.Programs({"PATH": "/nowhere"}).run("gatewayd-no-such-program")


# --- a real bus, asked by the real busctl -----------------------------------------------
@asynccontextmanager
async def bluetoothd() -> AsyncIterator[MessageBus]:
    """Somebody who owns org.bluez and describes one adapter."""
    owner = await MessageBus(os.environ["DBUS_SYSTEM_BUS_ADDRESS"]).connect()
    adapter = {
        "Address": Variant("s", "B8:27:EB:00:00:01"),
        "Powered": Variant("b", True),
        "Roles": Variant("as", ["central", "peripheral"]),
        "Modalias": Variant("s", "usb:v1D6Bp0246d0552"),
    }
    interfaces = {
        "org.bluez.Adapter1": adapter,
        "org.bluez.LEAdvertisingManager1": {"ActiveInstances": Variant("y", 2)},
    }

    def answer(message: Message) -> Message | None:
        if message.message_type is MessageType.METHOD_CALL and message.member.startswith("GetM"):
            return Message.new_method_return(
                message, "a{oa{sa{sv}}}", [{"/org/bluez/hci0": interfaces}]
            )
        return None

    owner.add_message_handler(answer)
    await owner.request_name("org.bluez")
    try:
        yield owner
    finally:
        owner.disconnect()
        await owner.wait_for_disconnect()


@pytest.mark.skipif(
    not all(map(shutil.which, ("dbus-daemon", "busctl"))), reason="apt install dbus systemd"
)
async def test_the_real_busctl_is_understood(tmp_path: Path) -> None:
    async with private_bus(), asyncio.timeout(30):
        machine = ThisMachine(tmp_path)
        assert (await machine.bluetooth()).running is False
        async with bluetoothd():
            seen = await machine.bluetooth()
            assert seen.adapters == (HCI0,)
            assert (await machine.versions()).bluez == "5.82"


# --- files ------------------------------------------------------------------------------
def test_main_conf(root: Path) -> None:
    name = files.main_conf(root)
    assert files.settings(root, name) == ""
    put(root, "etc/bluetooth/main.conf", "[General]\n")
    assert files.settings(root, name) == "[General]\n"
    (root / "etc/bluetooth/main.conf").unlink()
    (root / "etc/bluetooth/main.conf").mkdir()
    with pytest.raises(NotSeenError, match="cannot be read"):
        files.settings(root, name)


async def test_settings_in_another_file(machine: ThisMachine, root: Path) -> None:
    unit = "usr/lib/systemd/system/bluetooth.service"
    for line, wanted in (
        ("bluetoothd", "/etc/bluetooth/main.conf"),
        ("bluetoothd -f", "/etc/bluetooth/main.conf"),
        ("bluetoothd -E -f /etc/a.conf -d", "/etc/a.conf"),
        ("bluetoothd --configfile /etc/a.conf", "/etc/a.conf"),
        ("bluetoothd --configfile=/etc/a.conf", "/etc/a.conf"),
    ):
        put(root, unit, f"[Service]\nExecStart=/usr/libexec/bluetooth/{line}\n")
        assert files.main_conf(root) == wanted, line
    put(root, f"{unit}.d/gatewayd.conf", (ROOT / "systemd/bluetooth.conf").read_text())
    put(root, "etc/gatewayd/bluetooth.conf", "[GATT]\nExchangeMTU = 517\n")
    seen = await machine.settings()
    assert (seen.file, seen.text) == ("/etc/gatewayd/bluetooth.conf", "[GATT]\nExchangeMTU = 517\n")
    (finding,) = (each for each in bluez.judge_settings(seen) if "ExchangeMTU" in each.remedy)
    assert "of /etc/gatewayd/bluetooth.conf, then" in finding.remedy


async def test_clocks(machine: ThisMachine, root: Path) -> None:
    assert (await machine.clock(promised=None)).chips == ()
    put(root, "sys/class/rtc/rtc0/name", "rtc-ds1307 1-0068\n")
    put(root, "sys/class/rtc/rtc0/since_epoch", "1790000000\n")
    put(root, "sys/class/rtc/rtc1/since_epoch", "-5\n")
    seen = await machine.clock(promised=True)
    assert seen.chips == (host.Chip("rtc-ds1307 1-0068", 1_790_000_000), host.Chip("rtc1", None))
    assert seen.promised is True
    assert seen.wall_s > host.LIVED_IN_S


async def test_what_becomes_of_a_bluetoothd_that_crashes(machine: ThisMachine, root: Path) -> None:
    async def restart() -> str | None:
        return (await machine.settings()).restart

    assert await restart() is None
    put(root, "usr/lib/systemd/system/bluetooth.service", "[Service]\n#Restart=on-failure\n")
    assert await restart() == "no"
    put(root, "usr/lib/systemd/system/bluetooth.service.d/a.conf", "[Service]\nRestart=always\n")
    assert await restart() == "always"
    ours = "etc/systemd/system/bluetooth.service.d/gatewayd.conf"
    put(root, ours, (ROOT / "systemd/bluetooth.conf").read_text())
    assert await restart() == "on-failure"
    put(root, "etc/systemd/system/bluetooth.service", "[Service]\nRestart=no\n")
    assert await restart() == "on-failure"
    (root / ours).unlink()
    put(root, "run/systemd/system/bluetooth.service.d/a.conf", "[Unit]\n")
    assert await restart() == "no"


async def test_journals(machine: ThisMachine, root: Path) -> None:
    with pytest.raises(NotSeenError, match="no systemd"):
        await machine.journal()
    put(root, "etc/systemd/journald.conf", "[Journal]\n#Storage=auto\n")
    assert await machine.journal() == host.Journal("auto", on_disk=False)
    (root / "var/log/journal").mkdir(parents=True)
    put(root, "usr/lib/systemd/journald.conf.d/40-rpi.conf", "[Journal]\nStorage=volatile\n")
    assert await machine.journal() == host.Journal("volatile", on_disk=True)
    put(root, "etc/systemd/journald.conf.d/20-first.conf", "[Journal]\nStorage=none\n")
    assert (await machine.journal()).storage == "volatile"  # by name, wherever they lie
    put(root, "etc/systemd/journald.conf.d/40-rpi.conf", "[Journal]\nStorage=Persistent\n")
    assert (await machine.journal()).storage == "persistent"


async def test_who_may_do_what(machine: ThisMachine, root: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert await machine.access(state) == host.Access(False, False, False, False, None)
    put(root, "etc/passwd", "root:x:0:0\ngatewayd:x:990:990\n")
    put(root, "etc/dbus-1/system.d/gatewayd.conf", "")
    put(root, "etc/dbus-1/system-local.conf", "<busconfig/>")
    assert not (await machine.access(state)).policy
    shutil.copy(ROOT / "systemd/system-local.dbus.conf", root / "etc/dbus-1/system-local.conf")
    (root / "run").mkdir()
    put(root, "etc/systemd/system/gatewayd-bluetooth-cache.timer", "")
    assert not (await machine.access(state)).forgets  # installed, and not enabled
    wanted = root / "etc/systemd/system/timers.target.wants"
    wanted.mkdir()
    (wanted / "gatewayd-bluetooth-cache.timer").symlink_to("/etc/systemd/system/x.timer")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as helper:
        helper.bind(str(root / "run/gatewayd-radio-helper.socket"))
        state.mkdir(mode=0o750)
        seen = await machine.access(state)
    assert (seen.user, seen.policy, seen.helper, seen.forgets) == (True, True, True, True)
    assert seen.state is not None
    assert (seen.state.place, seen.state.mode) == (str(state), 0o750)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_an_owner_without_a_name(root: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 54_321, 54_321)
    seen = files.access(root, state).state
    assert seen is not None
    assert seen.owner == "54321"


# --- the disk ------------------------------------------------------------------------------
async def test_a_real_disk(machine: ThisMachine, tmp_path: Path) -> None:
    seen = await machine.disk(tmp_path / "not" / "yet" / "there")
    assert seen.place == str(tmp_path)
    assert len(seen.sync_ms) == storage.WRITES
    assert min(seen.sync_ms) > 0
    assert seen.free_bytes > 0
    assert storage.writes(seen_place := Path(seen.place)) != ()
    assert [*seen_place.glob(".gatewayd-doctor-*")] == []  # noqa: ASYNC240 - nothing else runs


def test_the_file_system_is_the_deepest_mount() -> None:
    lines = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw",
        "23 22 0:21 / /var rw - btrfs /dev/sda1 rw",
        "24 22 0:22 / /var/lib/gate\\040way rw shared:3 master:2 - xfs /dev/sdb rw",
        "25 23 0:23 / /var rw - tmpfs tmpfs rw",
        "broken line",
        "1 2 - short",
    )
    text = "\n".join(lines)
    assert storage.filesystem(Path("/home"), text) == "ext4"
    assert storage.filesystem(Path("/var/lib"), text) == "tmpfs"  # mounted over the other
    assert storage.filesystem(Path("/var/lib/gate way/x"), text) == "xfs"
    assert storage.filesystem(Path("/variable"), text) == "ext4"
    assert storage.filesystem(Path("/home"), "") == "unknown"
    assert storage.filesystem(Path("/"), Path("/proc/self/mountinfo").read_text()) != "unknown"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.os, "fsync", fail)
    assert storage.writes(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_takes_nothing_from_us(
    machine: ThisMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_options: object) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    seen = await machine.disk(tmp_path)
    assert (seen.sync_ms, seen.barred, seen.read_only) == (None, True, False)
    assert seen.free_bytes > 0  # one look that fails hides no other
