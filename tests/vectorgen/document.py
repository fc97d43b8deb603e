"""The worked example of PROTOCOL.md, written from the example's real bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from firmware_proto.framing import GattFraming
from tests.vectorgen import example
from tests.vectorgen.derivation import Trace
from tests.vectorgen.vectors import private

BEGIN = "<!-- worked example: written by `python -m tests.vectorgen`; do not edit -->"
END = "<!-- worked example: end -->"

_PHONE_STEPS = (
    (
        "The phone makes message_1",
        "Method 3, suite 2, its ephemeral key, its connection identifier.",
        ("G_X", "message_1"),
    ),
    (
        "The gateway makes message_2",
        ("G_XY is ECDH of the two ephemeral keys, G_RX of the gateway's static key and the "
        "phone's ephemeral key. PLAINTEXT_2 is C_R, ID_CRED_R, MAC_2."),
        ("G_Y", "H(message_1)", "TH_2", "G_XY", "PRK_2e", "SALT_3e2m", "G_RX", "PRK_3e2m",
         "context_2", "MAC_2", "PLAINTEXT_2", "KEYSTREAM_2", "message_2"),
    ),
    (
        "The phone believes the gateway and makes message_3",
        ("First it checks the signature of the gateway credential, that it names the door that "
        "the user chose, and MAC_2. G_IY is ECDH of the phone's static key and the gateway's "
        "ephemeral key. PLAINTEXT_3 is ID_CRED_I, MAC_3."),
        ("TH_3", "SALT_4e3m", "G_IY", "PRK_4e3m", "context_3", "MAC_3", "PLAINTEXT_3", "K_3",
         "IV_3", "A_3", "message_3"),
    ),
    (
        "Both derive the keys of the records",
        "EDHOC_Exporter with labels 32768 to 32771 and an empty context.",
        ("TH_4", "PRK_out", "PRK_exporter", "key initiator to responder",
         "key responder to initiator", "IV initiator to responder", "IV responder to initiator"),
    ),
    (
        "The phone asks, in the same flight as message_3",
        '`Open{request, door "street", open, tap}`.',
        ("first request", "first record of the initiator"),
    ),
    (
        "The gateway answers",
        "`Result{request, confirmed, ok, padding}`, 384 bytes before it is sealed.",
        ("first answer", "first record of the responder"),
    ),
)  # fmt: skip


def worked_example() -> str:
    """The section between the two marks, marks included."""
    parts = [BEGIN, "", *_identities(), *_opening(), *_fragments(), *_resumed(), END]
    return "\n".join(parts)


def replaced(document: str) -> str:
    """The document with its worked example made current."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return before + worked_example() + after


def _identities() -> Iterable[str]:
    yield "### Who takes part"
    yield ""
    yield (
        "**These keys are published. Whoever uses one of them outside a test gives every "
        "reader of this page the key to the door.** Each private key is SHA-256 of "
        '"gatewayd test key: " followed by its name, as a big-endian number modulo the order '
        "of P-256."
    )
    yield ""
    for name, key in example.KEYS.items():
        yield from _value(f"private key `{name}`", private(key))
    yield from _value("C_I, the phone's connection identifier", example.PHONE_ID)
    yield from _value("C_R, the gateway's connection identifier", example.GATEWAY_ID)
    yield from _value("CRED_R, the gateway credential, signed by `gateways`", example.CREDENTIAL)
    yield from _value("CRED_I, the key token, signed by `issuer`", example.TOKEN)


def _opening() -> Iterable[str]:
    trace = example.phone_trace()
    for number, (title, text, names) in enumerate(_PHONE_STEPS, 1):
        yield f"### {number}. {title}"
        yield ""
        yield from textwrap.wrap(text, 98)
        yield ""
        yield from _values(trace, names)


def _fragments() -> Iterable[str]:
    mtu = 185
    phone, gateway = example.phone_frames(mtu)
    yield f"### On the air at MTU {mtu}"
    yield ""
    yield (
        f"The phone drew channel `{example.CHANNEL.hex()}`. Values of `request` and `response`, "
        "in the order of each side:"
    )
    yield ""
    for side, fragments in (("phone", phone), ("gateway", gateway)):
        frames = _frames(fragments)
        yield f"{side} ({len(fragments)} values, {len(frames)} messages)"
        yield ""
        yield from _block(*(_wrapped(fragment) for fragment in fragments))


def _frames(fragments: list[bytes]) -> list[bytes]:
    framing = GattFraming(517, example.CHANNEL)
    return [frame for fragment in fragments for frame in framing.receive(fragment)]


def _resumed() -> Iterable[str]:
    yield "### A gateway and a lock that remember each other"
    yield ""
    yield from textwrap.wrap(
        "The handshake of these two is in `vectors/handshake-lock.txt`, value by value; there "
        "ID_CRED_R is `{4: key id}` and stands in PLAINTEXT_2 as the bare byte string. On the "
        "next connection:",
        98,
    )
    yield ""
    yield from _value("session id", example.secret().session)
    yield from _values(example.resumption_trace(), tuple(example.resumption_trace().values))


def _values(trace: Trace, names: tuple[str, ...]) -> Iterable[str]:
    for name in names:
        yield from _value(name, trace[name])


def _value(name: str, value: bytes) -> Iterable[str]:
    yield f"{name} ({len(value)} byte{'' if len(value) == 1 else 's'})"
    yield ""
    yield from _block(_wrapped(value))


def _block(*values: str) -> Iterable[str]:
    yield "```"
    yield "\n\n".join(values)
    yield "```"
    yield ""


def _wrapped(value: bytes) -> str:
    return "\n".join(value[at : at + 32].hex() for at in range(0, len(value), 32))
