"""A claim survives eyes, paper and typing, and what is no claim is refused whole."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from gatewayd.core.invitation import Claim, NotAClaimError, claim_id, fingerprint, grouped
from tests.support.enrolling import CA, OPERATOR, make_claim

CLAIM = make_claim()
POINT = cose.public_key_to_cose(CA.key.public_key())


def text_of(fields: object) -> str:
    data = fields if isinstance(fields, bytes) else cbor.encode(fields)  # type: ignore[arg-type]
    checksum = sha256(b"gatewayd claim" + data).digest()[:4]
    return "GD1" + base64.b32encode(data + checksum).decode().rstrip("=")


def fields(**changes: object) -> list[object]:
    compressed = bytes([2 + POINT[-3][-1] % 2]) + POINT[-2]
    named: dict[str, object] = {
        "gateway": CLAIM.gateway,
        "group": CLAIM.group,
        "doors": list(CLAIM.doors),
        "broker": "broker.example:8884",
        "anchor": compressed,
        "root": CLAIM.root,
        "expires": CLAIM.expires,
        "secret": CLAIM.secret,
    }
    return list({**named, **changes}.values())


def test_it_reads_back_what_it_says() -> None:
    assert Claim.parse(CLAIM.text()) == CLAIM
    assert CLAIM.text() == text_of(fields())
    system = make_claim(anchor=None, broker="mqtt://127.0.0.1:1883")
    assert Claim.parse(system.text()) == system


def test_people_may_type_it_as_they_see_it() -> None:
    typed = grouped(CLAIM.text()).lower().replace(" ", "-")
    assert "\n" in typed
    assert Claim.parse(f"  {typed}\r\n") == CLAIM


def test_it_is_short_and_of_the_characters_that_qr_codes_pack() -> None:
    assert len(CLAIM.text()) < 270
    assert set(CLAIM.text()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def test_neither_its_repr_nor_its_id_tells_the_secret() -> None:
    assert repr(CLAIM.secret) not in repr(CLAIM)
    assert CLAIM.id == claim_id(CLAIM.key.public_key())
    assert make_claim(secret=bytes(16)).id != CLAIM.id


def test_the_fingerprint_is_the_thumbprint_of_rfc_9679() -> None:
    root = OPERATOR.root.public_key()
    assert fingerprint(root)[:8] == cose.key_id(root)


def test_every_wrong_or_missing_character_is_noticed() -> None:
    text = CLAIM.text()
    for at in range(len(text)):
        with pytest.raises(NotAClaimError):
            Claim.parse(text[:at])
        other = "A" if text[at] != "A" else "B"
        with pytest.raises(NotAClaimError):
            Claim.parse(text[:at] + other + text[at + 1 :])
    for more in ("A", "AA", "AAAAAAAA", "="):
        with pytest.raises(NotAClaimError):
            Claim.parse(text + more)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gateway": "a/b"},
        {"gateway": ""},
        {"gateway": "g" * 33},
        {"group": ""},
        {"group": "g" * 65},
        {"group": "a\nb"},
        {"doors": []},
        {"doors": ["street", "cellar"]},
        {"doors": ["street", "street"]},
        {"doors": [1]},
        {"doors": [f"door-{n:02}" for n in range(17)]},
        {"broker": ""},
        {"broker": "mqtts://broker.example:8884"},
        {"broker": "https://broker.example"},
        {"broker": "b r"},
        {"broker": "b" * 200},
        {"anchor": b"\2" + b"\xff" * 32},
        {"anchor": b""},
        {"anchor": 1},
        {"root": bytes(15)},
        {"expires": 0},
        {"expires": True},
        {"secret": bytes(17)},
        {"secret": ""},
        {"more": 1},
    ],
    ids=str,
)
def test_a_claim_that_says_something_else_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(NotAClaimError):
        Claim.parse(text_of(fields(**wrong)))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", cbor.encode(fields()) + b"\0"],
    ids=("nothing", "no CBOR", "a byte behind"),
)
def test_other_bytes_under_a_good_checksum_are_refused(data: bytes) -> None:
    with pytest.raises(NotAClaimError):
        Claim.parse(text_of(data))


@pytest.mark.parametrize("text", ["", "GD", "GD2AAAA", "GD1", "GD1!", "GD1\u0131", "A" * 2001])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(NotAClaimError):
        Claim.parse(text)


@given(st.text(max_size=60))
def test_nothing_but_its_own_error_comes_out_of_any_text(text: str) -> None:
    for candidate in (text, f"GD1{text}"):
        with pytest.raises(NotAClaimError):
            Claim.parse(candidate)


@given(st.binary(max_size=80))
def test_nor_out_of_any_bytes_under_a_good_checksum(data: bytes) -> None:
    with pytest.raises(NotAClaimError):
        Claim.parse(text_of(data))
