"""X.509: what we issue, and that nothing else is read; OpenSSL is the other reader."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.cloud.authority import new_key
from gatewayd.core import certificates
from gatewayd.core.certificates import Authority, Certificate, Use, key_of_request, request
from tests.support.enrolling import CA, DAY_S, NOW
from tests.support.parsing import REFUSED, parsed_or_refused

KEY = new_key()
SERIAL = bytes(range(16))


def issue(**changes: object) -> Certificate:
    settings: dict[str, object] = {
        "use": Use.CLIENT, "now_s": NOW, "lifetime_s": 90 * DAY_S, "serial": SERIAL,
    }  # fmt: skip
    return CA.issue("stairwell-7", KEY.public_key(), **{**settings, **changes})  # type: ignore[arg-type]


def foreign(
    key: object, *, names: tuple[str, ...] = ("x",), until: dt.datetime | None = None
) -> bytes:
    """A certificate of somebody else's making."""
    oid = x509.NameOID.COMMON_NAME
    name = x509.Name([x509.NameAttribute(oid, each) for each in names])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(until or start + dt.timedelta(days=1))
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = builder.sign(key, algorithm)  # type: ignore[arg-type]
    return made.public_bytes(serialization.Encoding.DER)


def test_an_issued_certificate_says_what_it_was_issued_for() -> None:
    made = issue()
    assert Certificate.parse(made.der) == made
    assert (made.name, made.key) == ("stairwell-7", KEY.public_key())
    assert (made.since, made.until) == (NOW - 3600, NOW + 90 * DAY_S)
    assert made.signed_by(CA.key.public_key())
    assert not made.signed_by(KEY.public_key())
    assert issue() == made  # the same arguments, the same bytes
    x509.load_pem_x509_certificate(made.pem()).verify_directly_issued_by(
        x509.load_der_x509_certificate(CA.certificate.der)
    )


def test_a_client_is_no_server_and_no_authority() -> None:
    found = x509.load_der_x509_certificate(issue().der)
    uses = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_server_has_its_addresses() -> None:
    found = x509.load_der_x509_certificate(
        issue(use=Use.SERVER, addresses=[x509.DNSName("broker.example")]).der
    )
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example"]


def test_it_is_due_when_a_third_of_its_life_is_left() -> None:
    made = issue(lifetime_s=30)
    assert (made.since, made.until) == (NOW - 3, NOW + 30)
    assert not made.due(NOW + 18)
    assert made.due(NOW + 19)
    assert made.due(NOW + 1000)


def test_an_authority_is_signed_by_itself() -> None:
    made = Authority.create("op", KEY, now_s=NOW, lifetime_s=DAY_S, serial=SERIAL)
    assert made.certificate.signed_by(KEY.public_key())
    found = x509.load_der_x509_certificate(made.certificate.der)
    limits = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (limits.ca, limits.path_length) == (True, 0)


def test_a_request_proves_its_key() -> None:
    made = request("stairwell-7", KEY)
    assert key_of_request(made) == KEY.public_key()
    assert request("stairwell-7", KEY) == made
    at = len(made) - 1
    with pytest.raises(RemoteProtocolError) as raised:
        key_of_request(made[:at] + bytes([made[at] ^ 1]))
    assert raised.value.fault is Fault.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    "der",
    [
        foreign(ed25519.Ed25519PrivateKey.generate()),
        foreign(ec.generate_private_key(ec.SECP384R1())),
        foreign(KEY, names=()),
        foreign(KEY, names=("a", "b")),
        bytes(certificates.MAX_BYTES + 1),
        b"",
    ],
    ids=["ed25519", "p384", "no-name", "two-names", "too-long", "empty"],
)
def test_certificates_of_other_kinds_are_refused(der: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        Certificate.parse(der)
    assert raised.value.fault is Fault.MALFORMED


@pytest.mark.parametrize("parse", [Certificate.parse, key_of_request, certificates.check_foreign])
def test_every_truncation_and_every_byte_behind_is_refused(parse) -> None:  # type: ignore[no-untyped-def]
    whole = request("x", KEY) if parse is key_of_request else issue().der
    parse(whole)
    for length in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            parse(whole[:length])
    with pytest.raises(RemoteProtocolError):
        parse(whole + b"\0")
    with pytest.raises(RemoteProtocolError):
        parse(whole + bytes(certificates.MAX_BYTES))


@given(st.data())
def test_a_changed_byte_is_refused_or_shows(data: st.DataObject) -> None:
    for parse, whole in ((Certificate.parse, issue().der), (key_of_request, request("x", KEY))):
        at = data.draw(st.integers(0, len(whole) - 1))
        value = data.draw(st.integers(0, 255).filter(lambda each, old=whole[at]: each != old))
        changed = whole[:at] + bytes([value]) + whole[at + 1 :]
        found = parsed_or_refused(parse, changed)
        if found is not REFUSED:
            assert isinstance(found, Certificate)  # no changed request is genuine
            # what surrounds what is signed may differ and say nothing
            same = (found.name, found.key, found.since, found.until) == (
                issue().name, issue().key, issue().since, issue().until,
            )  # fmt: skip
            assert same or not found.signed_by(CA.key.public_key())


@pytest.mark.parametrize(
    ("at", "value"),
    [(b"\x02\x11\x01", b"\x02\x11\x80"), (b"\x55\x04\x03\x0c", b"\x55\x04\x03\x03"),
     (b"\x55\x04\x03\x0c", b"\x55\x04\x06\x0c")],
    ids=["serial-not-positive", "name-in-bits", "country-too-long"],
)  # fmt: skip
def test_what_the_library_only_warns_of_or_stumbles_over_is_refused(
    at: bytes, value: bytes
) -> None:
    whole = issue().der
    assert at in whole
    with pytest.raises(RemoteProtocolError) as raised:
        Certificate.parse(whole.replace(at, value))
    assert raised.value.fault is Fault.MALFORMED


def test_another_algorithm_than_ours_signs_nothing() -> None:
    assert not certificates.signed_by(
        foreign(ed25519.Ed25519PrivateKey.generate()), KEY.public_key()
    )
    assert certificates.signed_by(foreign(KEY), KEY.public_key())


@given(st.binary(max_size=200))
def test_nothing_but_its_own_error_comes_out_of_any_bytes(data: bytes) -> None:
    for parse in (Certificate.parse, key_of_request, certificates.check_foreign):
        assert parsed_or_refused(parse, data) is REFUSED
