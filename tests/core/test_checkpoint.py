"""Checkpoints, notes and cosignatures: against C2SP's own examples, and every way to be wrong."""

from __future__ import annotations

import base64
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import checkpoint as cp
from gatewayd.core.checkpoint import Checkpoint, Note, SignatureType, Verifier

# the example of c2sp.org/tlog-cosignature, and of c2sp.org/signed-note
C2SP_COSIGNED = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501 - as published
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = """\
This is an example message.

\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""  # noqa: E501 - as published

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
ORIGIN = "gatewayd/gateway/g1/1"
CHECKPOINT = Checkpoint(ORIGIN, 12, sha256(b"root").digest())
LOG = Verifier(ORIGIN, KEY.public_key().public_bytes_raw())
WITNESS = Verifier(
    "cloud", WITNESS_KEY.public_key().public_bytes_raw(), SignatureType.COSIGNATURE_V1
)
NOTE = cp.sign(CHECKPOINT, KEY)
SEEN_S = 1_800_000_000
COSIGNED = cp.cosign(NOTE, WITNESS.name, WITNESS_KEY, SEEN_S)


def refusal(call, *arguments):
    with pytest.raises(RemoteProtocolError) as caught:
        call(*arguments)
    return caught.value.fault


# --- the published examples ---------------------------------------------------------------
def test_the_published_note_verifies_with_the_published_key():
    verifier = Verifier.parse(C2SP_VKEY)
    assert verifier.name == "example.com/foo"
    assert verifier.encode() == C2SP_VKEY
    note = Note.parse(C2SP_NOTE.encode())
    assert note.encode().decode() == C2SP_NOTE
    # the signature is good; that the text is no checkpoint is found out after it
    assert refusal(cp.verify, C2SP_NOTE.encode(), verifier) is Fault.MALFORMED
    forged = C2SP_NOTE.replace("example m", "example n").encode()
    assert refusal(cp.verify, forged, verifier) is Fault.AUTHENTICATION_FAILED


def test_the_published_checkpoint_is_read_and_written_alike():
    note = Note.parse(C2SP_COSIGNED.encode())
    assert note.encode().decode() == C2SP_COSIGNED
    assert [name for name, _ in note.signatures] == [
        "example.com/behind-the-sofa",
        "witness.example.com/w1",
    ]
    parsed = Checkpoint.parse(note.text)
    assert (parsed.origin, parsed.size) == ("example.com/behind-the-sofa", 20852163)
    assert parsed.root.hex() == base64.b64decode(note.text.split("\n")[2]).hex()
    assert parsed.encode() == note.text
    (_, blob) = note.signatures[1]
    assert int.from_bytes(blob[4:12], "big") == 1679315147, "the time named in the specification"


# --- our own ----------------------------------------------------------------------------------
def test_what_is_signed_verifies():
    assert cp.verify(NOTE, LOG) == CHECKPOINT
    assert NOTE.decode().splitlines()[:3] == [
        ORIGIN,
        "12",
        base64.b64encode(CHECKPOINT.root).decode(),
    ]


def test_signing_is_the_same_every_time():
    assert cp.sign(CHECKPOINT, KEY) == NOTE


def test_extension_lines_are_signed_too():
    extended = replace(CHECKPOINT, extensions=("one", "two words"))
    note = cp.sign(extended, KEY)
    assert cp.verify(note, LOG) == extended
    assert refusal(cp.verify, note.replace(b"one", b"two"), LOG) is Fault.AUTHENTICATION_FAILED


def test_the_empty_tree_has_a_checkpoint():
    empty = replace(CHECKPOINT, size=0)
    assert cp.verify(cp.sign(empty, KEY), LOG) == empty


@pytest.mark.parametrize(
    "bad",
    [
        replace(CHECKPOINT, origin=""),
        replace(CHECKPOINT, origin="two words"),
        replace(CHECKPOINT, origin="a+b"),
        replace(CHECKPOINT, origin="a\nb"),
        replace(CHECKPOINT, origin="a\x00b"),
        replace(CHECKPOINT, origin="a\udc80b"),
        replace(CHECKPOINT, size=-1),
        replace(CHECKPOINT, size=2**63),
        replace(CHECKPOINT, root=bytes(31)),
        replace(CHECKPOINT, extensions=("",)),
        replace(CHECKPOINT, extensions=("a\n\nb",)),
    ],
    ids=repr,
)
def test_nothing_is_signed_that_would_not_verify(bad):
    with pytest.raises(ValueError, match=r"checkpoint|surrogates"):
        cp.sign(bad, KEY)


def test_another_key_name_or_kind_does_not_find_the_signature():
    other = WITNESS_KEY.public_key().public_bytes_raw()
    for verifier in (
        replace(LOG, name="another"),
        replace(LOG, key=other),
        replace(LOG, type=SignatureType.COSIGNATURE_V1),
    ):
        assert refusal(cp.verify, NOTE, verifier) is Fault.AUTHENTICATION_FAILED
        assert refusal(cp.verify_cosignature, NOTE, verifier) is Fault.AUTHENTICATION_FAILED


def test_every_changed_byte_is_noticed():
    for position in range(len(NOTE)):
        changed = bytearray(NOTE)
        changed[position] ^= 1
        assert refusal(cp.verify, bytes(changed), LOG) in {
            Fault.MALFORMED,
            Fault.AUTHENTICATION_FAILED,
        }


def test_truncated_anywhere_and_with_bytes_behind():
    for end in range(len(NOTE)):
        assert refusal(cp.verify, NOTE[:end], LOG) is Fault.MALFORMED
    for tail in (b"\n", b"x", b"\x00", b"x\n", "\u2014 x\n".encode()):
        assert refusal(cp.verify, NOTE + tail, LOG) is Fault.MALFORMED


def test_lines_of_strangers_are_ignored_up_to_a_limit():
    note = Note.parse(NOTE)
    stranger = ("stranger", bytes(40))
    own_name = (ORIGIN, bytes(68))  # the name is known, the key id is not
    many = Note(note.text, (own_name, *[stranger] * 30, *note.signatures))
    assert cp.verify(many.encode(), LOG) == CHECKPOINT
    too_many = replace(many, signatures=(*many.signatures, stranger))
    assert refusal(cp.verify, too_many.encode(), LOG) is Fault.MALFORMED


def test_one_wrong_signature_of_a_known_key_spoils_the_note():
    note = Note.parse(NOTE)
    for wrong in (bytes(64), bytes(63)):
        spoilt = Note(note.text, (*note.signatures, (ORIGIN, LOG.key_id + wrong)))
        refused = refusal(cp.verify, spoilt.encode(), LOG)
        assert refused is (Fault.AUTHENTICATION_FAILED if len(wrong) == 64 else Fault.MALFORMED)


def test_a_key_that_is_no_point_verifies_nothing():
    # y = 2 has no x on the curve
    broken = replace(LOG, key=(2).to_bytes(32, "little"))
    note = Note.parse(NOTE)
    claimed = Note(note.text, ((ORIGIN, broken.key_id + bytes(64)),))
    assert refusal(cp.verify, claimed.encode(), broken) is Fault.AUTHENTICATION_FAILED
    short = replace(LOG, key=bytes(31))
    claimed = Note(note.text, ((ORIGIN, short.key_id + bytes(64)),))
    assert refusal(cp.verify, claimed.encode(), short) is Fault.AUTHENTICATION_FAILED


# --- cosignatures -----------------------------------------------------------------------------
def test_a_cosignature_says_when():
    assert cp.verify_cosignature(COSIGNED, WITNESS) == SEEN_S
    assert cp.verify(COSIGNED, LOG) == CHECKPOINT
    later = cp.cosign(COSIGNED, WITNESS.name, WITNESS_KEY, SEEN_S + 60)
    assert cp.verify_cosignature(later, WITNESS) == SEEN_S + 60


def test_the_message_of_a_cosignature_is_that_of_the_specification():
    (_, blob) = Note.parse(COSIGNED).signatures[1]
    text = CHECKPOINT.encode()
    WITNESS_KEY.public_key().verify(blob[12:], f"cosignature/v1\ntime {SEEN_S}\n{text}".encode())
    key_id = sha256(b"cloud\n\x04" + WITNESS.key).digest()[:4]
    assert blob[:12] == key_id + SEEN_S.to_bytes(8, "big")


def test_a_cosignature_does_not_move_to_another_time_or_text():
    (_, blob) = Note.parse(COSIGNED).signatures[1]
    text = CHECKPOINT.encode()
    moved = blob[:11] + bytes([blob[11] ^ 1]) + blob[12:]
    other = replace(CHECKPOINT, size=13).encode()
    for note in (Note(text, (("cloud", moved),)), Note(other, (("cloud", blob),))):
        assert refusal(cp.verify_cosignature, note.encode(), WITNESS) is Fault.AUTHENTICATION_FAILED
    short = Note(text, (("cloud", blob[:-1]),))
    assert refusal(cp.verify_cosignature, short.encode(), WITNESS) is Fault.MALFORMED


def test_times_beyond_the_limit():
    for time_s in (-1, 2**63):
        with pytest.raises(ValueError, match="time"):
            cp.cosign(NOTE, "cloud", WITNESS_KEY, time_s)
    with pytest.raises(ValueError, match="name"):
        cp.cosign(NOTE, "the cloud", WITNESS_KEY, 0)
    text = CHECKPOINT.encode()
    signature = WITNESS_KEY.sign(f"cosignature/v1\ntime {2**63}\n{text}".encode())
    blob = WITNESS.key_id + (2**63).to_bytes(8, "big") + signature
    note = Note(text, (("cloud", blob),)).encode()
    assert refusal(cp.verify_cosignature, note, WITNESS) is Fault.MALFORMED
    assert cp.verify_cosignature(cp.cosign(NOTE, "cloud", WITNESS_KEY, 2**63 - 1), WITNESS)


# --- parsers ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "origin\n1\n",
        "origin\n1\n" + "A" * 43 + "=",
        "origin\n01\n" + "A" * 43 + "=\n",
        "origin\n+1\n" + "A" * 43 + "=\n",
        "origin\n1 \n" + "A" * 43 + "=\n",
        "origin\n\u0661\n" + "A" * 43 + "=\n",
        "origin\n9223372036854775808\n" + "A" * 43 + "=\n",
        "origin\n" + "9" * 5000 + "\n" + "A" * 43 + "=\n",
        "origin\n\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "origin\n1\n" + "A" * 43 + "\n",
        "origin\n1\n" + "A" * 42 + "B=\n",  # bits beyond the last byte: not the one canonical form
        "origin\n1\n" + "A" * 42 + "_=\n",
        "origin\n1\n" + "\u00e9" * 43 + "=\n",
        "origin\n1\n" + "A" * 40 + "\n",
        "origin\r\n1\n" + "A" * 43 + "=\n",
        "origin\n1\n" + "A" * 43 + "=\n\n",
    ],
    ids=range(19),
)
def test_what_is_not_the_text_of_a_checkpoint(text):
    assert refusal(Checkpoint.parse, text) is Fault.MALFORMED


def test_the_largest_size():
    text = f"origin\n{2**63 - 1}\n{'A' * 43}=\n"
    assert Checkpoint.parse(text).size == 2**63 - 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"\xff\n\nx\n",
        b"te\x07xt\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA=",
        b"text\n\n\xe2\x80\x94 a AAAAAA==\n",
        b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94  AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a\xc2\xa0b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAA AAA=\n",
        b"text\n\n- a AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA\n",
    ],
    ids=range(13),
)
def test_what_is_not_a_note(data):
    assert refusal(Note.parse, data) is Fault.MALFORMED


def test_a_text_with_empty_lines_is_divided_at_the_last():
    note = Note("first\n\nsecond\n", (("a", b"12345"),))
    assert Note.parse(note.encode()) == note


def test_a_note_beyond_its_limit():
    assert refusal(Note.parse, b"x" * (cp.MAX_NOTE_BYTES + 1)) is Fault.TOO_LARGE


@pytest.mark.parametrize(
    ("vkey", "fault"),
    [
        ("", Fault.MALFORMED),
        ("name", Fault.MALFORMED),
        ("name+00000000", Fault.MALFORMED),
        ("name+00000000+", Fault.MALFORMED),
        ("+00000000+AQ==", Fault.MALFORMED),
        ("a b+00000000+AQ==", Fault.MALFORMED),
        ("a\udc80b+00000000+AQ==", Fault.MALFORMED),
        ("name+00000000+AQ==", Fault.UNSUPPORTED),
        ("name+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(), Fault.UNSUPPORTED),
        ("name+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(), Fault.MALFORMED),
        (C2SP_VKEY.replace("530d", "530D"), Fault.MALFORMED),
        (C2SP_VKEY + "=", Fault.MALFORMED),
    ],
)
def test_what_is_not_a_verifier_key(vkey, fault):
    assert refusal(Verifier.parse, vkey) is fault


@pytest.mark.parametrize("verifier", [LOG, WITNESS])
def test_a_verifier_key_survives_its_encoding(verifier):
    assert Verifier.parse(verifier.encode()) == verifier


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="a\n \u2014+A=1\x01é", max_size=80) | st.text(max_size=60))
def test_any_text_either_re_encodes_alike_or_is_refused(text):
    for parse, encode in (
        (lambda: Note.parse(text.encode()), lambda note: note.encode().decode()),
        (lambda: Checkpoint.parse(text), Checkpoint.encode),
        (lambda: Verifier.parse(text), Verifier.encode),
    ):
        try:
            parsed = parse()
        except RemoteProtocolError:
            continue
        assert encode(parsed) == text
