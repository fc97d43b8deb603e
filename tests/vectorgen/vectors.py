"""The test vectors: one text file per scenario.

    # what it shows
    expect: accept, or a fault; of a credential, a reason
    layer: message, hello, resume, fragments, serial, records, resumption, handshake,
           credential, session, label, proof, anchor, reset
    <name>: <hex or a word>        a name may repeat; order counts

`accept` vectors end with what must come out; of the others, the last input is
the one that must be refused, with that fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cbor, cose, messages
from firmware_proto.codes import Fault, FrameKind
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import Hello, Resume, State
from firmware_proto.messages import SEALED, FaultMessage, GetResult, Message
from firmware_proto.serial_framing import SerialFraming
from firmware_proto.session import ERROR_FRAME
from tests.support.messages import example as sample
from tests.vectorgen import claims, derivation, example
from tests.vectorgen.derivation import Trace
from tests.vectorgen.example import CHANNEL, frame
from tests.vectorgen.vector import ACCEPT, Vector

_LONG = bytes(range(256)) * 8


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from _good_messages()
    yield from _bad_messages()
    yield from _fragments()
    yield from _bad_fragments()
    yield from _serial()
    yield from _records()
    yield from _handshakes()
    yield from _credentials()
    yield from _sessions()
    yield from claims.vectors()


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
    state = cbor.decode(messages.encode(sample(State)))
    assert isinstance(state, dict)
    for name, about, change in (
        ("battery-short", "a battery of two items", {21: [2950, 71]}),
        ("battery-percent", "a battery at 101 percent", {21: [2950, 101, False]}),
        ("unsafe-integer", "a clock of 2^53", {15: 2**53}),
    ):
        yield _bad_message(name, about, cbor.encode({**state, **change}))
    unlatch = {0: 32, 1: example.COMMAND, 9: 9_000, 10: 3_000}
    for name, about, change in (
        ("no-duration", "Unlatch for 0 ms", {10: 0}),
        ("long-duration", "Unlatch for more than a minute", {10: 60_001}),
        ("negative", "a deadline below zero", {9: -1}),
    ):
        yield _bad_message(name, about, cbor.encode({**unlatch, **change}))
    piece = {0: 4, 1: example.REQUEST, 31: 0, 32: 5, 33: b"piece"}
    for name, about, change in (
        ("empty-piece", "Deliver without a byte", {33: b""}),
        ("long-piece", "a piece of 1793 bytes", {32: 65_536, 33: bytes(1793)}),
        ("no-total", "Deliver of nothing", {32: 0}),
        ("large-total", "Deliver of more than 65 536 bytes", {32: 65_537}),
        ("far-offset", "a piece behind 65 536 bytes", {31: 65_536}),
    ):
        yield _bad_message(name, about, cbor.encode({**piece, **change}))
    collect = {0: 5, 1: example.REQUEST, 31: 0, 34: 2}
    yield _bad_message("item", "an item that has no meaning", cbor.encode(collect))
    unknown_reason = {0: 49, 1: example.COMMAND, 5: 2, 6: 7, 15: 5_400}
    yield _bad_message("reason", "a reason that has no meaning", cbor.encode(unknown_reason))
    yield from _bad_plain()
    yield Vector(
        "message-bad-type", "a type without a meaning", "unsupported", "message",
        (("data", cbor.encode({0: 47, 1: bytes(16)})),),
    )  # fmt: skip


def _bad_plain() -> Iterator[Vector]:
    greeting = {28: bytes(8), 29: 1, 30: bytes(16), 15: 5_000}
    again = {28: bytes(8), 30: bytes(16)}
    for layer, name, about, content in (
        ("hello", "short-nonce", "a nonce of 15 bytes", {**greeting, 30: bytes(15)}),
        ("hello", "typed", "key 0 belongs to sealed messages", {**greeting, 0: 7}),
        ("hello", "null-session", "no session is absent, not null", {**greeting, 28: None}),
        ("resume", "no-nonce", "the nonce is missing", {28: bytes(8)}),
        ("resume", "epoch", "the epoch belongs to Hello", {**again, 29: 1}),
    ):
        data = cbor.encode(content)
        yield Vector(f"{layer}-bad-{name}", about, "malformed", layer, (("data", data),))


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
    first, second = GattFraming(23, CHANNEL).cut(_LONG[:20])
    yield _cut(
        "foreign-between", "what a central ignores is not counted", [first, *foreign, second],
        [_LONG[:20]], end="central",
    )  # fmt: skip
    yield _cut("foreign-short", "not even a channel", [b"\xc1"], [], end="central")
    late = GattFraming(23, None).cut(ERROR_FRAME)
    yield _spoken("unassigned-late", "0000 after the central has written", [], late, [])
    lock = GattFraming(23, None)
    before = lock.cut(b"\x07hello")
    lock.receive(CHANNEL + b"\xc0\x00\x01\x01")
    after = lock.cut(b"\x02there")
    yield _spoken(
        "adopted", "a lock writes 0000, then the channel; its numbers run on", before, after,
        [b"\x07hello", b"\x02there"],
    )  # fmt: skip


def _spoken(
    name: str, about: str, before: list[bytes], after: list[bytes], whole: list[bytes]
) -> Vector:
    """At a central that writes a frame in between."""
    lines = (
        ("end", "central"),
        ("channel", CHANNEL),
        *(("fragment", piece) for piece in before),
        ("writes", b"\x01"),
        *(("fragment", piece) for piece in after),
        *(("message", message) for message in whole),
    )
    return Vector(f"fragments-{name}", about, ACCEPT, "fragments", lines)


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
        ("no-data", "a length, and no data", Fault.MALFORMED, [CHANNEL + b"\xc0\x00\x01"]),
        ("empty-last", "the last is empty", Fault.MALFORMED, [first, CHANNEL + b"\x41"]),
        ("not-last", "all is there, but it is not called the last", Fault.MALFORMED,
         [CHANNEL + b"\x80\x00\x0f" + bytes(15)]),
        ("long", "a value of 513 bytes", Fault.MALFORMED,
         [CHANNEL + b"\xc0\x01\xfc" + bytes(508)]),
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
    far = [derivation.seal_record(cipher, iv, 0, at, b"far") for at in (255, 256, 257)]
    lines = (
        ("next counter", bytes([255])),
        *(("record", record) for record in far),
        *(("plaintext", b"far") for _ in far),
    )
    yield Vector("records-two-bytes", "the partial IV grows", ACCEPT, "records", (*keys, *lines))
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
        ("tagged", "with the tag of COSE_Encrypt0", Fault.MALFORMED, [b"\xd0" + good[0]]),
        ("header", "a key id beside the partial IV", Fault.MALFORMED,
         [good[0].replace(b"\xa1\x06\x41\x00", b"\xa2\x04\x41\x01\x06\x41\x00")]),
        ("counter", "a counter of six bytes", Fault.MALFORMED,
         [good[0].replace(b"\xa1\x06\x41\x00", b"\xa1\x06\x46\x01" + bytes(5))]),
        ("short-tag", "a tag of 8 bytes", Fault.AUTHENTICATION_FAILED,
         [derivation.seal_record(cipher, iv, 0, 0, b"more than a tag", tag_bytes=8)]),
        ("context", "sealed without external_aad", Fault.AUTHENTICATION_FAILED,
         [derivation.seal_record(cipher, iv, None, 0, b"first")]),
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


# --- credentials of gateways --------------------------------------------------------------
_NOW = 1_800_000_000
_TYPE = "application/gatewayd-gateway+cwt"


def _credentials() -> Iterator[Vector]:
    good = example.CREDENTIAL
    claims = cbor.decode(cbor.decode(good)[2])
    other = example.KEYS["issuer"]
    changed = good[:-1] + bytes([good[-1] ^ 1])
    yield _judged("phone", "", "as it should be", ACCEPT, good)
    yield _judged("phone", "-signature", "a bit is changed", "untrusted_gateway", changed)
    for name, about, data in (
        ("signer", "signed by another key", _signed(claims, signer=other)),
        ("type", "the type of a key token", _signed(claims, typ="application/gatewayd-key+cwt")),
        ("claim", "a claim that nobody knows", _signed({**claims, -65605: 1})),
        ("exp", "a claim is missing", _signed({k: v for k, v in claims.items() if k != 4})),
    ):
        yield _judged("phone", f"-{name}", about, "untrusted_gateway", data)
    yield _judged("phone", "-expired", "in its last second", "untrusted_gateway", good,
                  now=1_900_000_000)  # fmt: skip
    yield _judged("phone", "-door", "of another door", "wrong_gateway_door", good, door="cellar")
    yield _judged("phone", "-generation", "of a lower generation", "old_generation", good, seen=2)
    yield _judged("lock", "", "as it should be", ACCEPT, good)
    yield _judged("lock", "-higher", "of a higher generation", ACCEPT, good, seen=0)
    past = _signed({**claims, 4: claims[6] + 1})
    yield _judged("lock", "-expired", "a lock does not look at exp", ACCEPT, past)
    yield _judged("lock", "-signature", "a bit is changed", "untrusted_gateway", changed)
    yield _judged("lock", "-door", "of another door", "wrong_gateway_door", good, door="cellar")
    yield _judged("lock", "-generation", "of a lower generation", "old_generation", good, seen=2)


def _signed(
    claims: cbor.Encodable, *, signer: ec.EllipticCurvePrivateKey | None = None, typ: str = _TYPE
) -> bytes:
    return cose.sign1(
        cbor.encode(claims),
        signer or example.KEYS["gateways"],
        protected={cose.HEADER_TYP: typ},
        unprotected={cose.HEADER_KID: b"gateways-1"},
    )


def _judged(  # noqa: PLR0913 - what a credential is judged by
    end: str,
    name: str,
    about: str,
    expect: str,
    data: bytes,
    *,
    door: str = example.DOOR,
    seen: int = 1,
    now: int = _NOW,
) -> Vector:
    operator = example.KEYS["gateways"].public_key()
    lines = (
        ("end", end),
        ("gateways key", operator.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
        ("door", door),
        ("generation", str(seen)),
        *((("now", str(now)),) if end == "phone" else ()),
        ("credential", data),
    )
    return Vector(f"credential-{end}{name}", about, expect, "credential", lines)


# --- whole frames at one end --------------------------------------------------------------
_SILENCE: tuple[bytes, ...] = ()
_ERROR = (ERROR_FRAME,)


def _sessions() -> Iterator[Vector]:
    yield from _gateway_sessions()
    yield from _phone_sessions()
    yield from _lock_sessions()
    yield from _line_sessions()


def _gateway_sessions() -> Iterator[Vector]:
    phone, lock = example.phone_trace(), example.resumption_trace()
    message_1 = frame(FrameKind.MESSAGE_1, phone["message_1"])
    message_3 = frame(FrameKind.MESSAGE_3, phone["message_3"])
    record = frame(FrameKind.RECORD, phone["first record of the initiator"])
    resume = frame(FrameKind.RESUME, lock["Resume"])
    met = [message_1, message_3]
    off_the_curve = message_1.replace(phone["G_X"], _off_the_curve())
    for name, about, fault, frames, answer in (
        ("record-first", "a record before any key", Fault.UNEXPECTED, [record], _ERROR),
        ("twice", "message_1 twice", Fault.UNEXPECTED, [message_1, message_1], _ERROR),
        ("garbage", "a frame of an unknown kind", Fault.UNSUPPORTED, [b"\xff\x00"], _ERROR),
        ("attach", "Attach is for serial lines", Fault.UNEXPECTED, [b"\x09"], _ERROR),
        ("message-4", "message_4 is not used", Fault.UNSUPPORTED,
         [message_1, b"\x04\x48" + bytes(8)], _ERROR),
        ("hello", "Hello is for locks", Fault.UNEXPECTED,
         [frame(FrameKind.HELLO, lock["Hello"])], _ERROR),
        ("resume", "Resume is for locks", Fault.UNEXPECTED, [resume], _ERROR),
        ("truncated", "message_1 lacks a byte", Fault.MALFORMED, [message_1[:-1]], _ERROR),
        ("method", "method 0", Fault.UNSUPPORTED, [b"\x01\x00" + message_1[2:]], _ERROR),
        ("suite", "suite 3", Fault.UNSUPPORTED, [b"\x01\x03\x03" + message_1[3:]], _ERROR),
        ("point", "no point has this x", Fault.MALFORMED, [off_the_curve], _ERROR),
        ("critical", "a critical item of EAD_1", Fault.UNSUPPORTED,
         [message_1 + b"\x20"], _ERROR),
        ("forged", "message_3 is changed", Fault.AUTHENTICATION_FAILED,
         [message_1, _flipped(message_3)], _ERROR),
        ("forged-record", "a record that fails gets no answer", Fault.AUTHENTICATION_FAILED,
         [*met, _flipped(record)], _SILENCE),
        ("direction", "a phone says Result", Fault.UNEXPECTED,
         [*met, _said(phone, 0, example.OPENED)], (_fault(phone, Fault.UNEXPECTED),)),
        ("command", "GetResult with a command is for locks", Fault.UNEXPECTED,
         [*met, _said(phone, 0, GetResult(example.REQUEST, example.COMMAND))],
         (_fault(phone, Fault.UNEXPECTED),)),
        ("sealed-malformed", "a sealed message that is none", Fault.MALFORMED,
         [*met, _sealed(phone, 0, b"\xa0")], (_fault(phone, Fault.MALFORMED),)),
        ("sealed-unsupported", "a sealed message of an unknown type", Fault.UNSUPPORTED,
         [*met, _sealed(phone, 0, b"\xa1\x00\x06")], (_fault(phone, Fault.UNSUPPORTED),)),
    ):  # fmt: skip
        yield _session("gateway", name, about, fault, frames, answer, "handshake-phone")
    answer = (_message_2_after(message_1[1:] + b"\x05"),)
    yield _session(
        "gateway", "ead", "an item of EAD_1 that is not critical", None,
        [message_1 + b"\x05"], answer, "handshake-phone",
    )  # fmt: skip
    yield _session(
        "gateway", "error", "an error is not answered; its body counts for nothing", None,
        [message_1, b"\x06"], _SILENCE, "handshake-phone",
    )  # fmt: skip


def _phone_sessions() -> Iterator[Vector]:
    phone = example.phone_trace()
    message_2 = frame(FrameKind.MESSAGE_2, phone["message_2"])
    result = frame(FrameKind.RECORD, phone["first record of the responder"])
    for name, about, fault, frames, answer in (
        ("record-first", "a record before any key", Fault.UNEXPECTED, [result], _ERROR),
        ("forged", "MAC_2 is changed", Fault.AUTHENTICATION_FAILED, [_flipped(message_2)], _ERROR),
        ("key-id", "a gateway that only names its key", Fault.UNSUPPORTED,
         [frame(FrameKind.MESSAGE_2, _by_key_id(phone))], _ERROR),
        ("forged-record", "a record that fails gets no answer", Fault.AUTHENTICATION_FAILED,
         [message_2, _flipped(result)], _SILENCE),
        ("late-error", "after records both ways, no error is expected", Fault.UNEXPECTED,
         [message_2, result, ERROR_FRAME], _SILENCE),
    ):  # fmt: skip
        yield _session("phone", name, about, fault, frames, answer, "handshake-phone")
    for name, about, frames in (
        ("error", "refused by the gateway, or by anybody on the air", [ERROR_FRAME]),
        ("error-spoken", "an error after Open: nobody knows what became of it",
         [message_2, ERROR_FRAME]),
    ):  # fmt: skip
        yield _session("phone", name, about, None, frames, _SILENCE, "handshake-phone")


def _lock_sessions() -> Iterator[Vector]:
    lock = example.resumption_trace()
    first = example.lock_trace()
    message_1 = frame(FrameKind.MESSAGE_1, first["message_1"])
    message_3 = frame(FrameKind.MESSAGE_3, first["message_3"])
    resume = frame(FrameKind.RESUME, lock["Resume"])
    command = frame(FrameKind.RECORD, lock["first record of the initiator"])
    session = example.secret().session

    def other(session: bytes, nonce: bytes) -> bytes:
        return frame(FrameKind.RESUME, messages.encode(Resume(session, nonce)))

    short = frame(FrameKind.RESUME, cbor.encode({28: session, 30: bytes(15)}))
    for name, about, fault, frames, answer in (
        ("other-session", "Resume of another session than the Hello's",
         Fault.AUTHENTICATION_FAILED, [other(bytes(8), example.NONCE_GATEWAY)], _ERROR),
        ("other-nonce", "a record made with another nonce", Fault.AUTHENTICATION_FAILED,
         [other(session, bytes(16)), command], _ERROR),
        ("forged-record", "until a record opens, nobody is authenticated",
         Fault.AUTHENTICATION_FAILED, [resume, _flipped(command)], _ERROR),
        ("short-nonce", "Resume with a nonce of 15 bytes", Fault.MALFORMED, [short], _ERROR),
        ("resumed-twice", "a second Resume", Fault.UNEXPECTED, [resume, resume], _ERROR),
        ("record-first", "a record before Resume", Fault.UNEXPECTED, [command], _ERROR),
        ("handshake-too", "message_1 after Resume", Fault.UNEXPECTED,
         [resume, message_1], _ERROR),
        ("resume-too", "Resume after message_1", Fault.UNEXPECTED, [message_1, resume], _ERROR),
        ("attach", "Attach is for serial lines", Fault.UNEXPECTED,
         [frame(FrameKind.ATTACH, b"")], _ERROR),
        ("direction", "a gateway says Done", Fault.UNEXPECTED,
         [resume, _said(lock, 0, example.DONE)], (_fault(lock, Fault.UNEXPECTED),)),
        ("no-command", "GetResult without a command is for gateways", Fault.UNEXPECTED,
         [resume, _said(lock, 0, GetResult(example.REQUEST, None))],
         (_fault(lock, Fault.UNEXPECTED),)),
    ):  # fmt: skip
        yield _session("lock", name, about, fault, frames, answer, "resumption")
    for name, about, fault, frames, answer in (
        ("nothing-remembered", "Resume, though the Hello named no session",
         Fault.AUTHENTICATION_FAILED, [resume], _ERROR),
        ("forged", "message_3 is changed", Fault.AUTHENTICATION_FAILED,
         [message_1, _flipped(message_3)], _ERROR),
    ):  # fmt: skip
        yield _session("lock", name, about, fault, frames, answer, "handshake-lock")


def _line_sessions() -> Iterator[Vector]:
    lock = example.resumption_trace()
    attach = frame(FrameKind.ATTACH, b"")
    resume = frame(FrameKind.RESUME, lock["Resume"])
    command = frame(FrameKind.RECORD, lock["first record of the initiator"])
    for name, about, fault, frames in (
        ("attach-body", "Attach has no body", Fault.MALFORMED, [attach + b"\x00"]),
        ("attach-late", "Attach after Resume is for the next connection",
         Fault.UNEXPECTED, [attach, attach, resume, attach]),
        ("record-first", "a record before Attach", Fault.UNEXPECTED, [command]),
    ):  # fmt: skip
        yield _session("line", name, about, fault, frames, _ERROR, "resumption")


def _session(  # noqa: PLR0913, PLR0917 - the parts of a vector
    end: str,
    name: str,
    about: str,
    fault: Fault | None,
    frames: list[bytes],
    answer: tuple[bytes, ...],
    uses: str,
) -> Vector:
    expect = ACCEPT if fault is None else fault.name.lower()
    lines = (
        ("end", end),
        ("uses", uses),
        *(("frame", item) for item in frames),
        *(("answer", item) for item in answer),
    )
    return Vector(f"session-{end}-{name}", about, expect, "session", lines)


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _sealed(trace: Trace, direction: int, plaintext: bytes) -> bytes:
    """The first record of one side."""
    key, iv = trace[_KEY_NAMES[direction]], trace[_KEY_NAMES[2 + direction]]
    return frame(FrameKind.RECORD, derivation.seal_record(key, iv, direction, 0, plaintext))


def _said(trace: Trace, direction: int, message: Message) -> bytes:
    return _sealed(trace, direction, messages.encode(message))


def _fault(trace: Trace, fault: Fault) -> bytes:
    return _said(trace, 1, FaultMessage(None, fault))


def _off_the_curve() -> bytes:
    """The least x for which no point exists."""
    for x in range(1, 100):
        candidate = x.to_bytes(32, "big")
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + candidate)
        except ValueError:
            return candidate
    raise AssertionError


def _message_2_after(message_1: bytes) -> bytes:
    """What the gateway of the example answers to another message_1 of the same phone."""
    trace = derivation.message_2_after(message_1, example.phone_side(), example.gateway_side())
    return frame(FrameKind.MESSAGE_2, trace["message_2"])


def _by_key_id(phone: Trace) -> bytes:
    """message_2 in which ID_CRED_R is `{4: h'6777'}`; all its MACs are those of the example."""
    plaintext = b"\x2b\x42gw" + derivation.bstr(phone["MAC_2"])
    hidden = bytes(a ^ b for a, b in zip(plaintext, derivation.keystream_2(phone, len(plaintext)),
                                         strict=True))  # fmt: skip
    return derivation.bstr(phone["G_Y"] + hidden)
