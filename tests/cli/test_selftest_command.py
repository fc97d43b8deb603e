"""`gatewayd selftest`: what it judges, and a real daemon that it judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import RemoteProtocolError
from gatewayd import gate, gate_app
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.virtual_radio import INSTANT, VirtualAir, serve_hci
from gatewayd.core.findings import Severity
from gatewayd.health_files import replace
from gatewayd.status import LockStatus, Status, StorageStatus
from tests.support.commands import completed, run, running
from tests.support.site import CONFIG, NOW, YEAR, make_site

FINE = Status(
    online=True,
    version="1.0",
    clock="trusted",
    radio="advertising",
    storage=StorageStatus(kept=True),
    locks={"street": LockStatus(reached=True)},
)


def local(status: Status = FINE, **changes: object) -> gate.Local:
    now = SystemClock().instant()
    fields = {
        "boot_id": now.boot_id, "written_s": now.boottime_s, "wall_s": now.wall_s, "floor_s": 0,
        "uplink": "up",
    }  # fmt: skip
    return gate.of(status, **{**fields, **changes})  # type: ignore[arg-type]


def leave(directory: Path, status: Status = FINE, **changes: object) -> None:
    replace(directory / gate.FILE, gate.write(local(status, **changes)))


def changed(**fields: object) -> Status:
    return msgspec.structs.replace(FINE, **fields)


def test_a_gateway_that_is_well_may_stay(tmp_path: Path) -> None:
    leave(tmp_path)
    ran = run("selftest", "--runtime", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[1] for line in ran.out.splitlines()[:6]] == list(gate.CHECKS)
    assert run("selftest", "--runtime", tmp_path, "--json").json["passed"] is True


@pytest.mark.parametrize(
    ("status", "fields", "arguments", "failing"),
    [
        (changed(radio="no adapter"), {}, (), "advertising"),
        (changed(radio="full"), {}, (), None),
        (changed(radio=""), {}, (), None),
        (changed(storage=StorageStatus(kept=False)), {}, (), "storage"),
        (changed(storage=None), {}, (), "storage"),
        (changed(locks={"street": LockStatus(reached=False)}), {}, (), "locks"),
        (changed(locks={"street": LockStatus()}), {}, (), "locks"),
        (changed(locks={"street": LockStatus(reached=False)}), {}, ("--offline", "street"), None),
        (changed(locks={"street": LockStatus()}), {}, ("--offline", "yard"), "locks"),
        (changed(clock="unknown"), {"floor_s": 2**40}, (), "clock"),
        (changed(clock=None), {"floor_s": 5}, (), None),
        (changed(clock="holdover"), {"floor_s": 2**40}, (), None),
        (FINE, {"uplink": "down"}, (), None),
        (FINE, {"uplink": "down"}, ("--need-uplink",), "uplink"),
        (FINE, {"uplink": "none"}, ("--need-uplink",), None),
        (FINE, {"written_s": 0.0}, (), "daemon"),
        (FINE, {"written_s": 1e12}, (), "daemon"),
        (FINE, {"boot_id": "another"}, (), "daemon"),
    ],
)
def test_what_makes_it_go_back(
    tmp_path: Path,
    status: Status,
    fields: dict[str, object],
    arguments: tuple[str, ...],
    failing: str | None,
) -> None:
    leave(tmp_path, status, **fields)
    ran = run("selftest", "--runtime", tmp_path, "--json", *arguments)
    errors = [each for each in ran.json["findings"] if each["severity"] == "error"]
    assert [each["check"] for each in errors] == ([failing] if failing else [])
    assert all(each["remedy"] for each in errors)
    assert ran.code == (1 if failing else 0)


def test_a_machine_without_a_daemon_fails(tmp_path: Path) -> None:
    ran = run("selftest", "--runtime", tmp_path, "--json")
    assert ran.code == 1
    assert "is not there" in ran.json["findings"][0]["message"]
    (tmp_path / gate.FILE).mkdir()
    assert "directory" in run("selftest", "--runtime", tmp_path).out


def test_wrong_limits() -> None:
    for wrong in ("-1", "3601", "1e3", "٣", "9" * 5000):
        assert run("selftest", "--wait", wrong).code == 2


def test_every_part_of_the_file_alone_is_refused() -> None:
    data = gate.write(local())
    assert gate.read(data)[1] == FINE
    for damaged in (*(data[:cut] for cut in range(len(data))), data + b"x", b'{"a":' + b"[" * 9000):
        with pytest.raises(RemoteProtocolError):
            gate.read(damaged)


WRITTEN = gate.write(local())


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    payload = bytearray(WRITTEN)
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = gate.judge(*gate.read(bytes(payload)), offline=(), need_uplink=True)
    except RemoteProtocolError:
        return
    assert [each.check for each in found] == list(gate.CHECKS)
    assert all(bool(each.remedy) == (each.severity is Severity.ERROR) for each in found)


def test_waiting_ends_when_all_is_well_or_the_time_is_over(tmp_path: Path) -> None:
    began = time.monotonic()
    assert run("selftest", "--runtime", tmp_path, "--wait", "2").code == 1
    assert time.monotonic() - began >= 2

    async def later() -> bool:
        waiting = asyncio.create_task(
            gate_app.examine(tmp_path, offline=(), need_uplink=False, wait_s=60)
        )
        await asyncio.sleep(0.2)
        leave(tmp_path)
        found = await asyncio.wait_for(waiting, 20)
        return all(each.severity is Severity.FINE for each in found)

    assert asyncio.run(later())


# --- a real daemon --------------------------------------------------------------------------
@asynccontextmanager
async def daemon(directory: Path) -> AsyncIterator[Path]:
    site, runtime = make_site(directory), directory / "run"
    runtime.mkdir()
    text = CONFIG.replace('[uplink]\nbroker = "mqtt://127.0.0.1:1883"\n', "")
    text = text.replace("unix:air.sock", f"unix:{directory}/gateway.hci")
    site.replace("gatewayd.toml", f'{text}\n[metrics]\nfile = "{runtime}/gatewayd.prom"\n'.encode())
    async with (
        serve_hci(VirtualAir(INSTANT), directory / "gateway.hci", address="00:00:00:00:00:01"),
        running("run", "-c", site.config, RUNTIME_DIRECTORY=str(runtime)) as process,
        asyncio.timeout(60),
    ):
        assert process.stderr is not None
        while b"serving" not in await process.stderr.readline():
            assert not process.stderr.at_eof()
        yield runtime


async def test_a_real_daemon_says_how_it_is(tmp_path: Path) -> None:
    async with daemon(tmp_path) as runtime:
        ran = await completed("selftest", "--runtime", runtime, "--wait", "2", "--json")
        assert ran.code == 1  # its locks are not there, and nobody dialled them yet
        assert ran.json["findings"][3]["message"].startswith("not dialled yet: ")
        offline = [word for door in DOORS for word in ("--offline", door)]
        ran = await completed("selftest", "--runtime", runtime, "--wait", "30", *offline, "--json")
        assert (ran.code, ran.err) == (0, "")
        found = {each["check"]: each["severity"] for each in ran.json["findings"]}
        assert (found["storage"], found["uplink"], found["locks"]) == ("fine", "fine", "note")
        assert "gatewayd_storage_kept 1\n" in (runtime / "gatewayd.prom").read_text()
        # and until when it may: the doctor takes its word
        _, told = gate.read((runtime / gate.FILE).read_bytes())
        assert told.credential == (NOW, NOW + YEAR)


DOORS = ("street", "cellar")
