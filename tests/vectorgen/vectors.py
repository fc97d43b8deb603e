"""The test vectors: one text file per scenario.

    # what it shows
    expect: accept, or a fault
    layer: message, hello, resume, fragments, serial, records, resumption, handshake, session
    <name>: <hex or a word>        a name may repeat; order counts

`accept` vectors end with what must come out; of the others, the last input is
the one that must be refused, with that fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, messages
from firmware_proto.codes import Fault, FrameKind
from firmware_proto.framing import GattFraming
from firmware_proto.messages import SEALED, Hello, Resume
from firmware_proto.serial_framing import SerialFraming
from firmware_proto.session import ERROR_FRAME
from tests.support.messages import example as sample
from tests.vectorgen import derivation, example
from tests.vectorgen.derivation import Trace
from tests.vectorgen.example import CHANNEL, frame

ACCEPT = "accept"
_LONG = bytes(range(256)) * 8


@dataclass(frozen=True)
class Vector:
    """One file."""

    name: str
    about: str
    expect: str
    layer: str
    lines: tuple[tuple[str, bytes | str], ...]

    def text(self) -> str:
        rows = [f"# {self.about}", f"expect: {self.expect}", f"layer: {self.layer}"]
        for name, value in self.lines:
            rows.append(f"{name}: {value.hex() if isinstance(value, bytes) else value}")
        return "\n".join(rows) + "\n"


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from _good_messages()
    yield from _bad_messages()
    yield from _fragments()
    yield from _bad_fragments()
    yield from _serial()
    yield from _records()
    yield from _handshakes()
    yield from _sessions()


# --- messages -------------------------------------------------------------------------
def _good_messages() -> Iterator[Vector]:
    for cls in (*SEALED.values(), Hello, Resume):
        layer = "message" if cls in SEALED.values() else cls.__name__.lower()
        for full in (True, False):
            message = sample(cls, full=full)
            if not full and message == sample(cls):
                continue
            name = cls.__name__.removesuffix("Message").lower() + ("" if full else "-short")
            about = f"{cls.__name__}, {'every field' if full else 'optional fields absent'}"
            data = messages.encode(message)
            yield Vector(f"message-{name}", about, ACCEPT, layer, (("data", data),))
    data = messages.encode(example.OPENED)
    yield Vector(
        "message-result-padded", "Result as sent: 384 bytes", ACCEPT, "message", (("data", data),)
    )


_BAD_MESSAGES = {
    "empty": ("nothing at all", ""),
    "not-a-map": ("an array", "8101"),
    "empty-map": ("no type", "a0"),
    "type-as-text": ("the type is a text", "a1006161"),
    "missing-key": ("Prepare without a door", "a10001"),
    "unknown-key": ("Prepare with key 31", "a300010266737472656574181f00"),
    "key-order": ("keys in descending order", "a202667374726565740001"),
    "double-key": ("a key twice", "a3000102667374726565740266737472656574"),
    "indefinite-map": ("a map of indefinite length", "bf00010266737472656574ff"),
    "indefinite-text": ("a text of indefinite length", "a20001027f66737472656574ff"),
    "long-integer": ("the type in two bytes where one does", "a20018010266737472656574"),
    "trailing-byte": ("a byte after the message", "a20001026673747265657400"),
    "null-option": ("an optional key that is null", "a300183f01f6181b01"),
    "tagged": ("a tagged text", "a2000102d82066737472656574"),
    "bad-utf8": ("a door that is no UTF-8", "a200010262fffe"),
    "empty-door": ("a door without a name", "a200010260"),
    "float-type": ("the type as a float", "a200f93c000266737472656574"),
}


def _bad_messages() -> Iterator[Vector]:
    for name, (about, data) in _BAD_MESSAGES.items():
        yield _bad_message(name, about, bytes.fromhex(data))
    door = {0: 1, 2: "d" * 33}
    yield _bad_message("long-door", "a door name of 33 bytes", cbor.encode(door))
    opening = {0: 2, 1: example.REQUEST, 2: "street", 3: 1, 4: 2}
    for name, about, change in (
        ("two-actions", "Open with two action bits", {3: 3}),
        ("no-action", "Open with no action bit", {3: 0}),
        ("short-id", "a request id of 15 bytes", {1: bytes(15)}),
        ("bool-action", "true where an integer belongs", {3: True}),
    ):
        yield _bad_message(name, about, cbor.encode({**opening, **change}))
    state = cbor.decode(messages.encode(sample(messages.State)))
    assert isinstance(state, dict)
    for name, about, change in (
        ("battery-short", "a battery of two items", {21: [2950, 71]}),
        ("battery-percent", "a battery at 101 percent", {21: [2950, 101, False]}),
        ("unsafe-integer", "a clock of 2^53", {15: 2**53}),
    ):
        yield _bad_message(name, about, cbor.encode({**state, **change}))
    yield Vector(
        "message-bad-type", "a type without a meaning", "unsupported", "message",
        (("data", cbor.encode({0: 40, 1: bytes(16)})),),
    )  # fmt: skip


def _bad_message(name: str, about: str, data: bytes) -> Vector:
    return Vector(f"message-bad-{name}", about, "malformed", "message", (("data", data),))


# --- transport ------------------------------------------------------------------------
def _fragments() -> Iterator[Vector]:
    for mtu in (23, 64, 185, 517):
        for size in (1, 300, 2048):
            message = _LONG[:size]
            pieces = GattFraming(mtu, CHANNEL).cut(message)
            yield _cut(f"{mtu}-{size}", f"{size} bytes at MTU {mtu}", pieces, [message])
    framing = GattFraming(23, CHANNEL)
    many = [_LONG[:20]] * 40
    pieces = [piece for message in many for piece in framing.cut(message)]
    yield _cut("sequence", "sequence numbers run on and wrap at 64", pieces, many)
    hello = GattFraming(23, None).cut(b"\x07hello")
    yield _cut("unassigned", "a lock's first words", hello, [b"\x07hello"], end="central")
    foreign = GattFraming(23, b"\x01\x02").cut(b"for another")
    yield _cut("foreign", "a central ignores other channels", foreign, [], end="central")


def _cut(
    name: str, about: str, pieces: list[bytes], whole: list[bytes], *, end: str = "peripheral"
) -> Vector:
    lines = (("end", end), *(("fragment", piece) for piece in pieces))
    if end == "central":
        lines = (("end", end), ("channel", CHANNEL), *lines[1:])
    expected = tuple(("message", message) for message in whole)
    return Vector(f"fragments-{name}", about, ACCEPT, "fragments", (*lines, *expected))


def _bad_fragments() -> Iterator[Vector]:
    first, second, third, *_ = GattFraming(23, CHANNEL).cut(_LONG[:100])
    for name, about, fault, pieces in (
        ("lost", "a fragment is missing", Fault.OUT_OF_ORDER, [first, third]),
        ("repeated", "a fragment comes twice", Fault.OUT_OF_ORDER, [first, second, second]),
        ("started-late", "the first fragment is missing", Fault.OUT_OF_ORDER, [second]),
        ("interleaved", "a message begins within another", Fault.UNEXPECTED,
         [first, CHANNEL + b"\x81\x00\x64" + bytes(15)]),
        ("no-beginning", "a continuation of nothing", Fault.UNEXPECTED, [CHANNEL + b"\x40x"]),
        ("foreign", "another channel, at a peripheral", Fault.UNEXPECTED,
         [first, b"\x01\x02" + second[2:]]),
        ("unassigned", "a central without a channel", Fault.MALFORMED, [b"\x00\x00\xc0\x00\x01x"]),
        ("short", "a fragment of one byte", Fault.MALFORMED, [b"\xc1"]),
        ("empty", "a fragment without data", Fault.MALFORMED, [CHANNEL + b"\xc0"]),
        ("not-full", "not the last, and not full", Fault.MALFORMED,
         [CHANNEL + b"\x80\x00\x64" + bytes(14)]),
        ("too-much", "more data than announced", Fault.MALFORMED, [CHANNEL + b"\xc0\x00\x01xy"]),
        ("too-little", "the last, but data is missing", Fault.MALFORMED,
         [CHANNEL + b"\xc0\x00\x03xy"]),
        ("zero", "an announced length of 0", Fault.MALFORMED, [CHANNEL + b"\xc0\x00\x00x"]),
        ("too-large", "an announced length of 2049", Fault.TOO_LARGE,
         [CHANNEL + b"\x80\x08\x01" + bytes(15)]),
    ):  # fmt: skip
        lines = (("end", "peripheral"), *(("fragment", piece) for piece in pieces))
        yield Vector(f"fragments-bad-{name}", about, fault.name.lower(), "fragments", lines)


def _serial() -> Iterator[Vector]:
    for name, about, message in (
        ("short", "a short message", b"\x05\x00hello\x00"),
        ("zeros", "nothing but zeros", bytes(300)),
        ("block", "a block of 254 and more", b"\x01" * 600),
    ):
        (chunk,) = SerialFraming().cut(message)
        yield Vector(
            f"serial-{name}", about, ACCEPT, "serial", (("chunk", chunk), ("message", message))
        )
    (chunk,) = SerialFraming().cut(b"damaged")
    (good,) = SerialFraming().cut(b"whole")
    damaged = chunk.replace(b"dam", b"dim")
    yield Vector(
        "serial-damaged", "a damaged frame is dropped, the next one counts", ACCEPT, "serial",
        (("chunk", b"noise" + damaged), ("chunk", good), ("message", b"whole")),
    )  # fmt: skip


# --- sealed -----------------------------------------------------------------------------
_KEY_NAMES = (
    "key initiator to responder",
    "key responder to initiator",
    "IV initiator to responder",
    "IV responder to initiator",
)


def _records() -> Iterator[Vector]:
    trace = example.phone_trace()
    keys = tuple((name, trace[name]) for name in _KEY_NAMES)
    cipher, iv = trace[_KEY_NAMES[0]], trace[_KEY_NAMES[2]]
    plain = [b"first", b"", b"third"]
    good = [derivation.seal_record(cipher, iv, 0, at, text) for at, text in enumerate(plain)]
    lines = (*(("record", record) for record in good), *(("plaintext", text) for text in plain))
    yield Vector("records", "three records of the initiator", ACCEPT, "records", (*keys, *lines))
    other_way = derivation.seal_record(cipher, iv, 1, 0, b"first")
    for name, about, fault, chosen in (
        ("repeated", "a record comes twice", Fault.REPLAYED, [good[0], good[0]]),
        ("skipped", "a record is missing", Fault.OUT_OF_ORDER, [good[0], good[2]]),
        ("late", "the first record is missing", Fault.OUT_OF_ORDER, [good[1]]),
        ("changed", "a bit is changed", Fault.AUTHENTICATION_FAILED,
         [good[0][:-1] + bytes([good[0][-1] ^ 1])]),
        ("direction", "sealed for the other direction", Fault.AUTHENTICATION_FAILED, [other_way]),
        ("algorithm", "another algorithm", Fault.MALFORMED,
         [good[0].replace(b"\x01\x18\x1e", b"\x01\x18\x1f")]),
        ("long-counter", "a partial IV with a leading zero", Fault.MALFORMED,
         [good[0].replace(b"\xa1\x06\x41\x00", b"\xa1\x06\x42\x00\x00")]),
        ("truncated", "a byte is missing", Fault.MALFORMED, [good[0][:-1]]),
    ):  # fmt: skip
        lines = tuple(("record", record) for record in chosen)
        yield Vector(f"records-bad-{name}", about, fault.name.lower(), "records", (*keys, *lines))


# --- handshakes ---------------------------------------------------------------------------
def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The scalar."""
    return key.private_numbers().private_value.to_bytes(32, "big")


def _handshakes() -> Iterator[Vector]:
    for name, about, one, other, trace in (
        ("phone", "a phone and a gateway", example.phone_side(), example.gateway_side(),
         example.phone_trace()),
        ("lock", "a gateway and a lock", example.dialling_side(), example.lock_side(),
         example.lock_trace()),
    ):  # fmt: skip
        inputs = []
        for side, letter in ((one, "initiator"), (other, "responder")):
            inputs += [
                (f"{letter} ephemeral key", private(side.ephemeral)),
                (f"{letter} static key", private(side.static)),
                (f"{letter} connection identifier", side.identifier),
                (f"{letter} ID_CRED", side.id_cred),
                (f"{letter} CRED", side.cred),
            ]
        lines = (*inputs, *trace.values.items())
        yield Vector(f"handshake-{name}", about, ACCEPT, "handshake", lines)
    resumed: Trace = example.resumption_trace()
    yield Vector(
        "resumption", "the next connection of handshake-lock", ACCEPT, "resumption",
        (("session id", example.secret().session), *resumed.values.items()),
    )  # fmt: skip


# --- whole frames at one end --------------------------------------------------------------
def _sessions() -> Iterator[Vector]:
    phone, lock = example.phone_trace(), example.resumption_trace()
    message_1 = frame(FrameKind.MESSAGE_1, phone["message_1"])
    message_3 = frame(FrameKind.MESSAGE_3, phone["message_3"])
    record = frame(FrameKind.RECORD, phone["first record of the initiator"])
    resume = frame(FrameKind.RESUME, lock["Resume"])
    command = frame(FrameKind.RECORD, lock["first record of the initiator"])
    changed = message_3[:-1] + bytes([message_3[-1] ^ 1])
    other_session = messages.encode(Resume(bytes(8), example.NONCE_GATEWAY))
    other_resume = frame(FrameKind.RESUME, other_session)
    other_nonce = frame(
        FrameKind.RESUME, messages.encode(Resume(example.secret().session, bytes(16)))
    )
    attach = frame(FrameKind.ATTACH, b"")
    for end, name, about, fault, frames in (
        ("gateway", "record-first", "a record before any key", Fault.UNEXPECTED, [record]),
        ("gateway", "twice", "message_1 twice", Fault.UNEXPECTED, [message_1, message_1]),
        ("gateway", "garbage", "a frame of an unknown kind", Fault.UNSUPPORTED, [b"\xff\x00"]),
        ("gateway", "truncated", "message_1 lacks a byte", Fault.MALFORMED, [message_1[:-1]]),
        ("gateway", "forged", "message_3 is changed", Fault.AUTHENTICATION_FAILED,
         [message_1, changed]),
        ("gateway", "resume", "Resume is for locks", Fault.UNEXPECTED, [resume]),
        ("lock", "other-session", "Resume of another session than the Hello's",
         Fault.AUTHENTICATION_FAILED, [other_resume]),
        ("lock", "other-nonce", "a record made with another nonce", Fault.AUTHENTICATION_FAILED,
         [other_nonce, command]),
        ("lock", "resumed-twice", "a second Resume", Fault.UNEXPECTED, [resume, resume]),
        ("lock", "record-first", "a record before Resume", Fault.UNEXPECTED, [command]),
        ("line", "attach-body", "Attach has no body", Fault.MALFORMED, [attach + b"\x00"]),
        ("line", "attach-late", "Attach after Resume is for the next connection",
         Fault.UNEXPECTED, [attach, attach, resume, attach]),
        ("line", "record-first", "a record before Attach", Fault.UNEXPECTED, [command]),
        ("lock", "attach", "Attach is for serial lines", Fault.UNEXPECTED, [attach]),
        ("lock", "handshake-too", "message_1 after Resume", Fault.UNEXPECTED, [resume, message_1]),
    ):  # fmt: skip
        lines = (
            ("end", end),
            ("uses", "handshake-phone" if end == "gateway" else "resumption"),
            *(("frame", item) for item in frames),
            ("answer", ERROR_FRAME),
        )
        yield Vector(f"session-{end}-{name}", about, fault.name.lower(), "session", lines)
