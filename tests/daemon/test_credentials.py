"""Private keys handed over by systemd are taken instead of the files that are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewayd import config, keyfiles
from gatewayd.config import credentials
from tests.support.site import CONFIG, Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "etc").mkdir()
    return make_site(tmp_path / "etc")


@pytest.fixture
def handed_over(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    return directory


def test_the_directory_is_what_systemd_says() -> None:
    assert credentials.directory({"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == Path(
        "/run/credentials/x"
    )
    assert credentials.directory({"CREDENTIALS_DIRECTORY": ""}) is None
    assert credentials.directory({}) is None


def test_keys_of_the_same_name_are_taken_and_others_stay(site: Site, handed_over: Path) -> None:
    for name in ("gateway.pem", "log.pem"):
        (site.directory / name).rename(handed_over / name)
    with pytest.raises(config.ConfigError):
        config.load_all(site.config)
    settings, secrets = config.load_all(site.config, handed_over)
    assert settings.keys.gateway == handed_over / "gateway.pem"
    assert settings.keys.log == handed_over / "log.pem"
    assert settings.keys.receipt == site.directory / "receipt.pem"
    assert secrets.key.public_key() == site.keys.handshake.public_key()


def test_a_key_that_was_not_handed_over_is_missed_by_name(site: Site, handed_over: Path) -> None:
    (site.directory / "receipt.pem").unlink()
    with pytest.raises(config.ConfigError) as caught:
        config.load_all(site.config, handed_over)
    assert ["receipt key" in each.message for each in caught.value.problems] == [True]


def test_the_key_of_our_certificate_is_one_of_them(site: Site, handed_over: Path) -> None:
    (handed_over / "tls.key").write_bytes(b"-")
    (handed_over / "tls.key").chmod(0o600)
    (site.directory / "tls.crt").write_bytes(b"-")
    uplink = 'broker = "mqtts://broker.example"\ncertificate = "tls.crt"\nkey = "tls.key"'
    text = CONFIG.replace('broker = "mqtt://127.0.0.1:1883"', uplink)
    site.replace("gatewayd.toml", text.encode())
    settings, _ = config.load_all(site.config, handed_over)
    assert settings.uplink is not None
    assert settings.uplink.key == handed_over / "tls.key"


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "is_open"),
    [
        (0o600, 1000, 1000, False),
        (0o400, 0, 0, False),
        (0o440, 0, 0, False),  # systemd's, its access control list names our user
        (0o440, 0, 27, True),
        (0o440, 1000, 0, True),
        (0o640, 0, 0, True),
        (0o444, 0, 0, True),
        (0o601, 0, 0, True),
    ],
)
def test_whom_a_file_is_open_to(mode: int, uid: int, gid: int, is_open: bool) -> None:
    status = os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 1, 0, 0, 0))
    assert keyfiles.open_to_others(status) is is_open
