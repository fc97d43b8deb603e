"""HPKE against an independent implementation, and everything that must not open."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from gatewayd.adapters.sealing import OVERHEAD_BYTES, SealingError, seal, unseal

KEY = ec.derive_private_key(0x1234567890, ec.SECP256R1())
OTHER = ec.derive_private_key(0x1234567891, ec.SECP256R1())
PEER = CipherSuite.new(KEMId.DHKEM_P256_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES128_GCM)


@given(st.binary(max_size=300), st.binary(max_size=80))
@settings(max_examples=25)
def test_what_is_sealed_opens_and_costs_a_constant(plaintext, info):
    sealed = seal(plaintext, info, KEY.public_key())
    assert unseal(sealed, info, KEY) == plaintext
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES


def test_an_independent_implementation_opens_ours_and_we_open_theirs():
    sealed = seal(b"leaf", b"info", KEY.public_key())
    recipient = PEER.create_recipient_context(
        sealed[:65], KEMKey.from_pyca_cryptography_key(KEY), info=b"info"
    )
    assert recipient.open(sealed[65:]) == b"leaf"

    encapsulated, sender = PEER.create_sender_context(
        KEMKey.from_pyca_cryptography_key(KEY.public_key()), info=b"info"
    )
    assert unseal(encapsulated + sender.seal(b"leaf"), b"info", KEY) == b"leaf"


def test_sealing_twice_never_gives_the_same_bytes():
    assert seal(b"x", b"", KEY.public_key()) != seal(b"x", b"", KEY.public_key())


def test_another_key_or_another_info_does_not_open():
    sealed = seal(b"leaf", b"info", KEY.public_key())
    with pytest.raises(SealingError):
        unseal(sealed, b"info", OTHER)
    with pytest.raises(SealingError):
        unseal(sealed, b"inf0", KEY)


def test_truncated_anywhere_changed_anywhere_or_with_more_at_the_end_does_not_open():
    sealed = seal(b"leaf", b"info", KEY.public_key())
    wrong = [sealed[:cut] for cut in range(len(sealed))]
    wrong += [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    wrong.append(sealed + b"\0")
    for data in wrong:
        with pytest.raises(SealingError):
            unseal(data, b"info", KEY)
