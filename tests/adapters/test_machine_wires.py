"""What is seen of a machine's wires, in a tree of files like a Pi's."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from gatewayd.adapters.machine.wires import WiredLock, WiredRelay, look
from gatewayd.core.diagnosis_wires import RelayLine, SerialLine, Wires


def nobody(chip: str, line: int | str) -> str:
    if chip == "absent":
        raise OSError("there is no GPIO chip called absent")
    return "spi0 CS0" if line == 8 else ""


@pytest.fixture
def device(tmp_path: Path):
    """ttyUSB0 with both of its steady names; a real device behind it."""
    master, slave = pty.openpty()
    dev = tmp_path / "dev"
    (dev / "serial/by-id").mkdir(parents=True)
    (dev / "ttyUSB0").symlink_to(os.ttyname(slave))
    (dev / "serial/by-id/usb-FTDI-if00-port0").symlink_to("../../ttyUSB0")
    (dev / "serial/by-id/usb-other-if00").symlink_to("../../ttyUSB1")
    (tmp_path / "proc").mkdir()
    yield Path(os.ttyname(slave))
    os.close(master)
    os.close(slave)


def serial(root: Path, path: str) -> SerialLine:
    seen = look([WiredLock("gate", path)], [], nobody, root)
    assert seen.relays == ()
    assert seen.persists is None
    (line,) = seen.serial
    assert (line.door, line.path) == ("gate", path)
    return line


def test_a_device_and_the_name_that_stays(tmp_path: Path, device: Path) -> None:
    steady = "/dev/serial/by-id/usb-FTDI-if00-port0"
    assert serial(tmp_path, "/dev/ttyUSB0") == SerialLine("gate", "/dev/ttyUSB0", steady=steady)
    assert serial(tmp_path, steady).trouble == ""


def test_a_device_that_is_the_console(tmp_path: Path, device: Path) -> None:
    assert not serial(tmp_path, "/dev/ttyUSB0").console
    (tmp_path / "proc/cmdline").write_text("quiet console=tty1 console=ttyUSB0,115200 root=x\n")
    assert serial(tmp_path, "/dev/ttyUSB0").console


def test_what_is_no_device(tmp_path: Path, device: Path) -> None:
    missing = serial(tmp_path, "/dev/ttyUSB7")
    assert missing.trouble == "No such file or directory"
    assert "by-id" in missing.remedy
    (tmp_path / "dev/file").write_text("")
    assert serial(tmp_path, "/dev/file").trouble == "no device"


@pytest.mark.parametrize(("said", "persists"), [("Y\n", True), ("N\n", False), (None, None)])
def test_lines_and_what_becomes_of_them(
    tmp_path: Path, said: str | None, persists: bool | None
) -> None:
    if said is not None:
        parameters = tmp_path / "sys/module/pinctrl_bcm2835/parameters"
        parameters.mkdir(parents=True)
        (parameters / "persist_gpio_outputs").write_text(said)
    wanted = [
        WiredRelay("yard", "pinctrl-rp1", "GPIO17"),
        WiredRelay("yard", "pinctrl-rp1", 8),
        WiredRelay("shed", "absent", 1),
    ]
    assert look([], wanted, nobody, tmp_path) == Wires(
        relays=(
            RelayLine("yard", "pinctrl-rp1", "GPIO17"),
            RelayLine("yard", "pinctrl-rp1", "8", holder="spi0 CS0"),
            RelayLine("shed", "absent", "1", trouble="there is no GPIO chip called absent"),
        ),
        persists=persists,
    )
