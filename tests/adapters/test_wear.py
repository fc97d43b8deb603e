import os
from pathlib import Path

import pytest

from gatewayd.adapters.wear import Wear, life_used_percent


def test_what_we_write_is_counted(tmp_path: Path) -> None:
    wear = Wear(tmp_path)
    before = wear.report(0)
    if "written_bytes" not in before:
        pytest.skip("this kernel does not count what a process writes (TASK_IO_ACCOUNTING)")
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY | os.O_DSYNC)
    for _ in range(8):
        os.pwrite(descriptor, os.urandom(4096), 0)
    os.close(descriptor)
    after = wear.report(4)
    grown = after["written_bytes"] - before["written_bytes"]
    if not grown:
        pytest.skip("the directory for tests is not on a disk")
    assert grown >= 8 * 4096
    assert after["written_bytes_per_opening"] == round(after["written_bytes"] / 4)
    assert after["written_bytes_per_day"] >= after["written_bytes"]


def a_machine(root: Path, state: Path) -> None:
    number = state.stat().st_dev
    card = root / "sys/devices/mmcblk0"
    part = card / "mmcblk0p2"
    (card / "device").mkdir(parents=True)
    part.mkdir()
    (part / "partition").write_text("2\n")
    (card / "stat").write_text("1 2 3 4 5 6 1000 8 9 10 11\n")
    (card / "device/life_time").write_text("0x03 0x01\n")
    (root / "sys/dev/block").mkdir(parents=True)
    (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").symlink_to(part)


def test_the_disk_under_a_partition_tells_its_age(tmp_path: Path) -> None:
    root = tmp_path / "root"
    a_machine(root, tmp_path)
    told = Wear(tmp_path, root).report(1)
    assert told == {"disk_written_bytes": 512_000, "disk_life_used_percent": 30}


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    a_machine(root, tmp_path)
    card = root / "sys/devices/mmcblk0"
    (card / "stat").write_bytes(b"1 2 \xff")
    (card / "device/life_time").unlink()
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/io").write_text("rchar: 1\nwrite_bytes: many\n")
    assert Wear(tmp_path, root).report(1) == {}
    assert Wear(tmp_path / "nowhere", root).report(1) == {}


@pytest.mark.parametrize(
    ("text", "percent"),
    [("0x01 0x0b\n", 110), ("0x00 0x00", None), ("", None), ("worn", None), ("0x0a", 100)],
)
def test_the_age_of_an_emmc(text: str, percent: int | None) -> None:
    assert life_used_percent(text) == percent
