"""What the daemon's unit is opened for: exactly what the configuration names, and once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewayd import config, drop_ins
from gatewayd.drop_ins import Unit, needed
from tests.support.site import Site, make_site

NAMES = {f"{name}.conf" for name in ("uplink", "uplink-certificate", "relay", "serial", "element")}
SHIPPED = Path(__file__).parents[2] / "systemd/drop-ins"
LOCK = 'lock.address = "F0:F1:F2:F3:F4:01"\nlock.key = "street.pub.pem"\n'
RELAY = 'relay = { chip = "pinctrl-rp1", line = 17 }\n'
SERIAL = 'lock.serial = "/dev/ttyUSB0"\nlock.key = "street.pub.pem"\n'
TLS = 'broker = "mqtts://b:1"\ncertificate = "tls.crt"\nkey = "tls.key"\n'
PLAIN = 'broker = "mqtt://127.0.0.1:1883"\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    made.replace("tls.crt", b"", 0o644)
    made.replace("tls.key", b"")
    return made


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(SHIPPED, tmp_path / "units/gatewayd.service.d")


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (PLAIN, PLAIN, {"uplink.conf"}),
        (f"[uplink]\n{PLAIN}", "", set()),
        (PLAIN, TLS, {"uplink.conf", "uplink-certificate.conf"}),
        (PLAIN, 'broker = "mqtts://b:1"\n', {"uplink.conf"}),
        (LOCK, RELAY, {"uplink.conf", "relay.conf"}),
        (LOCK, SERIAL, {"uplink.conf", "serial.conf"}),
    ],
)
def test_what_a_configuration_needs(site: Site, old: str, new: str, wanted: set[str]) -> None:
    text = site.config.read_text()
    assert text.count(old) == 1
    site.config.write_text(text.replace(old, new))
    found = list(needed(config.load(site.config)))
    assert set(found) == wanted <= NAMES == {path.name for path in SHIPPED.iterdir()}
    assert len(found) == len(wanted)


def test_a_pin_is_handed_over(site: Site) -> None:
    site.replace("element.pin", b"1234")
    assert "element.conf" in needed(config.load(site.config))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root places them")
def test_they_are_placed_once_and_somebodys_own_stay(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_ins, "SYSTEMD", Path("/nonexistent"))
    unit.read.mkdir(parents=True)
    (unit.read / "relay.conf").write_text("mine")
    placed = unit.open_for("uplink.conf", "relay.conf")
    assert placed == [unit.read / "uplink.conf"]
    assert placed[0].read_bytes() == (SHIPPED / "uplink.conf").read_bytes()
    assert (unit.read / "relay.conf").read_text() == "mine"
    assert unit.open_for("uplink.conf", "relay.conf") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root places them")
def test_systemd_is_told(unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drop_ins, "SYSTEMD", tmp_path)
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/told\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    unit.open_for("relay.conf")
    unit.open_for("relay.conf")
    assert (tmp_path / "told").read_text() == "daemon-reload\n"


def test_nothing_is_placed_where_the_package_is_not(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "absent", tmp_path / "units")
    assert unit.open_for("uplink.conf") == []
    assert not unit.read.exists()


def test_only_root_places_them(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unit.open_for("uplink.conf") == []
    assert not unit.read.exists()
