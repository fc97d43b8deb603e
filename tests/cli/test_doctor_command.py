"""gatewayd doctor: on this very machine, and on machines that are made up."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from firmware_proto import credential
from gatewayd import config, doctor, gate, self_test
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.sqlite import open_log
from gatewayd.cli import doctor as command
from gatewayd.cli.command import ExitCode, Output
from gatewayd.cloud.authority import new_key
from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core.certificates import Authority
from gatewayd.core.diagnosis import CHECKS
from gatewayd.core.diagnosis_terms import TERMS
from gatewayd.core.diagnosis_unit import UNIT
from gatewayd.core.diagnosis_wires import WIRES
from gatewayd.core.findings import Finding, Severity
from gatewayd.core.term import Term
from gatewayd.credential_renewal import MEMORY_NAME
from gatewayd.ports.machine import NotSeenError
from gatewayd.status import Status
from tests.support.commands import run
from tests.support.fitting import make_fitting
from tests.support.site import CONFIG, NOW, YEAR, Site, make_site


@dataclass
class MadeUp:
    """A machine where everything can be seen and is fine, except for what `fails`."""

    fails: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    promised: bool | None = None
    state: Path = Path()
    adapter: radio.Adapter | None = None

    def look(self, name: str) -> None:
        self.asked.append(name)
        if name in self.fails:
            raise self.fails[name]

    async def versions(self) -> bluez.Versions:
        self.look("versions")
        return bluez.Versions("6.12.47", "5.82")

    async def settings(self) -> bluez.Settings:
        self.look("settings")
        return bluez.Settings("", "5.82")

    async def bluetooth(self) -> radio.Bluetooth:
        self.look("bluetooth")
        adapters = () if self.adapter is None else (self.adapter,)
        return radio.Bluetooth(running=True, adapters=adapters, blocked=(), serving=True)

    async def clock(self, *, promised: bool | None) -> host.Clock:
        self.look("clock")
        self.promised = promised
        return host.Clock((), 0, promised)

    async def disk(self, state: Path, *, writing: bool = True) -> host.Disk:
        self.look("disk")
        self.state = state
        return host.Disk(str(state), "ext4", 10**10, None, (1.0,) if writing else None)

    async def journal(self) -> host.Journal:
        self.look("journal")
        return host.Journal("volatile", on_disk=False)

    async def unit(self) -> dict[str, tuple[str, ...]]:
        self.look("unit")
        return {}

    async def access(self, state: Path) -> host.Access:
        self.look("access")
        return host.Access(user=True, policy=True, helper=True, forgets=True, state=None)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def by_check(findings: tuple[Finding, ...]) -> dict[str, list[Severity]]:
    found: dict[str, list[Severity]] = {}
    for each in findings:
        found.setdefault(each.check, []).append(each.severity)
    return found


async def test_without_a_configuration_the_machine_is_still_examined(tmp_path: Path) -> None:
    machine = MadeUp()
    found = by_check(await doctor.examine(tmp_path / "absent.toml", machine))
    assert list(found) == [each.name for each in CHECKS]
    assert found[host.CONFIGURATION] == [Severity.ERROR]
    assert found[radio.ADAPTERS] == found[radio.ADVERTISING] == [Severity.ERROR]
    assert machine.state == doctor.STATE
    assert machine.promised is None


async def test_a_simulated_radio_is_not_looked_at(site: Site) -> None:
    site.replace(
        "gatewayd.toml", CONFIG.replace("[radio]", "battery_clock = true\n[radio]").encode()
    )
    machine = MadeUp()
    found = by_check(await doctor.examine(site.config, machine))
    assert found[host.CONFIGURATION] == [Severity.FINE]
    for name in (bluez.VERSIONS, bluez.SETTINGS, radio.ADAPTERS, radio.ADVERTISING):
        assert found[name] == [Severity.NOT_LOOKED_AT]
    assert machine.asked == ["access", "clock", "disk", "journal", "unit"]
    assert found[UNIT] == [Severity.ERROR]  # it names a broker
    assert machine.promised is True
    assert machine.state == site.directory / "state"


async def test_the_adapters_of_the_configuration_are_the_ones_that_matter(site: Site) -> None:
    radio_section = 'kind = "bluez"\nadapter = "B8:27:EB:00:00:01"'
    site.replace("gatewayd.toml", CONFIG.replace('hci = "unix:air.sock"', radio_section).encode())
    machine = MadeUp(adapter=radio.Adapter("hci0", "00:09", True, frozenset(), None))
    findings = await doctor.examine(site.config, machine)
    said = [each.message for each in findings if each.check == radio.ADAPTERS]
    assert said == ["B8:27:EB:00:00:01, which the configuration names, is not there"]


async def test_problems_with_keys_are_findings(site: Site) -> None:
    (site.directory / "log.pem").chmod(0o644)
    findings = await doctor.examine(site.config, MadeUp())
    (problem,) = [each for each in findings if each.check == host.CONFIGURATION]
    assert problem.severity is Severity.ERROR
    assert "can be read by others" in problem.message
    assert problem.remedy.startswith("chmod 600")


async def test_a_look_that_fails_hides_no_other(tmp_path: Path) -> None:
    machine = MadeUp(
        {
            "versions": NotSeenError("no bluetoothd", "apt install bluez"),
            "disk": OSError(errno.EIO, "Input/output error", "/var"),
            "journal": OSError("odd"),
            "bluetooth": TimeoutError(),
        }
    )
    findings = await doctor.examine(tmp_path / "absent.toml", machine)
    unseen = {each.check: each for each in findings if each.severity is Severity.NOT_LOOKED_AT}
    assert unseen[bluez.VERSIONS].message == "no bluetoothd"
    assert unseen[bluez.VERSIONS].remedy == "apt install bluez"
    assert unseen[host.STORAGE].message == "/var: Input/output error"
    assert unseen[host.JOURNAL].message == "it: odd"
    assert unseen[radio.ADAPTERS].message == unseen[radio.ADVERTISING].message
    assert set(unseen) == {
        bluez.VERSIONS, radio.ADAPTERS, radio.ADVERTISING, host.STORAGE, host.JOURNAL, WIRES,
        TERMS, UNIT,
    }  # fmt: skip


def on_bluez(site: Site) -> config.Config:
    radio_section = 'kind = "bluez"\nadapter = "B8:27:EB:00:00:01"'
    site.replace("gatewayd.toml", CONFIG.replace('hci = "unix:air.sock"', radio_section).encode())
    return config.load(site.config)


async def test_the_daemon_looks_at_its_machine_and_tells_the_journal(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    both = frozenset({"central", "peripheral", "central-peripheral"})
    machine = MadeUp(
        {"access": NotSeenError("who are you?")},
        adapter=radio.Adapter("hci0", "B8:27:EB:00:00:01", True, both, 0),
    )
    with caplog.at_level("DEBUG", "gatewayd"):
        await self_test.tell(on_bluez(site), machine)
    assert machine.asked == ["versions", "settings", "bluetooth", "access", "clock", "disk"]
    said = {(each.levelname, each.getMessage().split(":")[0]) for each in caplog.records}
    assert said >= {
        ("DEBUG", bluez.VERSIONS), ("WARNING", bluez.SETTINGS), ("DEBUG", radio.ADAPTERS),
        ("ERROR", radio.ADVERTISING), ("INFO", host.PERMISSIONS), ("WARNING", host.CLOCK),
        ("DEBUG", host.STORAGE),
    }  # fmt: skip
    (lost,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert "advertises nothing" in lost
    assert " -> journalctl" in lost


async def test_a_look_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hung(MadeUp):
        async def journal(self) -> host.Journal:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(self_test, "DEADLINE_S", 0.05)
    found = by_check(await doctor.examine(tmp_path / "absent.toml", Hung()))
    assert found[host.JOURNAL] == [Severity.NOT_LOOKED_AT]


# --- the command ------------------------------------------------------------------------
FINDINGS = (
    Finding("clock battery", Severity.FINE, "knows the time"),
    Finding("storage", Severity.WARNING, "slow", "another card"),
)


def test_what_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.tell(FINDINGS, Output(as_json=False), strict=False) == ExitCode.DONE
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "fine           clock battery     knows the time",
        "warning        storage           slow",
        "                                 -> another card",
        "",
        "1 warning, 1 fine",
    ]


def test_what_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.tell(FINDINGS, Output(as_json=True), strict=True) == ExitCode.FAILED
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["worst"]) == (False, "warning")
    assert document["findings"][1] == {
        "check": "storage", "severity": "warning", "message": "slow", "remedy": "another card",
    }  # fmt: skip


def test_on_this_machine(site: Site) -> None:
    ran = run("doctor", "-c", site.config, "--json")
    document = ran.json
    assert ran.code == (ExitCode.DONE if document["passed"] else ExitCode.FAILED)
    seen = {each["check"]: each["severity"] for each in document["findings"]}
    assert set(seen) == {each.name for each in CHECKS}
    assert seen[host.CONFIGURATION] == "fine"
    assert seen[radio.ADAPTERS] == "not looked at"
    ran = run("doctor", "-c", site.directory / "absent.toml", "--strict")
    assert ran.code == ExitCode.FAILED
    assert "absent.toml does not exist" in ran.out


# --- wires ----------------------------------------------------------------------------------
async def test_what_doors_are_wired_to_is_looked_at(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    wired = CONFIG.replace('lock.address = "F0:F1:F2:F3:F4:01"', 'lock.serial = "/dev/nowhere"')
    radio_lock = '[door.lock]\naddress = "F0:F1:F2:F3:F4:02"\nkey = "cellar.pub.pem"\n'
    assert radio_lock in wired
    relay = 'relay = { chip = "nowhere", line = 3, contact = { line = "DOOR" } }\n'
    site.replace("gatewayd.toml", wired.replace(radio_lock, relay).encode())

    async def found() -> list[tuple[Severity, str]]:
        findings = await doctor.examine(site.config, MadeUp())
        return [(each.severity, each.message) for each in findings if each.check == WIRES]

    gate, line, contact = await found()
    assert gate == (Severity.ERROR, "door street: /dev/nowhere: No such file or directory")
    for (severity, message), name in ((line, "3"), (contact, "DOOR")):
        assert severity is Severity.ERROR
        assert f"door cellar: line {name} of nowhere: there is no GPIO chip" in message
    for name in ("gpiod", "gatewayd.adapters.relay.line"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'gatewayd[relay]'" in (await found())[1][1]


async def test_doors_that_are_not_bound_yet_do_not_hide_the_rest(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path, ("street",))
    findings = await doctor.examine(fitting.config)
    (told,) = [each for each in findings if each.check == "configuration"]
    assert "needs either a lock or a relay" in told.message
    assert "setup bind-door" in told.remedy
    assert not [each for each in findings if each.message == doctor.NO_DOORS.why]


# --- what has an end ------------------------------------------------------------------------
def terms(site: Site, runtime: Path) -> dict[str, Term]:
    return dict(doctor._terms(config.load(site.config), runtime).terms)


async def test_when_the_credential_ends_is_known_without_a_daemon(site: Site) -> None:
    log, nobody = site.directory / "state" / "log.db", site.directory / "run"
    assert terms(site, nobody) == {"credential": Term(NOW, NOW + YEAR)}
    log.parent.mkdir()
    ours = credential.unverified((site.directory / "gateway.cwt").read_bytes())
    for change, since in (
        ({"issued_at": NOW + 9, "expires": NOW + 99}, NOW + 9),
        ({"issued_at": NOW + 9, "key": new_key().public_key()}, NOW),  # another box's
        ({"issued_at": NOW - 9}, NOW),
    ):
        renewed = credential.issue(replace(ours, **change), site.authority.gateways, b"kid")
        async with open_log(log) as opened:
            await opened.store(MEMORY_NAME, renewed)
        assert terms(site, nobody)["credential"].since == since
    async with open_log(log) as opened:
        await opened.store(MEMORY_NAME, b"nonsense")
    assert terms(site, nobody) == {"credential": Term(NOW, NOW + YEAR)}


async def test_a_daemon_that_runs_knows_better(site: Site) -> None:
    def leave(written_s: float) -> None:
        told = Status(online=True, credential=(1, 2), certificate=(3, 4))
        fields = {"boot_id": now.boot_id, "written_s": written_s, "wall_s": 0.0, "floor_s": 0}
        local = gate.of(told, uplink="up", **fields)
        (site.directory / gate.FILE).write_bytes(gate.write(local))

    now = SystemClock().instant()
    leave(now.boottime_s + 3600)  # of another time
    assert terms(site, site.directory)["credential"] == Term(NOW, NOW + YEAR)
    leave(now.boottime_s)
    assert terms(site, site.directory) == {"credential": Term(1, 2), "certificate": Term(3, 4)}
    findings = await doctor.examine(site.config, MadeUp(), site.directory)
    assert by_check(findings)[TERMS] == [Severity.ERROR, Severity.ERROR]
    (site.directory / gate.FILE).write_bytes(b"nonsense")
    (site.directory / "gateway.cwt").write_bytes(b"nonsense")
    findings = await doctor.examine(site.config, MadeUp(), site.directory)
    assert by_check(findings)[TERMS] == [Severity.NOT_LOOKED_AT]


def test_when_the_certificate_ends(site: Site) -> None:
    named = (
        'broker = "mqtts://broker.example"\nauthorities = "root.pub.pem"\n'
        'certificate = "tls.crt"\nkey = "gateway.pem"\n'
    )
    site.replace(
        "gatewayd.toml", CONFIG.replace('broker = "mqtt://127.0.0.1:1883"\n', named).encode()
    )
    key = new_key()
    authority = Authority.create("x", key, now_s=NOW, lifetime_s=9999, serial=bytes(16))
    (site.directory / "tls.crt").write_bytes(authority.certificate.pem())
    held = authority.certificate
    assert terms(site, site.directory)["certificate"] == (held.since, held.until)
