"""`keys make operator-ca` and `keys certificate`: what a broker and the cloud show each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from gatewayd.core import certificates
from gatewayd.core.certificates import Certificate
from tests.support import commands


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    assert commands.run("keys", "make", "operator-ca", "--into", tmp_path).code == 0
    return tmp_path


def certificate(keys: Path, *words: str) -> commands.Ran:
    return commands.run("keys", "certificate", *words, "--keys", keys, "--into", keys)


def read(path: Path) -> Certificate:
    return Certificate.parse(certificates.from_pem(path.read_bytes())[0])


@pytest.mark.parametrize(
    ("name", "kind"), [("broker.example", x509.DNSName), ("::1", x509.IPAddress)]
)
def test_a_broker_is_certified_by_its_name_or_address(
    keys: Path, name: str, kind: type[x509.GeneralName]
) -> None:
    assert certificate(keys, name, "--server").code == 0
    made = read(keys / f"{name}.crt")
    assert made.signed_by(read(keys / "ca.crt").key)
    names = x509.load_der_x509_certificate(made.der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert len(names.value.get_values_for_type(kind)) == 1
    assert (keys / f"{name}.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["a/b", ".a", "n" * 65, "\N{SNOWMAN}"])
def test_what_is_no_name_is_wrong_usage(keys: Path, name: str) -> None:
    before = sorted(keys.iterdir())
    assert certificate(keys, name).code == 2
    assert sorted(keys.iterdir()) == before


def test_an_authority_that_is_none_or_another_is_named(keys: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert commands.run("keys", "make", "operator-ca", "--into", other).code == 0
    (keys / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
    ran = certificate(keys, "cloud")
    assert (ran.code, "is not the certificate of ca.pem" in ran.err) == (2, True)
    (keys / "ca.crt").write_text("nonsense")
    ran = certificate(keys, "cloud")
    assert (ran.code, "no certificates in PEM form" in ran.err) == (2, True)


def test_no_gateway_is_called_as_the_cloud_is(keys: Path) -> None:
    ran = commands.run(
        "cloud", "invite", "cloud", "--door", "street", "--broker", "mqtts://b", "--keys", keys
    )
    assert (ran.code, "what the broker calls the cloud itself" in ran.err) == (2, True)
