"""The published vectors: current, and obeyed by the code in every layer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import firmware_proto
from firmware_proto import codes, messages
from firmware_proto.claiming import Label, Purpose, proof
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import Hello, Resume
from firmware_proto.phone_session import PhoneSession
from firmware_proto.records import Records
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.resumption import records as resumed_records
from firmware_proto.serial_framing import SerialFraming
from firmware_proto.session import CredentialReceived, Session
from firmware_proto.session_tables import SessionState
from firmware_proto.statements import Anchoring, Reset
from gatewayd.actuators import lock_identity
from gatewayd.emulators.lock import LockEmulator
from gatewayd.emulators.visit import TurnedAwayError, judge
from tests.vectorgen import claims, document, example, vectors

ROOT = Path(firmware_proto.__file__).parent
FILES = sorted((ROOT / "vectors").glob("*.txt"))


@dataclass
class Read:
    """A vector as a stranger reads it."""

    expect: str
    layer: str
    values: list[tuple[str, str]]

    def all(self, name: str) -> list[bytes]:
        return [bytes.fromhex(value) for key, value in self.values if key == name]

    def one(self, name: str) -> bytes:
        (value,) = self.all(name)
        return value

    def word(self, name: str) -> str:
        return dict(self.values)[name]


def read(path: Path) -> Read:
    rows = [
        tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "")
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert [name for name, _ in rows[:2]] == ["expect", "layer"]
    return Read(rows[0][1], rows[1][1], rows[2:])


def whole(fragments: list[bytes]) -> list[bytes]:
    """Frames of one side, put together again."""
    framing = GattFraming(517, example.CHANNEL)
    return [frame for fragment in fragments for frame in framing.receive(fragment)]


# --- one function per layer: raises the fault, or checks what came out ------------------------
def run_message(vector: Read) -> None:
    data = vector.one("data")
    assert messages.encode(messages.decode(data)) == data


def run_hello(vector: Read) -> None:
    data = vector.one("data")
    assert messages.encode(messages.decode_plain(Hello, data)) == data


def run_resume(vector: Read) -> None:
    data = vector.one("data")
    assert messages.encode(messages.decode_plain(Resume, data)) == data


def run_fragments(vector: Read) -> None:
    channel = vector.one("channel") if vector.word("end") == "central" else None
    framing = GattFraming(517, channel)
    got = []
    for name, value in vector.values:
        if name == "writes":
            framing.cut(bytes.fromhex(value))
        elif name == "fragment":
            got += framing.receive(bytes.fromhex(value))
    assert got == vector.all("message")


def run_serial(vector: Read) -> None:
    framing = SerialFraming()
    got = [found for chunk in vector.all("chunk") for found in framing.receive(chunk)]
    assert got == vector.all("message")


def records_of(vector: Read, *, initiator: bool) -> Records:
    return Records.from_keys(
        key_i2r=vector.one("key initiator to responder"),
        key_r2i=vector.one("key responder to initiator"),
        iv_i2r=vector.one("IV initiator to responder"),
        iv_r2i=vector.one("IV responder to initiator"),
        initiator=initiator,
    )


def run_records(vector: Read) -> None:
    receiver = records_of(vector, initiator=False)
    for start in vector.all("next counter"):
        receiver._receiving.counter = int.from_bytes(start, "big")
    assert [receiver.open(record) for record in vector.all("record")] == vector.all("plaintext")


def run_resumption(vector: Read) -> None:
    secret = ResumptionSecret(vector.one("session id"), vector.one("resumption secret"))
    hello, resume = vector.one("Hello"), vector.one("Resume")
    assert messages.decode_plain(Hello, hello).session == secret.session
    for initiator, request, name in (
        (True, "first request", "first record of the initiator"),
        (False, "first answer", "first record of the responder"),
    ):
        derived = resumed_records(secret, hello, resume, initiator=initiator)
        assert derived.seal(vector.one(request)) == vector.one(name)
        given = records_of(vector, initiator=initiator)
        assert given.seal(vector.one(request)) == vector.one(name)


def run_handshake(vector: Read) -> None:
    is_phone = vector.one("initiator connection identifier") == example.PHONE_ID
    sent = example.phone_frames(23) if is_phone else example.lock_frames(None)
    frames = [whole(side) for side in sent]
    expected = [
        [b"\x01" + vector.one("message_1"), b"\x03" + vector.one("message_3"),
         b"\x05" + vector.one("first record of the initiator")],
        [b"\x02" + vector.one("message_2"),
         b"\x05" + vector.one("first record of the responder")],
    ]  # fmt: skip
    assert [frames[0], [frame for frame in frames[1] if frame[0] != 7]] == expected
    if not is_phone:
        assert example.secret().secret == vector.one("resumption secret")


def run_credential(vector: Read) -> None:
    operator = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), vector.one("gateways key")
    )
    door, seen = vector.word("door"), int(vector.word("generation"))
    if vector.word("end") == "phone":
        wallet = SimpleNamespace(gateways_key=operator, generations={door: seen}, group="house-1")
        now_s = int(vector.word("now"))
        judge(vector.one("credential"), wallet, door, now_s)
        return
    judged: list[str] = []
    memory = SimpleNamespace(
        gateways_key=operator, door=door, generation=seen, raised=lambda generation, _: generation
    )
    body = SimpleNamespace(memory=memory, now_ms=0, keep=judged.append)
    lock = SimpleNamespace(body=body, _changed=lambda: None)
    session = SimpleNamespace(
        trust=lambda _: judged.append("trusted"), refuse=lambda: judged.append("refused")
    )
    LockEmulator.judge(lock, session, vector.one("credential"))
    if judged == ["refused"]:  # a lock does not say why
        raise TurnedAwayError(codes.Reason[vector.expect.upper()])
    assert judged == (["trusted", 1] if seen == 0 else ["trusted"])


def run_session(vector: Read) -> None:
    end, uses = vector.word("end"), vector.word("uses")
    if end == "line":
        run_line_session(vector)
        return
    if end == "gateway":
        session, peer = example.gateway_session(), "phone"
    elif end == "phone":
        session, peer = example.phone_session(), "gateway"
    else:
        known = example.secret() if uses == "resumption" else None
        session, peer = example.lock_session(known), "gateway"
    if end != "gateway":
        session.begin()
        session.data_to_send()
    cutter = GattFraming(517, example.CHANNEL if end != "phone" else None)
    cutter.receive(example.CHANNEL + b"\xc0\x00\x01x")  # so that a peripheral has its channel
    *before, last = vector.all("frame")
    for frame in before:
        take(session, cutter.cut(frame), peer)
        session.data_to_send()
    try:
        take(session, cutter.cut(last), peer)
    finally:
        assert joined(session.data_to_send()) == vector.all("answer")


def take(session: Session, fragments: list[bytes], peer: str) -> None:
    """As a caller who believes everybody; a phone says its Open as soon as it may."""
    for fragment in fragments:
        session.receive_data(fragment)
    while (event := session.next_event()) is not None:
        if isinstance(event, CredentialReceived):
            session.trust(example.KEYS[peer].public_key())
    if isinstance(session, PhoneSession) and session.state is SessionState.KEYED:
        session.send(example.OPEN)


def joined(fragments: list[bytes]) -> list[bytes]:
    """Frames, whatever number their first fragment has."""
    frames: list[bytes] = []
    for fragment in fragments:
        if fragment[2] & 0x80:
            frames.append(fragment[5:])
        else:
            frames[-1] += fragment[3:]
    return frames


def run_line_session(vector: Read) -> None:
    session = example.line_session(example.secret())
    hello = b"\x07" + messages.encode(example.hello(example.secret()))
    *before, last = vector.all("frame")
    for frame in before:
        take(session, [frame], "gateway")
        assert session.data_to_send() == ([hello] if frame == b"\x09" else [])
    try:
        take(session, [last], "gateway")
    finally:
        assert session.data_to_send() == vector.all("answer")


def run_label(vector: Read) -> None:
    label = Label.parse(vector.word("label"))
    assert claims.uncompressed(label.key) == vector.one("lock key")
    assert label.secret == vector.one("secret")
    assert label.text().replace("-", "") == re.sub(r"[- ]", "", vector.word("label")).upper()


def run_proof(vector: Read) -> None:
    purpose = Purpose[vector.word("purpose").upper()]
    assert proof(vector.one("secret"), vector.one("binding"), purpose) == vector.one("proof")


def point(data: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def run_anchor(vector: Read) -> None:
    found = Anchoring.verify(vector.one("statement"), point(vector.one("root key")))
    assert found == claims.anchoring()
    assert found.serial == int(vector.word("serial"))


def run_reset(vector: Read) -> None:
    found = Reset.verify(vector.one("statement"), point(vector.one("command key")))
    assert found == Reset(vector.one("key id"), int(vector.word("epoch")))


RUN = {
    "label": run_label,
    "proof": run_proof,
    "anchor": run_anchor,
    "reset": run_reset,
    "message": run_message,
    "hello": run_hello,
    "resume": run_resume,
    "fragments": run_fragments,
    "serial": run_serial,
    "records": run_records,
    "resumption": run_resumption,
    "handshake": run_handshake,
    "credential": run_credential,
    "session": run_session,
}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_code_does_what_the_vector_says(path):
    vector = read(path)
    if vector.expect == "accept":
        RUN[vector.layer](vector)
        return
    if vector.layer == "credential":
        with pytest.raises(TurnedAwayError) as refused:
            run_credential(vector)
        assert refused.value.reason is codes.Reason[vector.expect.upper()]
        return
    with pytest.raises(RemoteProtocolError) as caught:
        RUN[vector.layer](vector)
    assert caught.value.fault is codes.Fault[vector.expect.upper()]
    repeated = [name for name, _ in vector.values if name in {"record", "fragment"}]
    if len(repeated) > 1:  # all but the last input are good
        last = max(at for at, (name, _) in enumerate(vector.values) if name == repeated[0])
        shorter = Read("accept", vector.layer, vector.values[:last])
        if vector.layer == "records":
            receiver = records_of(shorter, initiator=False)
            assert [receiver.open(record) for record in shorter.all("record")]
        else:
            run_fragments(shorter)


def test_every_layer_and_many_faults_are_covered():
    seen = [read(path) for path in FILES]
    assert {vector.layer for vector in seen} == set(RUN)
    assert {vector.expect for vector in seen} >= {
        *("accept", "malformed", "too_large", "unexpected", "unsupported"),
        *("authentication_failed", "replayed", "out_of_order"),
    }


def test_the_daemon_makes_the_published_credential_of_a_lock():
    published = read(ROOT / "vectors" / "handshake-lock.txt")
    key = example.KEYS["lock"].public_key()
    made = lock_identity(example.DOOR, "F0:F1:F2:F3:F4:01", key)
    assert made.credential == published.one("responder CRED")
    assert b"\xa1\x04\x48" + made.key_id == published.one("responder ID_CRED")


def test_the_vectors_are_current():
    """Else run `python -m tests.vectorgen`."""
    assert {path.stem: path.read_text(encoding="utf-8") for path in FILES} == {
        vector.name: vector.text() for vector in vectors.vectors()
    }


def test_the_worked_example_is_current():
    """Else run `python -m tests.vectorgen`."""
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    assert document.worked_example() in text
    assert document.replaced(text) == text


# --- the numbers of PROTOCOL.md -------------------------------------------------------------
def table_rows(heading: str) -> list[list[str]]:
    """Cells of the tables in one chapter."""
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    chapter = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in chapter.splitlines()
        if line.startswith("|")
    ]


def test_the_fault_table_is_that_of_the_code():
    stated = {row[0]: row[1:] for row in table_rows("Faults")[2:]}
    yes = {True: "yes", False: "no"}
    assert stated == {
        str(int(fault)): [
            fault.name.lower().replace("_", "-"),
            yes[meaning.temporary],
            yes[meaning.may_have_happened],
            meaning.refresh,
        ]
        for fault, meaning in codes.FAULTS.items()
    }


def test_the_message_table_is_that_of_the_code():
    stated = {(row[0], row[1].split("{")[0]) for row in table_rows("Messages")[2:]}
    assert stated == {(str(number), cls.__name__) for number, cls in messages.SEALED.items()}


def test_the_frame_table_is_that_of_the_code():
    kinds = [row[0] for row in table_rows("Overview") if row[0].isdigit()]
    assert kinds == [str(int(kind)) for kind in codes.FrameKind]
