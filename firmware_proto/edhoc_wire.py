"""What EDHOC messages and plaintexts consist of (RFC 9528 §3.3, §3.5, §3.8, §5), as bytes.

Everything here is strict CBOR: each message has one encoding, and a message
that parses is composed again to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from firmware_proto import cbor
from firmware_proto.codes import MAX_MESSAGE_BYTES, Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

KID: Final = 4  # COSE header parameters naming credentials (RFC 9052 §3.1, RFC 9528 §10.6)
KCWT: Final = 13

SUITE: Final = 2  # P-256, SHA-256, AES-CCM-16-64-128
X_BYTES: Final = 32


class Method(NamedTuple):
    """How the two sides prove their credentials (RFC 9528 §3.2)."""

    mac_2_bytes: int
    mac_3_bytes: int


STATIC_DH: Final = 3
METHODS: Final[dict[int, Method]] = {STATIC_DH: Method(mac_2_bytes=8, mac_3_bytes=8)}


class Ead(NamedTuple):
    """An item of external authorization data (RFC 9528 §3.8); a negative label is critical."""

    label: int
    value: bytes | None = None


class Message1(NamedTuple):
    """message_1 (RFC 9528 §5.2.1)."""

    method: int
    suites: tuple[int, ...]
    g_x: bytes
    c_i: bytes
    ead: tuple[Ead, ...]


class Plaintext(NamedTuple):
    """PLAINTEXT_2 without C_R, or PLAINTEXT_3 (RFC 9528 §5.3.2, §5.4.2)."""

    id_cred: dict[Any, Any]
    mac: bytes
    ead: tuple[Ead, ...]


_ONE_BYTE: Final[dict[bytes, int]] = {cbor.encode(number): number for number in range(-24, 24)}
"""Identifiers that travel as the number that they encode (RFC 9528 §3.3.2)."""


def compose_message_1(message: Message1) -> bytes:
    """LocalProtocolError when it grows too large."""
    suites = message.suites[0] if len(message.suites) == 1 else list(message.suites)
    fixed = cbor.encode_sequence((message.method, suites, message.g_x))
    return _checked(fixed + encode_identifier(message.c_i) + encode_ead(message.ead))


def parse_message_1(data: bytes) -> Message1:
    """RemoteProtocolError: MALFORMED, or UNSUPPORTED for method, suite and critical EAD."""
    items = _sequence(data)
    if len(items) < 4:  # noqa: PLR2004 - METHOD, SUITES_I, G_X, C_I
        raise malformed("message_1 has fewer than four items")
    method, suites, g_x, c_i = items[:4]
    if type(method) is not int:
        raise malformed("METHOD is no number")
    selectable = _parse_suites(suites)
    if not isinstance(g_x, bytes):
        raise malformed("G_X is no byte string")
    parsed = Message1(method, selectable, g_x, _identifier(c_i, "C_I"), _parse_ead(items[4:]))
    if method not in METHODS:
        raise _unsupported("the method")
    # RFC 9528 §6.3: the last one is selected, those before are preferred
    if SUITE in selectable[:-1]:
        raise _unsupported("a suite that we support was passed over")
    if selectable[-1] != SUITE:
        raise _unsupported("the selected suite")
    if len(g_x) != X_BYTES:
        raise malformed("G_X is not 32 bytes long")
    return parsed


def parse_message_2(data: bytes) -> tuple[bytes, bytes]:
    """G_Y and CIPHERTEXT_2."""
    joined = parse_ciphertext(data)
    if len(joined) <= X_BYTES:
        raise malformed("message_2 is too short")
    return joined[:X_BYTES], joined[X_BYTES:]


def compose_ciphertext(content: bytes) -> bytes:
    """message_2, message_3 and message_4: one byte string."""
    return _checked(cbor.byte_string(content))


def parse_ciphertext(data: bytes) -> bytes:
    """The one byte string of message_2, message_3 or message_4."""
    items = _sequence(data)
    if len(items) != 1:
        raise malformed("not one item")
    if not isinstance(items[0], bytes):
        raise malformed("no byte string")
    return items[0]


def compose_plaintext(content: Plaintext) -> bytes:
    """ID_CRED in its short form, MAC, EAD."""
    mac = cbor.byte_string(content.mac)
    return _encode_id_cred(content.id_cred) + mac + encode_ead(content.ead)


def parse_plaintext_2(data: bytes, mac_bytes: int) -> tuple[bytes, Plaintext]:
    """C_R and the rest."""
    items = cbor.decode_sequence(data)
    if not items:
        raise malformed("the plaintext is empty")
    return _identifier(items[0], "C_R"), _parse_plaintext(items[1:], mac_bytes)


def parse_plaintext_3(data: bytes, mac_bytes: int) -> Plaintext:
    """ID_CRED_I, MAC_3 and EAD_3."""
    return _parse_plaintext(cbor.decode_sequence(data), mac_bytes)


def parse_plaintext_4(data: bytes) -> tuple[Ead, ...]:
    """EAD_4."""
    return _parse_ead(cbor.decode_sequence(data))


def encode_identifier(identifier: bytes) -> bytes:
    """RFC 9528 §3.3.2: one byte that encodes a number travels as this number."""
    return identifier if identifier in _ONE_BYTE else cbor.byte_string(identifier)


def check_size(plaintext: bytes) -> None:
    """LocalProtocolError for what fits no message: the key stream has an end, too."""
    _checked(plaintext)


def encode_ead(items: Sequence[Ead]) -> bytes:
    """The sequence of labels and values."""
    return b"".join(
        cbor.encode(label) if value is None else cbor.encode_sequence((label, value))
        for label, value in items
    )


def check_id_cred(id_cred: cbor.Encodable) -> dict[Any, Any]:
    """LocalProtocolError unless our own ID_CRED is one that a peer may accept."""
    try:
        return _id_cred(cbor.decode(cbor.encode(id_cred)))
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.detail) from None


def malformed(detail: str) -> RemoteProtocolError:
    """The peer's bytes are not EDHOC."""
    return RemoteProtocolError(Fault.MALFORMED, f"EDHOC: {detail}")


# --- details --------------------------------------------------------------------
def _unsupported(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.UNSUPPORTED, f"EDHOC: {what}")


def _checked(message: bytes) -> bytes:
    if len(message) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError("the EDHOC message grows too large")
    return message


def _sequence(data: bytes) -> list[cbor.Value]:
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(Fault.TOO_LARGE, "EDHOC: the message")
    return cbor.decode_sequence(data)


def _parse_suites(value: cbor.Value) -> tuple[int, ...]:
    """RFC 9528 §5.2.1: a number, or an array of at least two."""
    if isinstance(value, list):
        if len(value) < 2:  # noqa: PLR2004 - said in words above
            raise malformed("SUITES_I is an array of fewer than two")
        suites = tuple(suite for suite in value if type(suite) is int)
        if len(suites) != len(value):
            raise malformed("SUITES_I holds something else than numbers")
        return suites
    if type(value) is not int:
        raise malformed("SUITES_I is neither number nor array")
    return (value,)


def _identifier(value: cbor.Value, name: str) -> bytes:
    """The byte string behind its representation (RFC 9528 §3.3.2)."""
    if type(value) is int and -24 <= value < 24:  # noqa: PLR2004 - what one byte encodes
        return cbor.encode(value)
    if not isinstance(value, bytes) or value in _ONE_BYTE:
        raise malformed(f"{name} is not in its one representation")
    return value


def _encode_id_cred(id_cred: dict[Any, Any]) -> bytes:
    if id_cred.keys() == {KID}:
        return encode_identifier(id_cred[KID])
    return cbor.encode(id_cred)


def _parse_plaintext(items: list[cbor.Value], mac_bytes: int) -> Plaintext:
    if len(items) < 2:  # noqa: PLR2004 - ID_CRED, MAC
        raise malformed("the plaintext has too few items")
    named, mac = items[:2]
    if isinstance(named, dict):
        if named.keys() == {KID}:
            raise malformed("ID_CRED is a map although it is a kid alone")  # RFC 9528 §3.5.3.2
        id_cred = _id_cred(named)
    else:
        id_cred = {KID: _identifier(named, "ID_CRED")}
    if not isinstance(mac, bytes):
        raise malformed("the MAC is no byte string")
    if len(mac) != mac_bytes:
        raise malformed("the MAC has another length")
    return Plaintext(id_cred, mac, _parse_ead(items[2:]))


def _id_cred(value: cbor.Value) -> dict[Any, Any]:
    """A COSE header map that names a credential (RFC 9528 §3.5.3)."""
    if not isinstance(value, dict) or not value:
        raise malformed("ID_CRED is no map or empty")
    if any(isinstance(label, bytes) for label in value):
        raise malformed("ID_CRED has a label that is a byte string")
    if not isinstance(value.get(KID, b""), bytes):
        raise malformed("kid is no byte string")
    return value


def _parse_ead(items: list[cbor.Value]) -> tuple[Ead, ...]:
    """RFC 9528 §3.8; we know no item, so a critical one ends the exchange."""
    parsed: list[Ead] = []
    for item in items:
        if type(item) is int:
            parsed.append(Ead(item))
        elif isinstance(item, bytes) and parsed and parsed[-1].value is None:
            parsed[-1] = Ead(parsed[-1].label, item)
        else:
            raise malformed("EAD is not a sequence of labels and values")
    if any(item.label < 0 for item in parsed):
        raise _unsupported("a critical EAD item")
    return tuple(parsed)
