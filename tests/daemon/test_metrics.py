"""What node_exporter is given: valid, of bounded size, of nobody; and how files are replaced."""

from __future__ import annotations

import asyncio
import re
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd import gate, metrics
from gatewayd.health_files import HealthFiles, replace, runtime_directory
from gatewayd.status import LockStatus, Status, StorageStatus
from gatewayd.vitals import UNWATCHED
from tests.support.gateway import STREET, gateway
from tests.support.household import until

SAMPLE = re.compile(
    r'gatewayd_[a-z_]+(?:\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})?'
    r" -?[0-9][0-9.e+-]*"
)
FULL = Status(
    online=True, version="1.0", clock="holdover", radio="advertising", unpulled_days=2,
    credential=(1_700_000_000, 1_790_000_123), strangers=8,
    storage=StorageStatus(free_percent=40, kept=True),
    locks={
        "street": LockStatus(
            reached=True, battery_percent=61, rssi_dbm=-65, troubles=("jammed",), model='"x"\n'
        )
    },
)  # fmt: skip


def samples(text: str) -> list[str]:
    """Every sample; each is below the HELP and TYPE of its family (the format's grammar)."""
    found, family = [], ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {family} gauge"
        else:
            assert SAMPLE.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] == family
            found.append(line)
    assert text.endswith("\n")
    assert len(found) == len({each.rsplit(" ", 1)[0] for each in found})
    return found


def test_what_is_known_is_there() -> None:
    found = samples(metrics.text(FULL, connected=True))
    assert {
        'gatewayd_info{version="1.0"} 1',
        'gatewayd_clock_state{state="holdover"} 1',
        'gatewayd_clock_state{state="trusted"} 0',
        "gatewayd_uplink_connected 1",
        "gatewayd_credential_end_timestamp_seconds 1790000123",
        "gatewayd_serving 1",
        "gatewayd_log_unpulled_days 2",
        "gatewayd_strangers 8",
        "gatewayd_storage_free_ratio 0.4",
        "gatewayd_storage_kept 1",
        'gatewayd_lock_reached{door="street"} 1',
        'gatewayd_lock_battery_ratio{door="street"} 0.61',
        'gatewayd_lock_strength_dbm{door="street"} -65',
        'gatewayd_lock_trouble{door="street",trouble="jammed"} 1',
        'gatewayd_lock_trouble{door="street",trouble="forced"} 0',
    } <= set(found)


def test_what_is_not_known_is_not_there() -> None:
    text = metrics.text(Status(online=True), connected=None)
    assert not re.search("uplink|serving|storage|_lock_|unpulled", text)
    assert samples(text)
    full = msgspec.structs.replace(FULL, storage=StorageStatus(free_percent=0))
    assert "gatewayd_storage_free_ratio 0" in samples(metrics.text(full, connected=False))


@given(st.text(max_size=64), st.text(max_size=64), st.lists(st.text(max_size=30), max_size=5))
def test_what_others_say_makes_no_series(version: str, model: str, troubles: list[str]) -> None:
    lock = LockStatus(model=model, firmware=model, troubles=tuple(troubles))
    told = Status(online=True, version=version, radio=model, locks={"street": lock})
    plain = Status(online=True, radio="x" if model else "", locks={"street": LockStatus()})
    names = [each.partition(" ")[0] for each in samples(metrics.text(plain, connected=None))]
    assert len(samples(metrics.text(told, connected=None))) == len(names)


# --- the files ----------------------------------------------------------------------------
def test_a_file_is_replaced_whole_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    (tmp_path / ".a.prom.new").write_text("left by a daemon that was killed")
    for data in (b"one", b"two"):
        replace(path, data)
        assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "target").write_bytes(b"not ours")
    (tmp_path / ".a.prom.new").symlink_to(tmp_path / "target")
    replace(path, b"three")
    assert (tmp_path / "target").read_bytes() == b"not ours"


def test_where_systemd_lets_us_write() -> None:
    assert runtime_directory({"RUNTIME_DIRECTORY": "/run/gatewayd:/run/x"}) == Path("/run/gatewayd")
    assert runtime_directory({}) is None


async def test_both_files_are_kept_and_a_broken_disk_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "WRITE_EVERY_S", 0.01)
    place = tmp_path / "run"
    async with gateway(tmp_path) as site:
        health = site.gateway.health(tmp_path)
        await health.look()
        files = HealthFiles(health, place, place / "gatewayd.prom", lambda: False)
        keeping = asyncio.create_task(files.keep(UNWATCHED))
        await until(lambda: caplog.messages)
        await asyncio.sleep(0.1)
        told = [each for each in caplog.messages if "cannot be written" in each]
        assert len(told) == 1
        place.mkdir()
        await until((place / "gatewayd.prom").exists)
        keeping.cancel()
        await asyncio.wait({keeping})
        local, status = gate.read((place / gate.FILE).read_bytes())
        assert (local.uplink, status) == ("down", health.status())
        found = samples((place / "gatewayd.prom").read_text())
        assert "gatewayd_uplink_connected 0" in found
        assert any(f'door="{STREET}"' in each for each in found)
