"""Locks, wires and relays in the configuration: what belongs together, all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.config import ConfigError, Problem, check, load, load_all
from gatewayd.config.model import Contact, Relay
from tests.support.site import CONFIG, Site, make_site

HEAD = CONFIG.partition("[[door]]")[0]
RADIO = 'lock = { address = "F0:F1:F2:F3:F4:01", key = "street.pub.pem" }'
WIRE = 'lock = { serial = "/dev/ttyUSB0", key = "street.pub.pem" }'
RELAY = 'relay = { chip = "pinctrl-rp1", line = 17 }'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def write(site: Site, *doors: str) -> None:
    names = ("street", "cellar", "street")
    text = HEAD + "".join(
        f'[[door]]\nid = "{name}"\n{door}\n' for name, door in zip(names, doors, strict=False)
    )
    site.replace("gatewayd.toml", text.encode())


def problems(site: Site, *doors: str) -> list[Problem]:
    write(site, *doors)
    return check(site.config)


def test_a_wired_lock(site: Site) -> None:
    write(
        site,
        'lock = { serial = "/dev/ttyAMA2", key = "street.pub.pem", half_duplex = true, '
        "baud = 19200 }",
    )
    config, secrets = load_all(site.config)
    (door,) = config.doors
    assert door.lock is not None
    assert door.relay is None
    assert (door.lock.serial, door.lock.address) == ("/dev/ttyAMA2", None)
    assert (door.lock.half_duplex, door.lock.baud) == (True, 19_200)
    assert set(secrets.lock_keys) == {"street"}


def test_a_relay_has_no_key(site: Site) -> None:
    write(
        site,
        'relay = { chip = "pinctrl-rp1", line = "GPIO17", active_low = true, pulse_ms = 700, '
        "contact = { line = 27, low = false } }",
        WIRE,
    )
    config, secrets = load_all(site.config)
    assert config.doors[0].relay == Relay(
        chip="pinctrl-rp1",
        line="GPIO17",
        active_low=True,
        pulse_ms=700,
        contact=Contact(line=27, low=False),
    )
    assert config.doors[0].lock is None
    assert set(secrets.lock_keys) == {"cellar"}


@pytest.mark.parametrize(
    ("door", "message"),
    [
        ("", "door[1] needs either a lock or a relay"),
        (f"{RADIO}\n{RELAY}", "door[1] needs either a lock or a relay"),
        ('lock.key = "street.pub.pem"', "door[1].lock needs either an address or a serial line"),
        (
            WIRE.replace(" }", ', address = "F0:F1:F2:F3:F4:01" }'),
            "door[1].lock needs either an address or a serial line",
        ),
        (RADIO.replace(" }", ", baud = 9600 }"), "door[1].lock.baud has no use with an address"),
        (
            RADIO.replace(" }", ", half_duplex = true }"),
            "door[1].lock.half_duplex has no use with an address",
        ),
        (WIRE.replace(" }", ", warm = true }"), "door[1].lock.warm has no use with a serial line"),
        (RELAY.replace("17", "-1"), "door[1].relay.line is not a GPIO line"),
        (RELAY.replace("17", '""'), "door[1].relay.line is not a GPIO line"),
        (
            RELAY.replace(" }", ", contact = { line = -2 } }"),
            "door[1].relay.contact.line is not a GPIO line",
        ),
        (
            RELAY.replace(" }", ", contact = { line = 17 } }"),
            "door[1].relay.contact.line is the relay's own",
        ),
        (
            f"latch_ms = 2000\n{RELAY.replace(' }', ', pulse_ms = 2001 }')}",
            "door[1].relay.pulse_ms is longer than latch_ms (2000)",
        ),
    ],
)
def test_what_does_not_belong_together(site: Site, door: str, message: str) -> None:
    (problem,) = problems(site, door)
    assert problem.message == message
    assert problem.hint
    assert problem.line >= HEAD.count("\n") + 1


@pytest.mark.parametrize(
    ("door", "message"),
    [
        (WIRE.replace("/dev/ttyUSB0", "ttyUSB0"), "door[1].lock.serial: expected another form"),
        (WIRE.replace(" }", ", baud = 300 }"), "door[1].lock.baud: expected a whole number"),
        (RELAY.replace("17", "true"), "door[1].relay.line: expected"),
        (RELAY.replace('"pinctrl-rp1"', '""'), "door[1].relay.chip: expected"),
        (RELAY.replace(" }", ", pulse_ms = 30001 }"), "door[1].relay.pulse_ms: expected"),
        (RELAY.replace(" }", ", pulse_ms = 49 }"), "door[1].relay.pulse_ms: expected"),
        ("relay = 17", "door[1].relay: expected"),
        ("relay = { line = 17 }", "door[1].relay.chip is missing"),
        (RELAY.replace(" }", ", contact = {} }"), "door[1].relay.contact.line is missing"),
        (RELAY.replace(" }", ", puls_ms = 1 }"), "door[1].relay.puls_ms is not a setting"),
    ],
)
def test_values_of_another_shape(site: Site, door: str, message: str) -> None:
    (problem,) = problems(site, door)
    assert problem.message.startswith(message)
    assert problem.hint


def test_no_two_doors_share_a_wire_or_a_line(site: Site) -> None:
    for same, message in (
        (WIRE, "door[2].lock.serial: /dev/ttyUSB0 is door[1]'s already"),
        (RELAY, "door[2].relay.line: pinctrl-rp1 17 is door[1]'s already"),
        (RADIO, "door[2].lock.address: F0:F1:F2:F3:F4:01 is door[1]'s already"),
    ):
        (problem,) = problems(site, same, same)
        assert problem.message == message
    assert problems(site, WIRE, RELAY) == []
    assert problems(site, RELAY, RELAY.replace("17", "18")) == []


def test_every_problem_at_once(site: Site) -> None:
    found = problems(
        site,
        RADIO.replace(" }", ", baud = 9600, half_duplex = true }"),
        RELAY.replace("17", "-1").replace(" }", ", pulse_ms = 9000, contact = { line = -1 } }"),
    )
    assert [each.message.split(" ")[0] for each in found] == [
        "door[1].lock.baud",
        "door[1].lock.half_duplex",
        "door[2].relay.contact.line",
        "door[2].relay.contact.line",
        "door[2].relay.line",
        "door[2].relay.pulse_ms",
    ]
    with pytest.raises(ConfigError):
        load(site.config)
