"""The published vectors: current, and obeyed by the code in every layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import firmware_proto
from firmware_proto import codes, messages
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.messages import Hello, Resume
from firmware_proto.records import Records
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.resumption import records as resumed_records
from firmware_proto.serial_framing import SerialFraming
from tests.support.wire import trusting
from tests.vectorgen import document, example, vectors

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
    got = [found for piece in vector.all("fragment") for found in framing.receive(piece)]
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


def run_session(vector: Read) -> None:
    if vector.word("end") == "gateway":
        session = example.gateway_session()
    elif vector.word("end") == "line":
        run_line_session(vector)
        return
    else:
        session = example.lock_session(example.secret())
        session.begin()
        session.data_to_send()
    cutter = GattFraming(517, example.CHANNEL)
    for frame in vector.all("frame"):
        for fragment in cutter.cut(frame):
            session.receive_data(fragment)
    try:
        while (event := session.next_event()) is not None:
            trusting(session, event)
    finally:
        answer = [fragment[5:] for fragment in session.data_to_send()]
        assert answer == [vector.one("answer")]


def run_line_session(vector: Read) -> None:
    session = example.line_session(example.secret())
    for frame in vector.all("frame"):
        session.receive_data(frame)
    try:
        while (event := session.next_event()) is not None:
            trusting(session, event)
    finally:
        *hellos, answer = session.data_to_send()
        assert answer == vector.one("answer")
        assert set(hellos) <= {b"\x07" + messages.encode(example.hello(example.secret()))}


RUN = {
    "message": run_message,
    "hello": run_hello,
    "resume": run_resume,
    "fragments": run_fragments,
    "serial": run_serial,
    "records": run_records,
    "resumption": run_resumption,
    "handshake": run_handshake,
    "session": run_session,
}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_code_does_what_the_vector_says(path):
    vector = read(path)
    if vector.expect == "accept":
        RUN[vector.layer](vector)
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
