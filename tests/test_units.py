"""The files for systemd and D-Bus: their scores, what they name, and what the bus makes of them."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Message, RequestNameReply
from dbus_fast.aio import MessageBus
from dbus_fast.auth import AuthExternal

from gatewayd.adapters.helper_client import SOCKET
from gatewayd.config.model import Keys
from tests.support.commands import end
from tests.support.units import DAEMON, HELPER, UNITS, environment, settings

ROOT = Path(__file__).parent.parent
SCORES = ROOT / ".ci" / "unit-scores"
CACHE = "gatewayd-bluetooth-cache"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="apt install systemd"
)
needs_bus = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ("dbus-daemon", "dbus-send", "setpriv"))),
    reason="apt install dbus, as root",
)


def scores(units: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCORES], env={**os.environ, "UNITS": str(units)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


# --- what it may hold ---------------------------------------------------------------------
def test_the_daemons_environment_spares_it_a_megabyte() -> None:
    look = "import sys, zoneinfo; zoneinfo.ZoneInfo('Europe/Vienna'); print(*sys.modules)"
    loaded = [
        subprocess.run(
            [sys.executable, "-c", look],
            env=each, capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for each in ({}, environment())  # and nothing else: coverage would load it, too
    ]  # fmt: skip
    assert ["_sysconfigdata" in each for each in loaded] == [True, False]


# --- scores -------------------------------------------------------------------------------
@needs_systemd
def test_every_unit_with_every_combination_is_below_its_limit() -> None:
    said = scores(UNITS)
    assert said.returncode == 0, said.stdout + said.stderr
    limits = [float(each) for each in re.findall(r"limit (\d\.\d)$", said.stdout, re.MULTILINE)]
    assert len(limits) == len(said.stdout.splitlines())
    assert max(limits) <= 1.8
    drop_ins = {each.stem for each in (UNITS / "drop-ins").glob("*.conf")}
    assert drop_ins == {name for name in drop_ins if name in said.stdout}


@needs_systemd
@pytest.mark.parametrize(
    ("unit", "line"),
    [
        (DAEMON, "NoNewPrivileges=yes"),
        (DAEMON, "CapabilityBoundingSet="),
        (DAEMON, "SystemCallFilter=~@privileged @resources"),
        (HELPER, "SystemCallFilter=@system-service"),
        (HELPER, "RestrictNamespaces=yes"),
        (f"{CACHE}.service", "CapabilityBoundingSet="),
        (f"{CACHE}.service", "PrivateNetwork=yes"),
    ],
)
def test_a_unit_that_gives_away_more_is_noticed(tmp_path: Path, unit: str, line: str) -> None:
    shutil.copytree(UNITS, tmp_path / "units")
    path = tmp_path / "units" / unit
    text = path.read_text("utf-8")
    assert f"\n{line}\n" in text
    # no single line is worth so much, but this one with those that protect the system is
    without = [each for each in text.splitlines() if each != line and "Protect" not in each]
    path.write_text("\n".join(without), "utf-8")
    assert scores(tmp_path / "units").returncode == 1


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    files = [
        Path(shutil.copy(path, tmp_path))
        for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket"), *UNITS.glob("*.timer"))
    ]
    shutil.copytree(UNITS / "drop-ins", tmp_path / f"{DAEMON}.d")
    said = subprocess.run(
        [str(shutil.which("systemd-analyze")), "verify", "--man=no", *files],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    ours = [line for line in said.stderr.splitlines() if "gatewayd" in line]
    assert [line for line in ours if "is not executable" not in line] == []


# --- what units name ---------------------------------------------------------------------
def test_credentials_are_the_keys_that_the_daemon_takes() -> None:
    loaded = settings(UNITS / DAEMON)["LoadCredential"]
    names = [each.partition(":")[0] for each in loaded]
    assert names == [str(getattr(Keys(), each)) for each in ("gateway", "log", "receipt")]
    assert all(
        each.endswith(f":/etc/gatewayd/{name}") for each, name in zip(loaded, names, strict=True)
    )
    closed = (UNITS / "gatewayd.tmpfiles.conf").read_text("utf-8")
    for name in (*names, "tls.key"):
        assert f"z /etc/gatewayd/{name} 0600 root root -\n" in closed


def test_the_daemon_and_its_helper_know_the_same_socket_and_user() -> None:
    socket = settings(UNITS / "gatewayd-radio-helper.socket", "Socket")
    daemon, helper = settings(UNITS / DAEMON), settings(UNITS / HELPER)
    assert socket["ListenSequentialPacket"] == [str(SOCKET)]
    assert socket["SocketUser"] == daemon["User"] == ["gatewayd"]
    assert socket["SocketMode"] == ["0600"]
    assert helper["ExecStart"] == ["/usr/bin/gatewayd-radio-helper gatewayd"]
    assert helper["CapabilityBoundingSet"] == helper["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert daemon["CapabilityBoundingSet"] == daemon["AmbientCapabilities"] == [""]
    users = (UNITS / "gatewayd.sysusers.conf").read_text("utf-8")
    assert re.search(r"^u gatewayd ", users, re.MULTILINE)


def test_the_programs_are_installed_by_these_names() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for unit in (DAEMON, HELPER):
        program = settings(UNITS / unit)["ExecStart"][0].split()[0].rpartition("/")[2]
        assert f'\n{program} = "' in project


def test_the_watchdog_is_slower_than_the_longest_stop() -> None:
    daemon = settings(UNITS / DAEMON)
    assert daemon["Type"] == ["notify"]
    assert int(daemon["WatchdogSec"][0]) > int(daemon["TimeoutStopSec"][0])
    assert daemon["Restart"] == ["always"]


# --- bluetoothd's cache ------------------------------------------------------------------------
# as bluetoothd 5.66 writes them; what a stranger calls himself is his choice
STRANGER = "[General]\nName=[Attributes]\n"
LOCK = "[General]\nName=Lock\n\n[Attributes]\n0001=2800:0005:1801\n"
CLEANED = "/var/lib/bluetooth"


def clean(directory: Path) -> None:
    """What the unit runs, about another directory."""
    text = (UNITS / f"{CACHE}.service").read_text("utf-8").replace("\\\n", "")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert command.count(CLEANED) == 1
    words = shlex.split(command.replace(CLEANED, str(directory)))
    subprocess.run(words, check=True, timeout=60)


def keep(path: Path, text: str, age_s: float = 300) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_of_bluetoothds_cache_the_names_go_and_the_tables_stay(tmp_path: Path) -> None:
    hci0, hci1 = tmp_path / "00:AA:01:00:00:00", tmp_path / "00:AA:01:00:00:01"
    stay = {
        keep(hci0 / "cache" / "F0:F1:F2:F3:F4:01", LOCK),
        keep(hci0 / "cache" / "F0:F1:F2:F3:F4:03", LOCK.partition("\n\n")[2]),
        keep(hci0 / "cache" / "F0:F1:F2:F3:F4:05", STRANGER, age_s=60),
        keep(hci0 / "F0:F1:F2:F3:F4:01" / "info", "[General]\nName=Lock\n"),
        keep(hci0 / "cache" / "F0:F1:F2:F3:F4:02" / "info", STRANGER),
        keep(hci0 / "settings", "[General]\n"),
        keep(tmp_path / "cache" / "file", STRANGER),
        keep(tmp_path / "elsewhere", STRANGER),
    }
    (hci0 / "cache" / "link").symlink_to(tmp_path / "elsewhere")
    keep(hci1 / "cache" / "C0:00:00:00:00:01", STRANGER)
    keep(hci1 / "cache" / "C0:00:00:00:00:02", "")
    for number in range(5000):  # more than one command line holds
        keep(hci0 / "cache" / f"C0:00:00:00:{number >> 8:02X}:{number & 255:02X}", STRANGER)
    clean(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {
        *stay, hci0 / "cache" / "link",
    }  # fmt: skip
    assert (hci1 / "cache").is_dir()
    clean(tmp_path)  # nothing to do, and nothing there, are no faults
    clean(tmp_path / "elsewhere")


def test_the_timer_comes_round_and_the_unit_reaches_nothing_else() -> None:
    timer = settings(UNITS / f"{CACHE}.timer", "Timer")
    assert timer["OnBootSec"] == timer["OnUnitInactiveSec"] == ["2min"]
    unit = settings(UNITS / f"{CACHE}.service")
    assert unit["ReadWritePaths"] == [CLEANED]
    assert (unit["CapabilityBoundingSet"], unit["ProtectSystem"]) == ([""], ["strict"])


def test_every_file_is_known_to_the_installer() -> None:
    page = (ROOT / "docs/install.md").read_text("utf-8")
    for path in (*UNITS.glob("*.*"), *UNITS.glob("drop-ins/*")):
        if path.is_file():
            assert str(path.relative_to(ROOT)) in page, path


# --- the bus ---------------------------------------------------------------------------------
# As Debian 12 ships both, in what matters here: everybody may call bluetoothd.
HEAD = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
"""
SYSTEM_BUS = (
    HEAD
    + """
  <type>system</type>
  <listen>{address}</listen>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Introspectable"/>
  </policy>
  <policy user="root"><allow own="*"/><allow send_destination="*"/></policy>
  <includedir>{directory}/policies</includedir>
  <include ignore_missing="yes">{directory}/system-local.conf</include>
</busconfig>
"""
)
DISTRIBUTION = (
    HEAD
    + """
  <policy context="default">
    <allow send_destination="org.bluez"/>
    <allow send_destination="org.freedesktop.hostname1"/>
    <allow send_destination="org.freedesktop.systemd1"/>
  </policy>
</busconfig>
"""
)
BLUEZ, OTHER_SERVICE, THE_BUS = "org.bluez", "org.freedesktop.hostname1", "org.freedesktop.DBus"
SYSTEMD = "org.freedesktop.systemd1"
PING = "org.freedesktop.DBus.Peer.Ping"
# users that every Debian has, in the places of the daemon's user and of anybody's
OURS, ANYBODY = "nobody", "daemon"


class Bus:
    """A system bus on which root owns two names, and users that call them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"unix:path={directory}/bus"
        self.owners: list[MessageBus] = []

    def write(self, policies: Sequence[str], local: str) -> None:
        self.directory.chmod(0o755)
        if local:
            (self.directory / "system-local.conf").write_text(local, "utf-8")
        (self.directory / "policies").mkdir()
        for number, text in enumerate(policies):
            (self.directory / "policies" / f"{number}.conf").write_text(text, "utf-8")
        text = SYSTEM_BUS.format(address=self.address, directory=self.directory)
        (self.directory / "bus.conf").write_text(text, "utf-8")

    async def call(self, user: str, destination: str, method: str = PING, *words: str) -> str:
        """What `user` is told: `ok`, or the last word of the error's name."""
        entry = pwd.getpwnam(user)
        process = await asyncio.create_subprocess_exec(
            "setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups",
            "dbus-send", f"--bus={self.address}", "--print-reply", f"--dest={destination}",
            "/", method, *words,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            _, said = await process.communicate()
        finally:
            await end(process)
        return "ok" if process.returncode == 0 else said.decode().split(":")[0].split(".")[-1]


@asynccontextmanager
async def bus_with(*policies: str, local: str = "") -> AsyncIterator[Bus]:
    with tempfile.TemporaryDirectory(prefix="gatewayd-bus") as name:
        directory = Path(name)
        bus = Bus(directory)
        bus.write(policies, local)
        process = await asyncio.create_subprocess_exec(
            "dbus-daemon", "--nofork", "--nopidfile", "--print-address",
            f"--config-file={directory}/bus.conf", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert await process.stdout.readline()
            # a connection of its own for each: who owns a name may be called by it alone
            for each in (BLUEZ, OTHER_SERVICE, SYSTEMD):
                owner = await MessageBus(bus.address).connect()
                bus.owners.append(owner)
                assert await owner.request_name(each) is RequestNameReply.PRIMARY_OWNER
            async with asyncio.timeout(30):
                yield bus
        finally:
            for owner in bus.owners:
                owner.disconnect()
                await owner.wait_for_disconnect()
            await end(process)


def our_policy() -> str:
    text = (UNITS / "gatewayd.dbus.conf").read_text("utf-8")
    assert text.count('user="gatewayd"') == 1
    return text.replace('user="gatewayd"', f'user="{OURS}"')


def for_everybody() -> str:
    return (UNITS / "system-local.dbus.conf").read_text("utf-8")


@needs_bus
async def test_without_our_policy_anybody_may_call_anybody() -> None:
    async with bus_with(DISTRIBUTION) as bus:
        for user in (OURS, ANYBODY):
            assert await bus.call(user, BLUEZ) == "ok"
            assert await bus.call(user, OTHER_SERVICE) == "ok"


@needs_bus
@pytest.mark.parametrize("ours_first", [True, False])
async def test_with_our_policies_only_the_daemon_calls_bluetoothd_and_it_calls_nobody_else(
    ours_first: bool,
) -> None:
    policies = [our_policy(), DISTRIBUTION] if ours_first else [DISTRIBUTION, our_policy()]
    async with bus_with(*policies, local=for_everybody()) as bus:
        assert await bus.call(OURS, BLUEZ) == "ok"
        assert await bus.call(OURS, OTHER_SERVICE) == "AccessDenied"
        assert await bus.call(ANYBODY, BLUEZ) == "AccessDenied"
        assert await bus.call(ANYBODY, OTHER_SERVICE) == "ok"
        assert await bus.call("root", BLUEZ) == "ok"


@needs_bus
async def test_with_our_policy_the_daemon_can_use_the_bus_and_own_no_name() -> None:
    async with bus_with(DISTRIBUTION, our_policy()) as bus:
        prefix = "org.freedesktop.DBus"
        assert await bus.call(OURS, THE_BUS, f"{prefix}.GetNameOwner", f"string:{BLUEZ}") == "ok"
        rule = "string:type='signal',sender='org.bluez'"
        assert await bus.call(OURS, THE_BUS, f"{prefix}.AddMatch", rule) == "ok"
        own = ("string:org.bluez.x", "uint32:0")
        assert await bus.call(OURS, THE_BUS, f"{prefix}.RequestName", *own) == "AccessDenied"
        environment = "dict:string:string:A,B"
        denied = await bus.call(OURS, THE_BUS, f"{prefix}.UpdateActivationEnvironment", environment)
        assert denied == "AccessDenied"


@asynccontextmanager
async def connected_as(user: str, address: str) -> AsyncIterator[MessageBus]:
    """A connection that the bus takes for this user's."""
    uid = pwd.getpwnam(user).pw_uid
    bus = MessageBus(address, auth=AuthExternal(uid))
    os.seteuid(uid)  # SO_PEERCRED tells of the moment of connect(2), see unix(7)
    try:
        await bus.connect()
    finally:
        os.seteuid(0)
    try:
        yield bus
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()


@needs_bus
async def test_only_bluetoothd_and_the_bus_tell_the_daemon_anything() -> None:
    """bleak believes whoever sends bluetoothd's signals: it names no sender in its rules."""
    device, changed = "/org/bluez/hci0/dev_F0_00_00_00_00_01", "org.freedesktop.DBus.Properties"
    async with (
        bus_with(DISTRIBUTION, our_policy()) as bus,
        connected_as(OURS, bus.address) as daemon,
        connected_as(ANYBODY, bus.address) as somebody,
    ):
        heard: list[str] = []
        gone = asyncio.Event()
        daemon.add_message_handler(
            lambda message: heard.append(message.body[0]) if message.path == device else None
        )
        daemon.add_message_handler(
            lambda message: gone.set() if message.member == "NameOwnerChanged" else None
        )
        for rule in ("path_namespace='/org/bluez'", "member='NameOwnerChanged'"):
            await daemon.call(
                Message(THE_BUS, "/", THE_BUS, "AddMatch", signature="s", body=[rule])
            )

        async def say(sender: MessageBus, what: str, to: str | None = None) -> None:
            message = Message.new_signal(device, changed, "PropertiesChanged", "s", [what])
            message.destination = to
            await sender.send(message)

        await say(somebody, "forged, for everybody")
        await say(somebody, "forged, for the daemon", daemon.unique_name)
        await somebody.call(Message(THE_BUS, "/", THE_BUS, "GetId"))  # the bus has both by now
        await say(bus.owners[0], "bluetoothd's, for everybody")
        await say(bus.owners[0], "bluetoothd's, for the daemon", daemon.unique_name)
        bus.owners[1].disconnect()
        async with asyncio.timeout(5):
            await gone.wait()
        assert heard == ["bluetoothd's, for everybody", "bluetoothd's, for the daemon"]


@needs_bus
async def test_of_systemd_the_daemon_may_ask_for_one_thing() -> None:
    async with bus_with(DISTRIBUTION, our_policy()) as bus:
        manager = f"{SYSTEMD}.Manager"
        words = ("string:bluetooth.service", "string:replace")
        # the owner of the name here has no such method, which is only known once it is called
        assert await bus.call(OURS, SYSTEMD, f"{manager}.RestartUnit", *words) == "UnknownMethod"
        for other in ("StartUnit", "StopUnit", "Reboot"):
            assert await bus.call(OURS, SYSTEMD, f"{manager}.{other}", *words) == "AccessDenied"


def test_polkit_lets_the_daemon_restart_bluetoothd_and_nothing_else() -> None:
    rule = (UNITS / "50-gatewayd-bluetooth.rules").read_text("utf-8")
    for condition in (
        'action.id == "org.freedesktop.systemd1.manage-units"',
        'action.lookup("unit") == "bluetooth.service"',
        'action.lookup("verb") == "restart"',
        'subject.user == "gatewayd"',
    ):
        assert rule.count(condition) == 1
    assert rule.count("&&") == 3
    assert rule.count("polkit.Result") == 1
