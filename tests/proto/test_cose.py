from __future__ import annotations

import cbor2
import cwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from tests.support.handshakes import private_key
from tests.support.parsing import REFUSED, parsed_or_refused

KEY = private_key(0x4001)
OTHER = private_key(0x4002)
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
P384 = ec.derive_private_key(7, ec.SECP384R1())
TYP = "application/example"
SIGNED = cose.sign1(b"payload", KEY, protected={16: TYP}, unprotected={4: b"kid"})

# cose-wg/Examples: sign1-tests/sign-pass-02 (without its tag) and sign-pass-01
EXAMPLE_KEY = {
    1: 2,
    -1: 1,
    -2: bytes.fromhex("bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"),
    -3: bytes.fromhex("20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"),
}
EXAMPLE = bytes.fromhex(
    "8443a10126a10442313154546869732069732074686520636f6e74656e742e5840eae868ecc176883766c5dc5b"
    "a5b8dca25dab3c2e56a551ce5705b793914348e155388b10c4f1b59a6733eab416870a945111a4b2fbdbef33a7"
    "7234b1deff2f9b"
)
EXAMPLE_AAD = bytes.fromhex("11aa22bb33cc44dd55006699")
ALGORITHM_NOT_PROTECTED = bytes.fromhex(
    "8441a0a201260442313154546869732069732074686520636f6e74656e742e5840eae868ecc176883766c5dc5b"
    "a5b8dca25dab3c2e56a551ce5705b793914348e11a02e5f0344bf2d4ee5c7fd75a68a9f5e0b3cc1f1fc1409c18"
    "9566586ff9d610"
)

# RFC 6979 A.2.5, P-256 with SHA-256, message "sample"
RFC6979_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
RFC6979_SIGNATURE = bytes.fromhex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)

# C2SP/wycheproof testvectors_v1/ecdsa_secp256r1_sha256_p1363_test.json, message "123400"
WYCHEPROOF_KEY = bytes.fromhex(
    "042927b10512bae3eddcfe467828128bad2903269919f7086069c8c4df6c732838"
    "c7787964eaac00e5921fb1498a60f4606766b3d9685001558d1a974e7341513e"
)
ORDER = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
ONE, ZERO = "00" * 31 + "01", "00" * 32
WYCHEPROOF = [
    (
        1,
        (
            "2ba3a8be6b94d5ec80a6d9d1190a436effe50d85a1eee859b8cc6af9bd5c2e18"
            "4cd60b855d442f5b3c7b11eb6c4e0ae7525fe710fab9aa7c77a67f79e6fadd76"
        ),
        True,
    ),
    (
        4,
        (
            "d45c5740946b2a147f59262ee6f5bc90bd01ed280528b62b3aed5fc93f06f739"
            "b329f479a2bbd0a5c384ee1493b1f5186a87139cac5df4087c134b49156847db"
        ),
        False,
    ),
    (11, ZERO + ZERO, False),
    (12, ZERO + ONE, False),
    (13, ZERO + ORDER, False),
    (18, ONE + ZERO, False),
    (19, ONE + ONE, False),
    (20, ONE + ORDER, False),
    (25, ORDER + ZERO, False),
]


def signed_with(*, items: list | None = None, **parts) -> bytes:
    """A COSE_Sign1 of chosen parts."""
    chosen = {
        "protected": cbor.encode({1: -7}),
        "unprotected": {},
        "payload": b"payload",
        "signature": bytes(64),
        **parts,
    }
    return cbor.encode(items if items is not None else list(chosen.values()))


# --- signatures -------------------------------------------------------------------
@pytest.mark.parametrize("key", [KEY, ED])
def test_what_is_signed_verifies_with_this_key_only(key):
    aad = b"context"
    data = cose.sign1(b"payload", key, protected={16: TYP}, external_aad=aad)
    parsed = cose.Sign1.parse(data)
    assert parsed.payload == b"payload"
    assert parsed.protected[16] == TYP
    assert parsed.unprotected == {}
    parsed.verify(key.public_key(), aad)
    for wrong_key, wrong_aad in (
        (OTHER, aad),
        (OTHER_ED, aad),
        (KEY if key is ED else ED, aad),
        (key, b""),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            parsed.verify(wrong_key.public_key(), wrong_aad)
        assert caught.value.fault is Fault.AUTHENTICATION_FAILED


def test_signing_again_gives_the_same_bytes():
    again = cose.sign1(b"payload", KEY, protected={16: TYP}, unprotected={4: b"kid"})
    assert again == SIGNED


def test_every_changed_byte_is_refused_unless_it_is_not_signed():
    parsed = cose.Sign1.parse(SIGNED)
    at = SIGNED.index(b"kid")
    for index in range(len(SIGNED)):
        changed = bytearray(SIGNED)
        changed[index] ^= 1
        if index == at - 2 or at <= index < at + 3:  # label and kid: unprotected, not signed
            other = cose.Sign1.parse(bytes(changed))
            other.verify(KEY.public_key())
            assert other.unprotected != parsed.unprotected
            continue
        with pytest.raises(RemoteProtocolError):
            cose.Sign1.parse(bytes(changed)).verify(KEY.public_key())


@pytest.mark.parametrize("key", [KEY, ED])
def test_another_implementation_verifies_it(key):
    data = cose.sign1(b"payload", key, protected={16: TYP}, unprotected={4: b"kid"})
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    algorithm = "EdDSA" if key is ED else "ES256"
    recipient = cwt.COSE.new()
    tagged = cbor2.dumps(cbor2.CBORTag(18, cbor2.loads(data)))
    public = cwt.COSEKey.from_pem(pem, kid=b"kid", alg=algorithm)
    assert recipient.decode(tagged, public) == b"payload"


def test_a_published_example_verifies():
    key = cose.public_key_from_cose(EXAMPLE_KEY)
    parsed = cose.Sign1.parse(EXAMPLE)
    assert parsed.payload == b"This is the content."
    parsed.verify(key, EXAMPLE_AAD)
    with pytest.raises(RemoteProtocolError, match="does not verify"):
        parsed.verify(key)


def test_an_algorithm_that_is_not_protected_is_none():
    parsed = cose.Sign1.parse(ALGORITHM_NOT_PROTECTED)
    with pytest.raises(RemoteProtocolError, match="not the key's"):
        parsed.verify(cose.public_key_from_cose(EXAMPLE_KEY))


def test_ecdsa_nonces_are_those_of_rfc_6979():
    key = private_key(RFC6979_KEY)
    assert cose._from_der(key.sign(b"sample", cose._ECDSA_DETERMINISTIC)) == RFC6979_SIGNATURE


@pytest.mark.parametrize(("number", "signature", "valid"), WYCHEPROOF)
def test_raw_signatures_of_wycheproof(number, signature, valid):
    key = cose.public_key_from_point(WYCHEPROOF_KEY)
    der = cose._to_der(bytes.fromhex(signature))
    if valid:
        key.verify(der, b"123400", cose._ECDSA)
        return
    with pytest.raises(InvalidSignature):
        key.verify(der, b"123400", cose._ECDSA)


@pytest.mark.parametrize(
    ("key", "algorithm", "accepted"),
    [
        (KEY, -7, True),
        (KEY, -9, True),
        (KEY, -8, False),
        (KEY, -19, False),
        (KEY, -35, False),
        (KEY, "ES256", False),
        (KEY, None, False),
        (ED, -8, True),
        (ED, -19, True),
        (ED, -7, False),
        (ED, -9, False),
        (ED, None, False),
    ],
)
def test_the_algorithm_belongs_to_the_key(key, algorithm, accepted):
    header = cbor.encode({} if algorithm is None else {1: algorithm})
    to_be_signed = cose._to_be_signed(header, b"", b"payload")
    if key is ED:
        signature = ED.sign(to_be_signed)
    else:
        signature = cose._from_der(KEY.sign(to_be_signed, cose._ECDSA_DETERMINISTIC))
    parsed = cose.Sign1.parse(signed_with(protected=header, signature=signature))
    if accepted:
        parsed.verify(key.public_key())
        return
    with pytest.raises(RemoteProtocolError, match="not the key's") as caught:
        parsed.verify(key.public_key())
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED


# --- parsing ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "fault", "detail"),
    [
        (b"", Fault.MALFORMED, "truncated"),
        (b"\xd2" + SIGNED, Fault.MALFORMED, "tag"),
        (SIGNED + b"\x00", Fault.MALFORMED, "bytes after"),
        (cbor.encode({1: 2}), Fault.MALFORMED, "not four items"),
        (signed_with(items=[]), Fault.MALFORMED, "not four items"),
        (signed_with(items=[b"", {}, b""]), Fault.MALFORMED, "not four items"),
        (signed_with(protected={1: -7}), Fault.MALFORMED, "other types"),
        (signed_with(unprotected=[]), Fault.MALFORMED, "other types"),
        (signed_with(payload=None), Fault.MALFORMED, "other types"),
        (signed_with(payload="text"), Fault.MALFORMED, "other types"),
        (signed_with(signature="text"), Fault.MALFORMED, "other types"),
        (signed_with(signature=bytes(63)), Fault.MALFORMED, "64 bytes"),
        (signed_with(signature=bytes(65)), Fault.MALFORMED, "64 bytes"),
        (signed_with(protected=b""), Fault.MALFORMED, "truncated"),
        (signed_with(protected=b"\x01"), Fault.MALFORMED, "no map"),
        (signed_with(protected=b"\xa0\xa0"), Fault.MALFORMED, "bytes after"),
        (signed_with(protected=b"\xa2\x04\x01\x01\x26"), Fault.MALFORMED, "out of order"),
        (signed_with(unprotected={1: -7}), Fault.MALFORMED, "in both headers"),
        (signed_with(unprotected={b"x": 1}), Fault.MALFORMED, "label that is a byte string"),
        (
            signed_with(protected=cbor.encode({b"x": 1})),
            Fault.MALFORMED,
            "label that is a byte string",
        ),
        (
            signed_with(protected=cbor.encode({1: -7, 2: [1]})),
            Fault.UNSUPPORTED,
            "critical headers",
        ),
        (signed_with(unprotected={2: [1]}), Fault.UNSUPPORTED, "critical headers"),
    ],
)
def test_it_is_refused_for_its_reason(data, fault, detail):
    with pytest.raises(RemoteProtocolError, match=detail) as caught:
        cose.Sign1.parse(data)
    assert caught.value.fault is fault


def test_the_cwt_example_of_rfc_8392_is_not_deterministic():
    # RFC 8392 A.3 without its tag: header {3: 65000, 1: -7} in this order, dates with tags
    data = signed_with(protected=bytes.fromhex("a20319fde80126"))
    with pytest.raises(RemoteProtocolError, match="out of order"):
        cose.Sign1.parse(data)


def test_it_is_refused_cut_off_at_every_byte():
    for end in range(len(SIGNED)):
        with pytest.raises(RemoteProtocolError):
            cose.Sign1.parse(SIGNED[:end])


def again(data: bytes) -> bytes:
    parsed = cose.Sign1.parse(data)
    return cbor.encode(
        [parsed.protected_bytes, parsed.unprotected, parsed.payload, parsed.signature]
    )


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_parses_has_these_bytes(data):
    changed = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(SIGNED) - 1))] = data.draw(st.integers(0, 255))
    encoded = parsed_or_refused(again, bytes(changed))
    assert encoded is REFUSED or encoded == changed


@given(st.binary(max_size=100))
@settings(max_examples=100, deadline=None)
def test_noise_is_refused(noise):
    assert parsed_or_refused(again, noise) is REFUSED
    header = parsed_or_refused(again, signed_with(protected=noise))
    assert header is REFUSED or header == signed_with(protected=noise)


# --- keys -------------------------------------------------------------------------
def test_keys_come_back():
    encoded = cose.public_key_to_cose(KEY.public_key())
    assert cose.public_key_from_cose(cbor.decode(cbor.encode(encoded))) == KEY.public_key()
    assert cose.public_key_from_cose({**encoded, 2: b"kid"}) == KEY.public_key()


@pytest.mark.parametrize("number", [0x4001, 0x4002, 0x4003, 0x4004])
def test_y_may_be_its_sign(number):
    key = private_key(number).public_key()
    encoded = cose.public_key_to_cose(key)
    odd = bool(encoded[-3][-1] & 1)
    assert cose.public_key_from_cose({**encoded, -3: odd}) == key
    assert cose.public_key_from_cose({**encoded, -3: not odd}) != key


GOOD = cose.public_key_to_cose(KEY.public_key())


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (b"key", "unknown or missing"),
        ({}, "unknown or missing"),
        ({**GOOD, 3: -7}, "unknown or missing"),
        ({**GOOD, -4: bytes(32)}, "unknown or missing"),  # a private key
        ({1: 2, -1: 1, -2: GOOD[-2]}, "unknown or missing"),
        ({**GOOD, 1: 1}, "not P-256"),
        ({**GOOD, -1: 2}, "not P-256"),
        ({**GOOD, -1: True}, "not P-256"),
        ({**GOOD, 2: "kid"}, "kid is no byte string"),
        ({**GOOD, -2: 5}, "x is not 32 bytes"),
        ({**GOOD, -2: GOOD[-2][1:]}, "x is not 32 bytes"),
        ({**GOOD, -3: 1}, "y is not 32 bytes"),
        ({**GOOD, -3: GOOD[-3] + b"\x00"}, "y is not 32 bytes"),
        ({**GOOD, -3: GOOD[-2]}, "not a point"),
        ({**GOOD, -2: b"\xff" * 32, -3: True}, "not a point"),
        ({**GOOD, -2: bytes(32), -3: bytes(32)}, "not a point"),
    ],
)
def test_keys_are_refused_for_their_reason(key, detail):
    with pytest.raises(RemoteProtocolError, match=detail) as caught:
        cose.public_key_from_cose(key)
    assert caught.value.fault is Fault.MALFORMED


def test_keys_on_other_curves_are_our_own_mistake():
    with pytest.raises(LocalProtocolError, match="P-256"):
        cose.sign1(b"", P384, protected={})
    with pytest.raises(LocalProtocolError, match="P-256"):
        cose.public_key_to_cose(P384.public_key())
    with pytest.raises(LocalProtocolError, match="P-256"):
        cose.Sign1.parse(SIGNED).verify(P384.public_key())


@given(
    st.dictionaries(
        st.sampled_from([1, 2, -1, -2, -3]),
        st.one_of(
            st.integers(-3, 3),
            st.booleans(),
            st.binary(min_size=31, max_size=33),
            st.just(GOOD[-2]),
        ),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_map_is_a_key_or_refused(changes):
    key = parsed_or_refused(
        lambda data: cose.public_key_from_cose(cbor.decode(data)), cbor.encode({**GOOD, **changes})
    )
    assert key is REFUSED or key.public_numbers().x.to_bytes(32, "big") == {**GOOD, **changes}[-2]


def test_a_header_that_is_remembered_cannot_be_changed_by_who_reads_it():
    with pytest.raises(TypeError):
        cose.Sign1.parse(SIGNED).protected[16] = "another"
    assert cose.Sign1.parse(SIGNED).protected == {1: cose.ES256, 16: TYP}


def test_a_key_is_named_by_the_head_of_its_thumbprint():
    # RFC 9679 §6, whose thumbprint begins so
    key = {
        1: 2,
        2: b"whatever it is called",
        -1: 1,
        -2: bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"),
        -3: bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"),
    }
    assert cose.key_id(cose.public_key_from_cose(key)).hex() == "496bd8afadf307e5"
