"""run, check and phone as processes of their own, over a simulated air."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_proto.codes import ID_BYTES, Outcome, Reason
from gatewayd.adapters.virtual_radio import INSTANT, VirtualAir, serve_hci
from gatewayd.cli import phone as phone_command
from gatewayd.cli import run as run_command
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.emulators.phone import Report, Timings
from gatewayd.keyfiles import private_pem, public_pem
from gatewayd.ports import RadioError, StorageError
from tests.support.commands import Ran, completed, finished, run, running
from tests.support.site import CONFIG, Site, make_site

PROGRAM = Path(sys.executable).parent / "gatewayd"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    made.replace("gatewayd.toml", without_uplink(f"unix:{tmp_path}/gateway.hci"))
    return made


def without_uplink(hci: str) -> bytes:
    text = CONFIG.replace('[uplink]\nbroker = "mqtt://127.0.0.1:1883"\n', "")
    return text.replace("unix:air.sock", hci).encode()


@asynccontextmanager
async def air(directory: Path) -> AsyncIterator[None]:
    shared = VirtualAir(INSTANT)
    async with (
        serve_hci(shared, directory / "gateway.hci", address="00:00:00:00:00:01"),
        serve_hci(shared, directory / "phone.hci", address="00:00:00:00:00:02"),
    ):
        yield


@asynccontextmanager
async def daemon(site: Site, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    async with running("run", "-c", site.config, **environment) as process:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            while b"serving" not in await process.stderr.readline():
                assert not process.stderr.at_eof()
        yield process


# --- check ----------------------------------------------------------------------------
def test_check_of_a_good_configuration(site: Site) -> None:
    ran = run("check", "-c", site.config)
    assert (ran.code, ran.out, ran.err) == (0, f"{site.config}: no problems\n", "")
    assert run("check", "-c", site.config, "--json").json["problems"] == []


def test_check_and_run_name_every_problem(site: Site) -> None:
    site.replace("gatewayd.toml", site.config.read_bytes().replace(b"Copenhagen", b"Nowhere"))
    (site.directory / "log.pem").chmod(0o644)
    for command in ("check", "run"):
        ran = run(command, "-c", site.config)
        assert ran.code == ExitCode.USAGE
        assert ran.err.count("error: ") == ran.err.count("hint: ") == 2
        assert f"error: {site.config}:1: log key" in ran.err
        assert "there is no time zone 'Europe/Nowhere'" in ran.err
    ran = run("check", "-c", site.config, "--json")
    assert (ran.code, ran.err) == (ExitCode.USAGE, "")
    assert [each["line"] for each in ran.json["problems"]] == [1, 10]


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    ran = run("check", "-c", tmp_path / "absent.toml")
    assert ran.code == ExitCode.USAGE
    assert "absent.toml does not exist" in ran.err


# --- run ----------------------------------------------------------------------------------
def test_run_without_a_controller(site: Site) -> None:
    ran = run("run", "-c", site.config)
    assert ran.code == ExitCode.FAILED
    assert "error: no controller at unix:" in ran.err
    assert "hint: [radio] names the controller" in ran.err


STREET_LOCK = 'lock.address = "F0:F1:F2:F3:F4:01"\nlock.key = "street.pub.pem"'


@pytest.mark.parametrize(
    ("asked", "changed", "missing", "extra", "who"),
    [
        ("hci =", 'kind = "bluez" #', "dbus_fast", "bluez", "a radio of the kind bluez"),
        ("hci =", "hci =", "bumble", "demo", "a radio of the kind virtual"),
        ('lock.address = "F0:F1:F2:F3:F4:01"', 'lock.serial = "/dev/ttyUSB0"', "serial", "serial",
         "door street"),
        (STREET_LOCK, 'relay = { chip = "c", line = 1 }', "gpiod", "relay", "door street"),
    ],
)  # fmt: skip
def test_libraries_that_are_not_installed(  # noqa: PLR0913, PLR0917 - a row of the table
    site: Site, tmp_path: Path, asked: str, changed: str, missing: str, extra: str, who: str
) -> None:
    text = site.config.read_text()
    assert text.count(asked) == 1
    site.replace("gatewayd.toml", text.replace(asked, changed).encode())
    (tmp_path / f"{missing}.py").write_text("raise ModuleNotFoundError('not here')\n")

    def said(*command: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "gatewayd", *command, "-c", site.config],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    line = 1 + text[: text.index(asked)].count("\n")
    message, remedy = f"{who} needs libraries that are not", f"pip install 'gatewayd[{extra}]'"
    for command in ("check", "run"):
        ran = said(command)
        assert ran.code == ExitCode.USAGE
        assert f"error: {site.config}:{line}: {message}" in ran.err
        assert f"hint: {remedy}" in ran.err
    problems = [
        each for each in said("doctor", "--json").json["findings"] if each["remedy"] == remedy
    ]
    ((severity, told),) = [(each["severity"], each["message"]) for each in problems]
    assert (severity, f":{line}: {message}" in told) == ("error", True)


async def test_run_on_a_machine_without_a_system_bus(site: Site, tmp_path: Path) -> None:
    text = site.config.read_text().replace(f'hci = "unix:{tmp_path}/gateway.hci"', 'kind = "bluez"')
    site.replace("gatewayd.toml", text.encode())
    nowhere = f"unix:path={tmp_path}/absent"
    ran = await completed("run", "-c", site.config, DBUS_SYSTEM_BUS_ADDRESS=nowhere)
    assert ran.code == ExitCode.FAILED
    assert "error: no system bus: " in ran.err
    assert "hint: systemctl start dbus bluetooth" in ran.err


def test_run_on_a_log_that_is_none(site: Site) -> None:
    (site.directory / "state").mkdir(mode=0o700)
    (site.directory / "state" / "log.db").write_bytes(b"not a database" * 100)
    ran = run("run", "-c", site.config)
    assert ran.code == ExitCode.FAILED
    assert "hint: gateway.state holds the log" in ran.err
    assert (site.directory / "state" / "log.db").read_bytes() == b"not a database" * 100


def test_run_where_no_log_can_be_made(site: Site) -> None:
    text = site.config.read_text().replace("[radio]", 'state = "/proc/gatewayd"\n[radio]')
    site.replace("gatewayd.toml", text.encode())
    ran = run("run", "-c", site.config)
    assert (ran.code, "error: /proc/gatewayd: " in ran.err) == (ExitCode.FAILED, True)
    assert "hint: gateway.state holds the log" in ran.err


def test_what_stops_a_group_of_tasks_is_told_or_raised() -> None:
    deep = ExceptionGroup("all", [ExceptionGroup("some", [StorageError("disk full")])])
    with pytest.raises(CommandError, match="disk full"):
        run_command.start(failing(deep))
    with pytest.raises(CommandError, match="RadioError"):
        run_command.start(failing(RadioError()))
    mixed = ExceptionGroup("all", [StorageError("disk full"), ZeroDivisionError()])
    for bug in (mixed, ExceptionGroup("all", [ZeroDivisionError()])):
        with pytest.raises(ExceptionGroup):
            run_command.start(failing(bug))


async def failing(error: Exception) -> int:
    raise error


def make_wallet(site: Site) -> Path:
    wallet = site.directory / "a wallet"
    issuer = site.authority.issuers[0]
    site.replace("issuer.pem", private_pem(issuer.key))
    site.replace("gateways.pub.pem", public_pem(site.authority.gateways.public_key()))
    ran = run(
        "keys", "issue", "--issuer", "housing", "--signer", site.directory / "issuer.pem",
        "--group", "vestergade-7", "--door", "street", "--holder", "r-1",
        "--wallet", wallet, "--gateways", site.directory / "gateways.pub.pem",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return wallet


async def test_a_phone_knocks_and_the_daemon_stops_cleanly(site: Site) -> None:
    knock = ("--wallet", make_wallet(site), "--hci", f"unix:{site.directory}/phone.hci")
    async with air(site.directory), daemon(site) as process:
        # both locks are absent from this air, so the door is certainly not opened
        opened = await completed("phone", "open", "street", *knock, "--json")
        assert opened.code == ExitCode.FAILED, opened
        document = json.loads(opened.out)
        assert (document["outcome"], document["reason"]) == ("refused", "lock_unreachable")
        asked = await completed("phone", "ask", "street", document["request"], *knock)
        assert asked.out.startswith("street refused: lock_unreachable"), asked
        process.send_signal(signal.SIGTERM)
        stopped = await finished(process)
        assert stopped.code == 0, stopped
        assert "Traceback" not in stopped.err


async def test_systemd_is_told_that_the_daemon_lives_and_that_it_stops(site: Site) -> None:
    heard = asyncio.Queue[bytes]()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(site.directory / "notify"))
        ear.setblocking(False)
        loop.add_reader(ear, lambda: heard.put_nowait(ear.recv(500)))
        told = {"NOTIFY_SOCKET": str(site.directory / "notify"), "WATCHDOG_USEC": "200000"}
        async with air(site.directory), daemon(site, **told) as process, asyncio.timeout(30):
            assert await heard.get() == b"READY=1"
            fed = 0
            while fed < 5:
                fed += await heard.get() == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            while await heard.get() != b"STOPPING=1":
                pass
            assert (await finished(process)).code == 0
        loop.remove_reader(ear)


# --- phone ---------------------------------------------------------------------------------
def test_a_phone_without_radio_or_wallet(tmp_path: Path) -> None:
    ran = run("phone", "open", "street", "--wallet", tmp_path / "absent", "--hci", "unix:x")
    assert (ran.code, "hint: " in ran.err) == (ExitCode.USAGE, True)
    ran = run("phone", "ask", "street", "00", "--wallet", tmp_path, "--hci", "unix:x")
    assert (ran.code, "32 hexadecimal digits" in ran.err) == (ExitCode.USAGE, True)
    ran = run("phone", "ask", "street", "zz", "--wallet", tmp_path, "--hci", "unix:x")
    assert (ran.code, "32 hexadecimal digits" in ran.err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("outcome", "reason", "code", "said"),
    [
        (Outcome.CONFIRMED, Reason.OK, ExitCode.DONE, "street open\n"),
        (Outcome.REFUSED, Reason.EXPIRED, ExitCode.FAILED, "street refused: expired\n"),
        (Outcome.UNKNOWN, Reason.LOCK_SILENT, ExitCode.UNKNOWN, "street unknown: lock_silent\n"),
    ],
)
def test_three_outcomes_three_exit_codes(
    outcome: Outcome,
    reason: Reason,
    code: ExitCode,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = argparse.Namespace(door="street", wallet="w", hci="unix:x", adapter=None)
    report = Report(outcome, reason, bytes(16))
    assert phone_command.tell(report, arguments, Output(as_json=False)) == code
    out = capsys.readouterr().out
    assert out.startswith(said)
    # whoever does not know is told how to ask, and nobody else is
    assert (f"gatewayd phone ask street {bytes(16).hex()}" in out) == (code == ExitCode.UNKNOWN)


def test_a_radio_that_fails_under_the_phone() -> None:
    async def fail() -> Report:
        raise RadioError("the controller is gone")

    with pytest.raises(CommandError, match="the controller is gone"):
        phone_command.finish(fail(), argparse.Namespace(hci=None))


def test_an_address_that_is_none(tmp_path: Path) -> None:
    ran = run(
        "phone", "open", "street", "--wallet", tmp_path, "--hci", "unix:x", "--address", "hci0"
    )  # fmt: skip
    assert (ran.code, "'hci0' is no address" in ran.err) == (ExitCode.USAGE, True)


async def test_control_c_while_opening_leaves_it_unknown(site: Site) -> None:
    reached = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    wallet, hci = make_wallet(site), f"unix:{site.directory}/mute.hci"
    async with (
        await asyncio.start_unix_server(say_nothing, site.directory / "mute.hci"),
        running("phone", "open", "street", "--wallet", wallet, "--hci", hci) as process,
    ):
        async with asyncio.timeout(30):
            await reached.wait()
        process.send_signal(signal.SIGINT)
        ran = await finished(process)
    assert (ran.code, ran.out) == (ExitCode.UNKNOWN, "")
    assert "street may have opened" in ran.err
    words = shlex.split(ran.err.partition("ask what became of it: ")[2])
    assert words[:4] == ["gatewayd", "phone", "ask", "street"]
    assert len(bytes.fromhex(words[4])) == ID_BYTES
    assert words[5:] == ["--wallet", str(wallet), "--hci", hci]


@pytest.mark.parametrize(
    ("reason", "gateway", "lines"),
    [
        (
            Reason.LOCK_UNREACHABLE,
            None,
            ["refused: no_gateway_in_reach", "gateway not reached, 3.00 s (connect 0.40, "],
        ),
        (Reason.LOCK_UNREACHABLE, "g-1", ["refused: lock_unreachable", "gateway g-1"]),
        (Reason.WRONG_GATEWAY_DOOR, None, ["refused: wrong_gateway_door", "gateway not believed"]),
    ],
)
def test_a_gateway_that_was_not_there_is_not_called_a_lock(
    reason: Reason, gateway: str | None, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    times = Timings(3.0, 0.4, 0.1, None, 0.05)
    report = Report(Outcome.REFUSED, reason, bytes(ID_BYTES), gateway, timings=times)
    asked = argparse.Namespace(door="street", wallet=Path("w"), hci="unix:x", adapter=None)
    assert phone_command.tell(report, asked, Output(as_json=False)) == ExitCode.FAILED
    for line, told in zip(lines, capsys.readouterr().out.splitlines(), strict=True):
        assert line in told
