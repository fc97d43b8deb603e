"""What is said of a machine's wires, on both sides of every limit."""

from __future__ import annotations

import pytest

from gatewayd.core.diagnosis_wires import RelayLine, SerialLine, Wires, judge_wires
from gatewayd.core.findings import Severity

BY_ID = "/dev/serial/by-id/usb-FTDI-if00-port0"
STEADY = SerialLine("gate", BY_ID)
FREE = RelayLine("yard", "pinctrl-rp1", "GPIO17")


@pytest.mark.parametrize(
    ("seen", "severity", "message", "remedy"),
    [
        (Wires(), Severity.FINE, "no door is wired", ""),
        (Wires((STEADY,)), Severity.FINE, f"door gate: {BY_ID} is there", ""),
        (
            Wires((SerialLine("gate", "/dev/ttyUSB0", steady=BY_ID),)),
            Severity.WARNING,
            "door gate: /dev/ttyUSB0 is whichever adapter",
            f"name it {BY_ID}",
        ),
        (
            Wires((SerialLine("gate", "/dev/ttyACM1"),)),
            Severity.WARNING,
            "door gate: /dev/ttyACM1 is whichever adapter",
            "by-path",
        ),
        (
            Wires((SerialLine("gate", "/dev/serial0", console=True),)),
            Severity.ERROR,
            "door gate: /dev/serial0 is the kernel's console",
            "raspi-config",
        ),
        (
            Wires((SerialLine("gate", BY_ID, trouble="No such file", remedy="plug it in"),)),
            Severity.ERROR,
            f"door gate: {BY_ID}: No such file",
            "plug it in",
        ),
        (Wires((), (FREE,)), Severity.FINE, "line GPIO17 of pinctrl-rp1 is there, and free", ""),
        (
            Wires((), (RelayLine("yard", "c", "3", holder="gatewayd"),)),
            Severity.FINE,
            "line 3 of c is held by the daemon",
            "",
        ),
        (
            Wires((), (RelayLine("yard", "c", "3", holder="spi0 CS0"),)),
            Severity.ERROR,
            "line 3 of c is held by spi0 CS0",
            "overlay",
        ),
        (
            Wires((), (RelayLine("yard", "c", "3", trouble="no GPIO chip called c"),)),
            Severity.ERROR,
            "line 3 of c: no GPIO chip called c",
            "gpiodetect",
        ),
    ],
)
def test_each_wire(seen: Wires, severity: Severity, message: str, remedy: str) -> None:
    (finding,) = judge_wires(seen)
    assert finding.severity is severity
    assert message in finding.message
    assert remedy in finding.remedy
    assert bool(finding.remedy) == (severity > Severity.NOTE)


@pytest.mark.parametrize(("persists", "warned"), [(True, True), (False, False), (None, False)])
def test_a_kernel_that_leaves_relays_pulled(persists: bool | None, warned: bool) -> None:
    found = list(judge_wires(Wires((), (FREE,), persists)))
    assert [each.severity for each in found] == [Severity.FINE, Severity.WARNING][: 1 + warned]
    assert not warned or "strict_gpiod" in found[-1].remedy
    assert len(list(judge_wires(Wires((STEADY,), (), persists)))) == 1
